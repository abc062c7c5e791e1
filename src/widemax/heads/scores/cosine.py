"""The cosine of the angle between hidden vector and class weight."""

from widemax.heads.scores.base import Score, scores


@scores.register("cosine")
class Cosine(Score):
    """h · w / (‖h‖ ‖w‖), in [−1, 1]; choose a temperature such as 0.05, which is a scale of 20.

    Use: where vectors are compared by cosine later (retrieval, nearest neighbors), or rare classes should not
    lose by short weights. At temperature 1 no class can become sure, so set one. For plain classification
    "dot" has nothing to tune; for classes that training never saw add a margin with "cosface".

    Example:
        >>> import torch
        >>> score, hidden, weight = Cosine(), torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0]])
        >>> score.scaled(hidden) @ score.scaled(weight).T
        tensor([[0.6000]])

    Source: Wang et al. 2017, "NormFace: L2 Hypersphere Embedding for Face Verification", equation 4.
    """

    is_cosine = True

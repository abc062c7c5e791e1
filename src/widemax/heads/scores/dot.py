"""The dot product."""

from widemax.heads.scores.base import Score, scores


@scores.register("dot")
class Dot(Score):
    """h · w: the logits of softmax regression.

    Use: the first choice for fixed classes: logits of any size, with nothing to tune. Where vectors are
    compared by cosine later take "cosine".

    Example:
        >>> import torch
        >>> score, hidden, weight = Dot(), torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0]])
        >>> score.scaled(hidden) @ score.scaled(weight).T
        tensor([[6.]])

    Source: Bridle 1990, "Probabilistic Interpretation of Feedforward Classification Network Outputs".
    """

    is_cosine = False

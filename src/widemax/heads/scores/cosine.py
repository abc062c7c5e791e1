"""The cosine of the angle between hidden vector and class weight."""

from widemax.heads.scores.base import Score, scores


@scores.register("cosine")
class Cosine(Score):
    """h · w / (‖h‖ ‖w‖), in [−1, 1]; choose a temperature such as 0.05, which is a scale of 20.

    Source: Wang et al. 2017, "NormFace: L2 Hypersphere Embedding for Face Verification", equation 4.
    """

    is_cosine = True

"""The dot product."""

from widemax.heads.scores.base import Score, scores


@scores.register("dot")
class Dot(Score):
    """h · w: the logits of softmax regression."""

    is_cosine = False

"""What a score is, and the registry of scores. Shapes: B rows, D hidden, N classes, P labels."""

from typing import ClassVar

import torch
from torch import Tensor

from widemax.errors import OptionError
from widemax.registry import Described, Registry, Spec


class Score(Described):
    """How a hidden vector is compared with a class weight, before the temperature divides.

    A member says whether vectors are scaled to unit length first, so that scores are cosines, and in training
    what a row's own label scores.

    Attributes:
        is_cosine: whether hidden vectors and class weights are scaled to unit length.
        has_margin: whether training lowers the scores of labels.
    """

    is_cosine: ClassVar[bool]
    has_margin: ClassVar[bool] = False

    def __init__(self) -> None:
        """Most members have no options."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.described_options())})"

    def scaled(self, vectors: Tensor) -> Tensor:
        """Hidden vectors or class weights [N, D] as they are multiplied."""
        return torch.nn.functional.normalize(vectors, dim=1) if self.is_cosine else vectors

    def of_labels(self, scores_P: Tensor, hidden_norms_B: Tensor, rows_P: Tensor) -> Tensor:
        """The training scores of labels.

        Args:
            scores_P: [P] scores of labels.
            hidden_norms_B: [B] lengths of the batch's hidden vectors before any scaling.
            rows_P: [P] the row of each label.
        """
        return scores_P


scores: Registry[type[Score]] = Registry("score", "widemax.heads.scores")


def build_score(spec: Spec | type[Score] | Score) -> Score:
    """A score from its name, its class, or a table of its kind and options; a score is itself.

    Example:
        >>> build_score("cosine").is_cosine
        True
    """
    score = scores.build(spec)
    if not isinstance(score, Score):
        raise OptionError(f"a score must be a Score, its class, its name or a table; got {spec!r}.")
    return score

"""Cosines with a margin on the cosine. Shapes: P labels."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from widemax.heads.scores.base import scores
from widemax.heads.scores.cosine import Cosine
from widemax.losses import cosface_margin


@scores.register("cosface")
class CosFace(Cosine):
    """Cosines; in training a row's own label scores cos θ − m (:func:`~widemax.losses.cosface_margin`).

    Choose a temperature such as 1/64, the scale 64 of the paper.

    Use: for open sets (faces, products), where vectors of classes that training never saw are compared by
    cosine. Answers are given without the margin, so probabilities over the training classes come out too
    sure: for those take "cosine" or "dot".

    Args:
        margin: m.

    Example:
        >>> import torch
        >>> CosFace(margin=0.25).of_labels(torch.tensor([0.5]), torch.tensor([20.0]), torch.tensor([0]))
        tensor([0.2500])

    Source: Wang et al. 2018, "CosFace: Large Margin Cosine Loss for Deep Face Recognition", equation 4.
    """

    has_margin = True

    def __init__(self, *, margin: Annotated[float, Field(ge=0.0)] = 0.35) -> None:
        self.margin = margin

    def of_labels(self, scores_P: Tensor, hidden_norms_B: Tensor, rows_P: Tensor) -> Tensor:
        return cosface_margin(scores_P, margin=self.margin)

"""Cosines with a margin that follows the length of the hidden vector. Shapes: P labels."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from widemax.heads.scores.base import scores
from widemax.heads.scores.cosine import Cosine
from widemax.losses import adaface_margin, adaface_quality


@scores.register("adaface")
class AdaFace(Cosine):
    """Cosines; in training a row's own label gets the margin of :func:`~widemax.losses.adaface_margin`.

    f(cos θ) = cos(θ − m q) − (m q + m), where q ∈ [−1, 1] is higher for longer hidden vectors.

    The lengths of hidden vectors are compared with those of the same batch, so batches should not be small.

    Use: for open sets whose inputs are of mixed quality, such as blurred faces, which should not be pressed.
    With small batches or even quality take "arcface" or "cosface"; for probabilities over the training
    classes "cosine" or "dot".

    Args:
        margin: m.
        spread: how far the quality moves for a length one standard deviation from the mean.

    Example:
        >>> import torch
        >>> norms, rows = torch.tensor([20.0, 22.0, 24.0]), torch.arange(3)
        >>> AdaFace().of_labels(torch.tensor([0.5, 0.5, 0.5]), norms, rows)
        tensor([0.1138, 0.1000, 0.0774])

    Source: Kim et al. 2022, "AdaFace: Quality Adaptive Margin for Face Recognition", equations 13 to 15.
    """

    has_margin = True

    def __init__(
        self,
        *,
        margin: Annotated[float, Field(ge=0.0)] = 0.4,
        spread: Annotated[float, Field(gt=0.0)] = 0.333,
    ) -> None:
        self.margin = margin
        self.spread = spread

    def of_labels(self, scores_P: Tensor, hidden_norms_B: Tensor, rows_P: Tensor) -> Tensor:
        quality_B = adaface_quality(hidden_norms_B, spread=self.spread)
        return adaface_margin(scores_P, quality_B[rows_P], margin=self.margin)

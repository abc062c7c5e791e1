"""Cosines with a margin on the angle. Shapes: P labels."""

import math
from typing import Annotated

from pydantic import Field
from torch import Tensor

from widemax.heads.scores.base import scores
from widemax.heads.scores.cosine import Cosine
from widemax.losses import arcface_margin


@scores.register("arcface")
class ArcFace(Cosine):
    """Cosines; in training a row's own label scores cos(θ + m) (:func:`~widemax.losses.arcface_margin`).

    Choose a temperature such as 1/64, the scale 64 of the paper.

    Use: for open sets, as "cosface"; the margin is the same angle everywhere, where that of "cosface" asks
    for most near the class weight. For probabilities over the training classes take "cosine" or "dot".

    Args:
        margin_radians: m.

    Example:
        >>> import torch
        >>> norms, rows = torch.tensor([20.0]), torch.tensor([0])
        >>> ArcFace(margin_radians=math.pi / 3).of_labels(torch.tensor([0.5]), norms, rows)
        tensor([-0.5000])

    Source: Deng et al. 2019, "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", equation 3.
    """

    has_margin = True

    def __init__(self, *, margin_radians: Annotated[float, Field(ge=0.0, lt=math.pi)] = 0.5) -> None:
        self.margin_radians = margin_radians

    def of_labels(self, scores_P: Tensor, hidden_norms_B: Tensor, rows_P: Tensor) -> Tensor:
        return arcface_margin(scores_P, margin_radians=self.margin_radians)

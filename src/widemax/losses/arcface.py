"""Softmax of cosines with an additive angular margin. Shapes: B rows, C classes."""

import math
from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from widemax.losses.base import losses
from widemax.losses.cosine_softmax import margin_cross_entropy, sine
from widemax.options import checked

Angle = Annotated[float, Field(ge=0.0, lt=math.pi)]


@checked
def arcface_margin(cosine: Tensor, *, margin_radians: Angle) -> Tensor:
    """The label's cosine once its angle has grown by a constant.

    f(cos θ) = cos(θ + m) = cos θ cos m − sin θ sin m      where θ + m ≤ π,
    f(cos θ) = cos θ − (1 − cos m)                          where θ + m > π.

    Beyond π the cosine would rise again and reward a label for being further away. The second line continues
    it instead: without a jump (both are −1 at θ + m = π), ever smaller, and with slope 1.

    Args:
        cosine: cosines of labels, any shape.
        margin_radians: m.

    Returns:
        Smaller cosines, same shape. The gradient is that of the formula, not a straight-through estimate, and
        is finite also at cosines of ±1.

    Example:
        >>> arcface_margin(torch.tensor([0.0, -1.0]), margin_radians=torch.pi / 2)
        tensor([-1., -2.])
    """
    cos_m, sin_m = math.cos(margin_radians), math.sin(margin_radians)
    return torch.where(cosine >= -cos_m, cosine * cos_m - sine(cosine) * sin_m, cosine - (1 - cos_m))


@losses.register("arcface", takes="labels", answers="softmax", of="cosines")
def arcface(
    cosines: Tensor,
    labels: Tensor,
    *,
    scale: Annotated[float, Field(gt=0.0)] = 64.0,
    margin_radians: Angle = 0.5,
    ignore_index: int = -100,
) -> Tensor:
    """Softmax cross-entropy that is satisfied only when the right angle is smaller by a margin.

    ℓ_b = −log( exp(scale · cos(θ_by + m)) / (exp(scale · cos(θ_by + m)) + Σ_{j≠y} exp(scale · cos θ_bj)) ),
    where :func:`arcface_margin` says how the cosine goes on for θ + m > π.

    Use: for vectors that are compared by cosine later, with classes that training never saw: faces, products.
    Inside a head set the score "arcface" instead, which computes the cosines. For probabilities over fixed
    classes take ``cross_entropy``.

    Args:
        scale: factor of the cosines.
        margin_radians: m.

    Example:
        >>> arcface(torch.tensor([[1.0, torch.tensor(0.5).cos()]]), torch.tensor([0]))  # a lead of the margin
        tensor([0.6931])

    Source: Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition" (CVPR 2019),
    equation 3. Its published code goes on as cos θ − m sin m beyond π, which falls too, but with a jump.
    """
    return margin_cross_entropy(
        cosines,
        labels,
        partial(arcface_margin, margin_radians=margin_radians),
        scale=scale,
        ignore_index=ignore_index,
    )

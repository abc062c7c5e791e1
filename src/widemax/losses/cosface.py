"""Softmax of cosines with an additive margin. Shapes: B rows, C classes."""

from functools import partial
from typing import Annotated

from pydantic import Field
from torch import Tensor

from widemax.losses.base import losses
from widemax.losses.cosine_softmax import margin_cross_entropy
from widemax.options import checked

Margin = Annotated[float, Field(ge=0.0)]


@checked
def cosface_margin(cosine: Tensor, *, margin: Margin) -> Tensor:
    """The label's cosine made smaller by a constant.

    f(cos θ) = cos θ − m.

    Args:
        cosine: cosines of labels, any shape.
        margin: m.

    Returns:
        Smaller cosines, same shape.

    Example:
        >>> import torch
        >>> cosface_margin(torch.tensor([0.5]), margin=0.25)
        tensor([0.2500])
    """
    return cosine - margin


@losses.register("cosface", takes="labels", answers="softmax", of="cosines")
def cosface(
    cosines: Tensor,
    labels: Tensor,
    *,
    scale: Annotated[float, Field(gt=0.0)] = 64.0,
    margin: Margin = 0.35,
    ignore_index: int = -100,
) -> Tensor:
    """Softmax cross-entropy that is satisfied only when the right cosine leads by a margin.

    ℓ_b = −log( exp(scale (cos_by − m)) / (exp(scale (cos_by − m)) + Σ_{j≠y} exp(scale cos_bj)) ).

    Use: for vectors that are compared by cosine later, as with ``arcface``, but by a plain margin on the
    cosine. Inside a head set the score "cosface" instead, which computes the cosines. For probabilities over
    fixed classes take ``cross_entropy``.

    Args:
        scale: factor of the cosines.
        margin: m, in units of the cosine.

    Example:
        >>> import torch
        >>> cosface(torch.tensor([[0.8, 0.45]]), torch.tensor([0]))  # a lead of just the margin: log 2
        tensor([0.6931])

    Source: Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition" (CVPR 2018), equation
    4.
    """
    return margin_cross_entropy(
        cosines, labels, partial(cosface_margin, margin=margin), scale=scale, ignore_index=ignore_index
    )

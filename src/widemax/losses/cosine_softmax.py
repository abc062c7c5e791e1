"""Softmax cross-entropy of cosines, with or without a margin at the label. Shapes: B rows, C classes."""

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from widemax.losses.base import losses, prepare_ids
from widemax.numerics import log_softmax


@losses.register("cosine_softmax", takes="labels", answers="softmax", of="cosines")
def cosine_softmax(
    cosines: Tensor,
    labels: Tensor,
    *,
    scale: Annotated[float, Field(gt=0.0)] = 64.0,
    ignore_index: int = -100,
) -> Tensor:
    """Cross-entropy of cosine similarities, stretched so that a softmax of them can become sure.

    ℓ_b = −log softmax(scale · cos_b)_y.

    Use: for vectors that are compared by cosine later; ``cosface`` and ``arcface`` add a margin. Inside a
    head set the score "cosine" and a temperature instead. Where the lengths of vectors mean something take
    ``cross_entropy`` of dot products.

    Args:
        scale: factor of the cosines, one over a temperature.

    Example:
        >>> cosine_softmax(torch.tensor([[0.9, 0.8]]), torch.tensor([0]), scale=10.0)
        tensor([0.3133])

    Source: Wang et al., "NormFace: L2 Hypersphere Embedding for Face Verification" (2017).
    """
    return margin_cross_entropy(cosines, labels, torch.positive, scale=scale, ignore_index=ignore_index)


def margin_cross_entropy(
    cosines: Tensor,
    labels: Tensor,
    label_margin: Callable[[Tensor], Tensor],
    *,
    scale: float,
    ignore_index: int,
) -> Tensor:
    """Cross-entropy of scaled cosines once a margin has made the label's own cosine smaller.

    ℓ_b = −log( exp(scale · f(cos_by)) / (exp(scale · f(cos_by)) + Σ_{j≠y} exp(scale · cos_bj)) ).

    Example:
        >>> cosines, labels = torch.tensor([[0.5, -0.5]]), torch.tensor([0])
        >>> margin_cross_entropy(cosines, labels, torch.neg, scale=1.0, ignore_index=-100)  # log 2
        tensor([0.6931])
    """
    cosines_BC, labels_B, ignored_B = prepare_ids(cosines, labels, ignore_index=ignore_index)
    labels_B1 = labels_B[:, None]
    before_B1 = cosines_BC.gather(1, labels_B1)
    after_B1 = label_margin(before_B1.squeeze(1))[:, None].masked_fill(before_B1 == -torch.inf, -torch.inf)
    log_probs_BC: Tensor = log_softmax(scale * cosines_BC.scatter(1, labels_B1, after_B1))
    return -log_probs_BC.gather(1, labels_B1).squeeze(1).masked_fill(ignored_B, 0.0)


def sine(cosine: Tensor) -> Tensor:
    """Sine of the angle, in [0, π], that has this cosine.

    Cosines that rounding left outside [−1, 1] have sine 0.

    sin θ = √((1 − cos θ)(1 + cos θ)). Its slope is infinite at θ = 0 and θ = π, where a gradient of 0 stands
    for it: there the cosine itself has no gradient with respect to the vectors.

    Example:
        >>> sine(torch.tensor([0.6, 1.0]))
        tensor([0.8000, 0.0000])
    """
    square = (1 - cosine) * (1 + cosine)
    is_angle = square > 0
    return square.masked_fill(~is_angle, 1.0).sqrt().masked_fill(~is_angle, 0.0)

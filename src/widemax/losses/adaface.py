"""Softmax of cosines with a margin that follows the norm of the hidden vector. Shapes: B rows, C classes."""

from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from widemax.errors import ShapeError
from widemax.losses.base import losses
from widemax.losses.cosface import Margin
from widemax.losses.cosine_softmax import margin_cross_entropy, sine
from widemax.numerics.arrays import widened_tensor
from widemax.options import checked

Spread = Annotated[float, Field(gt=0.0)]


@checked
def adaface_margin(cosine: Tensor, quality: Tensor, *, margin: Margin) -> Tensor:
    """The label's cosine made smaller by angle for poor inputs and by a constant for good ones.

    f(cos θ) = cos(θ − m q) − (m q + m), the angle θ − m q cut to [0, π]. It is ArcFace at q = −1, CosFace at
    q = 0, and for q = 1 asks most of the labels that are already near.

    Args:
        cosine: cosines of labels, any shape.
        quality: q in [−1, 1], same shape.
        margin: m.

    Returns:
        Changed cosines, same shape. Where the angle is cut the gradient is 0.

    Example:
        >>> adaface_margin(torch.tensor([0.5, 0.5]), torch.tensor([0.0, 1.0]), margin=0.25)
        tensor([0.2500, 0.1987])
    """
    if quality.shape != cosine.shape:
        raise ShapeError(f"quality must have the shape {tuple(cosine.shape)}; got {tuple(quality.shape)}.")
    turn = margin * quality.to(cosine.dtype)
    turned = cosine * turn.cos() + sine(cosine) * turn.sin()
    turned = torch.where((turn > 0) & (cosine > turn.cos()), 1.0, turned)
    turned = torch.where((turn < 0) & (cosine < -turn.cos()), -1.0, turned)
    return turned - (turn + margin)


@checked
def adaface_quality(
    norms: Tensor,
    *,
    spread: Spread,
    norm_mean: Tensor | float | None = None,
    norm_std: Tensor | float | None = None,
) -> Tensor:
    """Where the norm of each hidden vector stands among the others, as a stand-in for image quality.

    q_b = clip(spread · (‖h_b‖ − μ) / (σ + 0.001), −1, 1), norms first cut to [0.001, 100].

    Args:
        norms: [B] Euclidean norms of the hidden vectors.
        spread: 1/3 puts two thirds of normally distributed norms within ±1/3.
        norm_mean: μ, by default of this batch, ignored rows included; a running mean is steadier.
        norm_std: σ, by default of this batch.

    Returns:
        [B] qualities in [−1, 1], without gradient.

    Example:
        >>> adaface_quality(torch.tensor([20.0, 22.0, 24.0]), spread=1.0)
        tensor([-0.9995,  0.0000,  0.9995])
    """
    norms_B = widened_tensor(norms.detach()).clamp(0.001, 100.0)
    mean = norms_B.sum() / max(len(norms_B), 1) if norm_mean is None else norm_mean
    std = (
        (norms_B - mean).square().sum().div(max(len(norms_B) - 1, 1)).sqrt() if norm_std is None else norm_std
    )
    return (spread * (norms_B - mean) / (std + 0.001)).clamp(-1.0, 1.0)


@losses.register("adaface", takes="labels", answers="softmax", of="cosines")
def adaface(
    cosines: Tensor,
    labels: Tensor,
    *,
    norms: Tensor,
    scale: Annotated[float, Field(gt=0.0)] = 64.0,
    margin: Margin = 0.4,
    spread: Spread = 0.333,
    norm_mean: Tensor | float | None = None,
    norm_std: Tensor | float | None = None,
    ignore_index: int = -100,
) -> Tensor:
    """Softmax cross-entropy with a margin that presses on hard rows only where the input is good enough.

    ℓ_b = −log( exp(scale · f(cos_by)) / (exp(scale · f(cos_by)) + Σ_{j≠y} exp(scale · cos_bj)) ) with the
    margin f of :func:`adaface_margin` at the row's quality, :func:`adaface_quality`.

    Use: for vectors that are compared by cosine later (faces, products) and come from inputs of mixed
    quality. Inside a head set the score "adaface" instead, which computes the cosines. With inputs of even
    quality ``arcface`` has less to tune; for probabilities over fixed classes take ``cross_entropy``.

    Args:
        norms: [B] Euclidean norms of the hidden vectors, before they were normalized; no gradient flows back.
        scale: factor of the cosines.
        margin: m.
        spread: how far the quality moves for a norm one standard deviation from the mean.
        norm_mean: mean of the norms, by default of this batch.
        norm_std: standard deviation of the norms, by default of this batch.

    Raises:
        ShapeError: labels that are not one class id a row, or norms that are not one a row.

    Example:
        >>> adaface(torch.tensor([[0.8, 0.4]]), torch.tensor([0]), norms=torch.tensor([20.0]))
        tensor([0.6931])

    Source: Kim et al., "AdaFace: Quality Adaptive Margin for Face Recognition" (CVPR 2022), §3.3. The paper
    takes exponential moving averages of the statistics; here the caller keeps them.
    """
    if norms.shape != cosines.shape[:1]:
        raise ShapeError(f"norms must have the shape ({len(cosines)},); got {tuple(norms.shape)}.")
    quality_B = adaface_quality(norms, spread=spread, norm_mean=norm_mean, norm_std=norm_std)
    return margin_cross_entropy(
        cosines,
        labels,
        partial(adaface_margin, quality=quality_B, margin=margin),
        scale=scale,
        ignore_index=ignore_index,
    )

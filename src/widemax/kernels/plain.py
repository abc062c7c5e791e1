"""The losses of a wide linear layer as the formulas read, with the [B, C] matrix in memory.

Shapes: B rows, C classes, D hidden, P targets.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from widemax.numerics import log_softmax, logsumexp, softplus
from widemax.numerics.arrays import widened_tensor


class Inputs(NamedTuple):
    """What a loss is computed from; all forms take these.

    Attributes:
        hidden_BD: hidden vectors.
        weight_CD: class weights.
        bias_C: class biases, or None.
        rows_P: int64 row of each target, ascending.
        ids_P: int64 class of each target, distinct within a row.
        target_weights_P: mass of each target, without gradient.
        shifts_P: what is added to the logits of targets, or None.
    """

    hidden_BD: Tensor
    weight_CD: Tensor
    bias_C: Tensor | None
    rows_P: Tensor
    ids_P: Tensor
    target_weights_P: Tensor
    shifts_P: Tensor | None


class Options(NamedTuple):
    """Which loss it is; all forms take these.

    Attributes:
        is_softmax: whether classes compete, or answer a yes-or-no question each.
        temperature: divides the logits.
        smoothing: the part of the target spread evenly over all classes; 0 without a softmax.
        z_loss: the weight of (log Z)²; 0 without a softmax.
    """

    is_softmax: bool
    temperature: float
    smoothing: float
    z_loss: float


def plain_loss(inputs: Inputs, options: Options) -> Tensor:
    """[B] losses in nats, in float32 at least; the formulas are those of ``linear_cross_entropy``."""
    hidden_BD, weight_CD, bias_C, rows_P, ids_P, target_weights_P, shifts_P = inputs
    logits_BC = torch.nn.functional.linear(hidden_BD, weight_CD, bias_C) / options.temperature
    logits_BC = widened_tensor(logits_BC)
    weights_P = target_weights_P.to(logits_BC.dtype)
    if shifts_P is not None:
        logits_BC = logits_BC.index_put((rows_P, ids_P), shifts_P.to(logits_BC.dtype), accumulate=True)
    if not options.is_softmax:
        terms_P = weights_P * logits_BC[rows_P, ids_P]
        return softplus(logits_BC).sum(1).index_add(0, rows_P, -terms_P)
    log_probs_BC: Tensor = log_softmax(logits_BC)
    terms_P = (options.smoothing - 1) * weights_P * log_probs_BC[rows_P, ids_P]
    loss_B = log_probs_BC.new_zeros(len(hidden_BD)).index_add(0, rows_P, terms_P)
    if options.smoothing:
        mass_B = torch.zeros_like(loss_B).index_add_(0, rows_P, weights_P)
        loss_B = loss_B - options.smoothing * mass_B * log_probs_BC.mean(1)
    if options.z_loss:
        loss_B = loss_B + options.z_loss * logsumexp(logits_BC, axis=1).square()
    return loss_B


def plain_gradients(
    inputs: Inputs, options: Options, needed: Sequence[bool], grad_B: Tensor
) -> list[Tensor | None]:
    """A gradient of each input that needs one, which has a gradient itself, for the forms that stream."""
    loss_B = plain_loss(inputs, options)
    asked = [
        tensor for tensor, is_needed in zip(inputs, needed, strict=True) if is_needed and tensor is not None
    ]
    found = iter(torch.autograd.grad(loss_B, asked, grad_B.to(loss_B.dtype), create_graph=True))
    return [next(found) if is_needed else None for is_needed in needed]

"""The losses of a wide linear layer as the formulas read, with the [B, C] matrix in memory.

Shapes: B rows, C classes, D hidden, P targets.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from widemax.kernels.exponentials import softplus
from widemax.kernels.pairs import Pairs
from widemax.numerics import log_softmax
from widemax.numerics.arrays import widened_tensor


def plain_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Pairs,
    target_weights: Tensor,
    *,
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Softmax cross-entropy of a linear layer with sparse targets, one number a row.

    ℓ_b = −Σ_j t_bj log softmax(s_b)_j with s = (h Wᵀ + bias) / temperature. Smoothing replaces a row's target
    t by (1 − ε) t + ε/C · Σ_j t_j. A row without targets has loss 0.

    Args:
        hidden: [B, D] hidden vectors.
        weight: [C, D] class weights.
        bias: [C] class biases, or None.
        targets: P distinct (row, class) pairs with target mass.
        target_weights: [P] mass of each pair.
        temperature: divides the logits.
        label_smoothing: ε, the part of the target spread evenly over all classes.

    Returns:
        [B] losses in nats, in float32 at least.
    """
    log_probs_BC = log_softmax(_logits(hidden, weight, bias, temperature))
    weights_P = target_weights.to(log_probs_BC.dtype)
    terms_P = -(1 - label_smoothing) * weights_P * log_probs_BC[targets.rows_P, targets.ids_P]
    loss_B = log_probs_BC.new_zeros(len(hidden)).index_add(0, targets.rows_P, terms_P)
    if label_smoothing:
        mass_B = torch.zeros_like(loss_B).index_add_(0, targets.rows_P, weights_P)
        loss_B = loss_B - label_smoothing * mass_B * log_probs_BC.mean(1)
    return loss_B


def plain_binary_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Pairs,
    target_weights: Tensor,
    *,
    temperature: float = 1.0,
) -> Tensor:
    """Sigmoid cross-entropy of a linear layer with sparse targets, summed over classes.

    ℓ_b = Σ_j softplus(s_bj) − Σ_j t_bj s_bj with s = (h Wᵀ + bias) / temperature.

    Args:
        hidden: [B, D] hidden vectors.
        weight: [C, D] class weights.
        bias: [C] class biases, or None.
        targets: P distinct (row, class) pairs that are positive.
        target_weights: [P] how positive each pair is, 1 as a rule.
        temperature: divides the logits.

    Returns:
        [B] losses in nats, in float32 at least.
    """
    logits_BC = _logits(hidden, weight, bias, temperature)
    terms_P = target_weights.to(logits_BC.dtype) * logits_BC[targets.rows_P, targets.ids_P]
    return softplus(logits_BC).sum(1).index_add(0, targets.rows_P, -terms_P)


def plain_gradients(
    inputs: Sequence[Tensor],
    options: tuple[float, float, bool],
    needed: Sequence[bool],
    grad: Tensor,
) -> tuple[Tensor | None, ...]:
    """Gradients that have gradients themselves, for the backward pass of the kernels that stream.

    Args:
        inputs: hidden, weight, bias, rows and classes of the targets, target weights.
        options: temperature, label smoothing, and whether it is a softmax.
        needed: whether hidden, weight and bias need a gradient.
        grad: [B] gradient of the losses.

    Returns:
        The gradients of hidden, weight and bias, None where not needed.
    """
    hidden, weight, bias, rows_P, ids_P, target_weights = inputs
    temperature, smoothing, softmax = options
    arguments = hidden, weight, bias, Pairs(rows_P, ids_P), target_weights
    if softmax:
        loss_B = plain_cross_entropy(*arguments, temperature=temperature, label_smoothing=smoothing)
    else:
        loss_B = plain_binary_cross_entropy(*arguments, temperature=temperature)
    asked = [tensor for tensor, is_needed in zip(inputs[:3], needed, strict=True) if is_needed]
    found = iter(torch.autograd.grad(loss_B, asked, grad.to(loss_B.dtype), create_graph=True))
    return tuple(next(found) if is_needed else None for is_needed in needed)


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
    return widened_tensor(torch.nn.functional.linear(hidden, weight, bias) / temperature)

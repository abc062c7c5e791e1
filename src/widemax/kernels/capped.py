"""The softmax loss of one label a row with what language models add: capped logits, log Z kept near 0.

Shapes: B rows, C classes, D hidden.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from widemax.errors import UsageError
from widemax.losses.base import Reduction, check_labels, reduce_loss, row_weights
from widemax.numerics.arrays import widened_tensor
from widemax.numerics.autocast import autocast_dtype


class CapOptions(NamedTuple):
    """What the loss is, as in :func:`widemax.kernels.linear_cross_entropy`.

    Attributes:
        scale: what logits are multiplied by, 1 / temperature.
        softcap: logits s become softcap · tanh(s / softcap); 0 for none.
        smoothing: the part of the target spread evenly over all classes.
        z_loss: the weight of (log Z)².
    """

    scale: float
    softcap: float
    smoothing: float
    z_loss: float


def capped_loss(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    class_ids: Tensor,
    options: CapOptions,
    *,
    ignore_index: int | None,
    sample_weight: Tensor | None,
    reduction: Reduction,
    by_triton: bool,
) -> tuple[Tensor, Tensor]:
    """The loss, and [B] log Z without a gradient.

    Raises:
        LabelError: a class id outside [0, C) that is not to be ignored.
        UsageError: Triton is asked for without a reduction, or where it cannot be used.
    """
    check_labels(class_ids, len(weight), ignore_index=ignore_index)
    if ignore_index is not None:
        is_kept_B = (class_ids != ignore_index).to(torch.float32)
        sample_weight = is_kept_B if sample_weight is None else sample_weight * is_kept_B
        class_ids = class_ids.where(class_ids != ignore_index, 0)
    if not by_triton:
        loss_B, log_partition_B = row_losses(hidden, weight, bias, class_ids, options)
        loss = reduce_loss(loss_B, sample_weight=sample_weight, reduction=reduction)
        return loss, log_partition_B.detach()
    if reduction == "none":
        raise UsageError(
            "impl 'triton' needs reduction 'mean' or 'sum'; got 'none'. Take impl 'plain' for that."
        )
    from widemax.kernels.triton_loss import triton_loss  # loads Triton

    weights_B = row_weights(hidden, sample_weight=sample_weight, reduction=reduction)
    layer = hidden.to(autocast_dtype(hidden)), weight.to(autocast_dtype(weight))
    return triton_loss(*layer, bias, class_ids, weights_B, options)


def row_losses(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, class_ids: Tensor, options: CapOptions
) -> tuple[Tensor, Tensor]:
    """[B] losses and [B] log Z as the formulas read, with the [B, C] logits in memory."""
    logits_BC = widened_tensor(torch.nn.functional.linear(hidden, weight, bias)) * options.scale
    if options.softcap:
        logits_BC = options.softcap * torch.tanh(logits_BC / options.softcap)
    log_partition_B = logits_BC.logsumexp(1)
    target_B = (1 - options.smoothing) * logits_BC.gather(1, class_ids[:, None]).squeeze(1)
    if options.smoothing:
        target_B = target_B + options.smoothing * logits_BC.mean(1)
    return log_partition_B - target_B + options.z_loss * log_partition_B.square(), log_partition_B

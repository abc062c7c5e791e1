"""The registry of losses and what all of them share. Shapes: B rows, P labels."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from widemax.errors import LabelError, UsageError
from widemax.registry import Registry

Reduction = Literal["mean", "sum", "none"]

losses: Registry[Callable[..., Tensor]] = Registry("loss", "widemax.losses")


def reduce_loss(
    loss_B: Tensor, *, sample_weight: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    """One number for a batch of losses.

    mean = Σ_b w_b ℓ_b / Σ_b w_b; sum = Σ_b w_b ℓ_b; none = w_b ℓ_b.

    Args:
        loss_B: one loss a row, in nats.
        sample_weight: [B] weight of each row, 1 by default; 0 leaves an ignored row out of a mean.
        reduction: "mean", "sum" or "none".

    Returns:
        A scalar, or [B] for "none". A mean over no weight at all (an empty batch) is 0, with zero gradient.

    Raises:
        UsageError: an unknown reduction.

    Example:
        >>> reduce_loss(torch.tensor([1.0, 4.0]), sample_weight=torch.tensor([3.0, 1.0]))
        tensor(1.7500)
    """
    if reduction not in ("mean", "sum", "none"):
        raise UsageError(f"reduction must be 'mean', 'sum' or 'none'; got {reduction!r}.")
    weighted_B = loss_B if sample_weight is None else loss_B * sample_weight.to(loss_B.dtype)
    if reduction == "none":
        return weighted_B
    if reduction == "sum":
        return weighted_B.sum()
    if sample_weight is None:
        return weighted_B.sum() / max(len(loss_B), 1)
    total = sample_weight.sum().to(loss_B.dtype)
    return weighted_B.sum() / torch.where(total == 0, 1, total)


def check_labels(
    class_ids: Tensor, num_classes: int, *, rows: Tensor | None = None, ignore_index: int | None = None
) -> None:
    """Refuse a class id outside the classes.

    Args:
        class_ids: [P] class ids.
        num_classes: ids must lie in [0, num_classes).
        rows: [P] the row of each id, for the message; by default id p belongs to row p.
        ignore_index: an id that is allowed all the same.

    Raises:
        LabelError: names the first bad row and its value.

    Example:
        >>> check_labels(torch.tensor([3, 99]), 10)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        widemax.errors.LabelError: labels must lie in [0, 10); got 99 at row 1. Raise ...
    """
    bad_P = (class_ids < 0) | (class_ids >= num_classes)
    if ignore_index is not None:
        bad_P &= class_ids != ignore_index
    if not bad_P.any():
        return
    first = int(bad_P.nonzero()[0])
    value = int(class_ids[first])
    row = first if rows is None else int(rows[first])
    skip = "skip such rows" if ignore_index is None else f"pass ignore_index={value} to skip such rows"
    raise LabelError(
        f"labels must lie in [0, {num_classes}); got {value} at row {row}. Raise num_classes or {skip}."
    )

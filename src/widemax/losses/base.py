"""The registry of losses and what all of them share. Shapes: B rows, C classes, P labels.

A loss is a pure function ``name(logits, labels, *, options)`` that gives one loss a row [B] in nats, computed
in float32 at least. It declares what it is where it is registered,
``@losses.register("focal", takes="labels", answers="softmax")``, or, without a name, ``@losses.declare``:
see :class:`LossTraits`.

A logit of −inf masks its class: the class has no probability and no gradient; if it is the right class, the
loss is inf. Keyword-only parameters are the options of the registry, so their annotations carry the ranges.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from widemax.errors import LabelError, OptionError, ShapeError, UsageError
from widemax.numerics.arrays import is_traced, widened_tensor
from widemax.numerics.ids import are_class_ids, check_device
from widemax.options import checked
from widemax.registry import NAMES, Registry

Reduction = Literal["mean", "sum", "none"]

_ARGUMENTS = {
    "logits": "[B, C] logits.",
    "cosines": "[B, C] cosines between the hidden vectors and the class weights, in [−1, 1].",
    "labels": "[B] class ids.",
    "targets": "[B, C] 0 or 1, or anything between.",
    "ignore_index": "rows with this class id have loss 0.",
}
_RAISES = {
    "labels": "LabelError: a class id outside [0, C), with its row.\n"
    "ShapeError: labels that are not one class id a row.",
    "targets": "LabelError: a target outside [0, 1].\nShapeError: targets of another shape than the logits.",
}
"""What losses say alike, which ``register`` and ``declare`` add to their docstrings."""


@partial(checked, of="losses.register")
class LossTraits:
    """What a loss declares; one that declares nothing takes labels and answers with a softmax.

    Args:
        takes: "labels", one right class a row as class ids [B] (rows whose id is ``ignore_index`` have loss 0
            and gradient 0) or, where the formula allows, as a distribution [B, C]; or "targets", [B, C]
            between 0 and 1, any number of right classes a row.
        answers: what makes logits probabilities in a head with this loss: a "softmax" over all classes, or a
            "sigmoid" a class; by default what suits ``takes``.
        of: whether the first argument is "logits" or "cosines".

    Example:
        >>> losses.traits("binary_cross_entropy").answers
        'sigmoid'
    """

    def __init__(
        self,
        *,
        takes: Literal["labels", "targets"] = "labels",
        answers: Literal["softmax", "sigmoid"] | None = None,
        of: Literal["logits", "cosines"] = "logits",
    ) -> None:
        shared = {name: _ARGUMENTS[name] for name in (of, takes, "ignore_index")}
        self.says = {
            "Args": "\n".join(f"{name}: {meaning}" for name, meaning in shared.items()),
            "Returns": "[B] losses in nats.",
            "Raises": _RAISES[takes],
        }
        self.takes = takes
        self.answers = answers or ("softmax" if takes == "labels" else "sigmoid")
        self.of = of


losses: Registry[Callable[..., Tensor]] = Registry("loss", "widemax.losses", traits=LossTraits)


def loss_name(loss: Any) -> Any:
    """The name of a loss that a function, or a table without options, stands for; anything else as it is.

    Example:
        >>> loss_name({"kind": "cross_entropy"}), loss_name({"kind": "focal", "gamma": 1.0})
        ('cross_entropy', {'kind': 'focal', 'gamma': 1.0})
    """
    member, options = losses.choose(loss)
    return NAMES.get(member, loss) if options == losses.choose(member)[1] else loss


def check_numbers(
    numbers: Tensor, name: str, *, most: float = math.inf, error: type[UsageError | LabelError] = OptionError
) -> None:
    """Refuse numbers below 0, above ``most`` or not finite; looked at on CPU only, as it would stall another.

    Example:
        >>> check_numbers(torch.tensor([1.0, -2.0]), "sample_weight")
        Traceback (most recent call last):
        widemax.errors.OptionError: sample_weight must be finite numbers of at least 0; got -2.0 at place 1.
    """
    if is_traced() or not numbers.is_cpu or not numbers.numel():
        return
    right = torch.tensor(False).expand_as(numbers)
    if not numbers.is_complex():
        low, high = numbers.aminmax()
        if low >= 0 and high <= most and high < math.inf:
            return
        right = (numbers >= 0) & (numbers <= most) & numbers.isfinite()
    place = (~right).nonzero()[0].tolist()
    allowed = "finite numbers of at least 0" if most == math.inf else f"numbers in [0, {most}]"
    raise error(
        f"{name} must be {allowed}; got {numbers[tuple(place)].item()} at place {', '.join(map(str, place))}."
    )


def check_sample_weight(sample_weight: Tensor | None, num_rows: int) -> None:
    """Refuse weights that are not one number a row, which would broadcast against losses in silence."""
    if sample_weight is None:
        return
    if sample_weight.shape != (num_rows,):
        raise ShapeError(
            f"sample_weight must be [{num_rows}], one weight a row; got shape {tuple(sample_weight.shape)}. "
            "Flatten a column of weights with sample_weight.squeeze(1)."
        )
    check_numbers(sample_weight, "sample_weight")


def class_factors(factors: Tensor, logits_BC: Tensor, *, name: str) -> Tensor:
    """[C] factors of the classes, or a single one, in the dtype of the logits.

    Raises:
        OptionError: a factor below 0, or not finite.
        ShapeError: not one factor a class.

    Example:
        >>> class_factors(torch.tensor([1, 2]), torch.zeros(3, 2), name="class_weight")
        tensor([1., 2.])
    """
    if factors.ndim and factors.shape != logits_BC.shape[1:]:
        raise ShapeError(
            f"{name} must be [{logits_BC.shape[1]}], one factor a class; got shape {tuple(factors.shape)}."
        )
    check_device(logits_BC, "logits", **{name: factors})
    check_numbers(factors, name)
    return factors.to(logits_BC.dtype)


@checked
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
        A scalar, or [B] for "none", in float32 at least. A mean over no weight at all (an empty batch) is 0,
        with zero gradient.

    Raises:
        OptionError: an unknown reduction; a weight below 0, or not finite.
        ShapeError: weights of another shape.

    Example:
        >>> reduce_loss(torch.tensor([1.0, 4.0]), sample_weight=torch.tensor([3.0, 1.0]))
        tensor(1.7500)
    """
    check_sample_weight(sample_weight, len(loss_B))
    loss_B = widened_tensor(loss_B)
    weight_B = None if sample_weight is None else sample_weight.to(loss_B.dtype)
    weighted_B = loss_B if weight_B is None else loss_B * weight_B
    if reduction == "none":
        return weighted_B
    if reduction == "sum":
        return weighted_B.sum()
    if weight_B is None:
        return weighted_B.sum() / max(len(loss_B), 1)
    total = weight_B.sum()
    return weighted_B.sum() / torch.where(total == 0, 1, total)


@checked
def row_weights(
    like: Tensor, *, sample_weight: Tensor | None = None, reduction: Reduction = "mean"
) -> Tensor:
    """What each row counts in the reduced loss: with w of these, ``reduce_loss`` gives Σ_b w_b ℓ_b.

    Args:
        like: [B, ...] a tensor of as many rows, whose device and precision are taken.
        sample_weight: [B] weight of each row, 1 by default.
        reduction: "mean" or "sum"; "none" is as "sum".

    Returns:
        [B] weights in float32 at least.

    Raises:
        OptionError, ShapeError: as in :func:`reduce_loss`.

    Example:
        >>> row_weights(torch.zeros(2, 5), sample_weight=torch.tensor([3.0, 1.0]))
        tensor([0.7500, 0.2500])
    """
    check_sample_weight(sample_weight, len(like))
    ones_B = widened_tensor(like.new_ones(len(like)))
    weighted_B = ones_B if sample_weight is None else ones_B * sample_weight.to(ones_B.dtype)
    if reduction != "mean":
        return weighted_B
    total = weighted_B.sum()
    return weighted_B / torch.where(total == 0, 1, total)


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
    if is_traced() or not class_ids.is_cpu:  # a look at them would stall an accelerator
        return
    bad_P = (class_ids < 0) | (class_ids >= num_classes)
    if ignore_index is not None:
        bad_P &= class_ids != ignore_index
    if not bad_P.any():
        return
    first = int(bad_P.nonzero()[0])
    value = int(class_ids[first])
    row = first if rows is None else int(rows[first])
    skip = (
        "leave such rows out, as in head(hidden[kept], labels[kept])"
        if ignore_index is None
        else f"pass ignore_index={value} to skip such rows"
    )
    raise LabelError(
        f"labels must lie in [0, {num_classes}); got {value} at row {row}. Raise num_classes or {skip}."
    )


def prepare_ids(
    logits: Tensor, labels: Tensor, *, ignore_index: int, also: str = ""
) -> tuple[Tensor, Tensor, Tensor]:
    """What a loss over class ids computes with, once both arguments are found fit.

    Returns:
        [B, C] logits, all 0 in ignored rows, so that nothing in them reaches a value or a gradient; [B] ids,
        0 in ignored rows; [B] whether a row is ignored.

    Raises:
        LabelError: a class id outside [0, C), with its row.
        ShapeError: logits without two axes, or labels that are not one whole number a row.

    Example:
        >>> prepare_ids(torch.ones(2, 2), torch.tensor([1, -100]), ignore_index=-100)[1:]
        (tensor([1, 0]), tensor([False,  True]))
    """
    _check_matrix(logits)
    if labels.shape != logits.shape[:1] or not are_class_ids(labels):
        shape = tuple(labels.shape)
        raise ShapeError(
            f"labels must be {len(logits)} class ids{also}; got {labels.dtype} of shape {shape}."
        )
    check_device(logits, "logits", labels=labels)
    check_labels(labels, logits.shape[1], ignore_index=ignore_index)
    ignored_B = labels == ignore_index
    logits_BC = widened_tensor(logits).masked_fill(ignored_B[:, None], 0.0)
    return logits_BC, labels.masked_fill(ignored_B, 0).long(), ignored_B


def prepare_targets(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and targets of one shape, both in the precision of the computation.

    Raises:
        LabelError: a target outside [0, 1].
        ShapeError: logits without two axes, or targets of another shape.

    Example:
        >>> prepare_targets(torch.zeros(1, 2), torch.tensor([[1, 0]]))
        (tensor([[0., 0.]]), tensor([[1., 0.]]))
    """
    _check_matrix(logits)
    if targets.shape != logits.shape:
        raise ShapeError(
            f"targets must have the shape of logits, {tuple(logits.shape)}; got {tuple(targets.shape)}."
        )
    check_device(logits, "logits", targets=targets)
    check_numbers(targets, "targets", most=1, error=LabelError)
    logits_BC = widened_tensor(logits)
    return logits_BC, targets.to(logits_BC.dtype)


def _check_matrix(logits: Tensor) -> None:
    if logits.ndim != 2:
        raise ShapeError(
            f"logits must have the shape [rows, classes]; got {tuple(logits.shape)}. "
            "Flatten further axes into rows."
        )

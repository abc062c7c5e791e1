"""What functions of several tensors refuse: ids that are none, and tensors that do not go together."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor

from widemax.errors import ArgumentError, LabelError, ShapeError, WidemaxError, shown
from widemax.numerics.arrays import is_traced

Function = TypeVar("Function", bound=Callable[..., Any])


def are_class_ids(labels: Tensor) -> bool:
    """Whether a tensor holds whole numbers.

    Example:
        >>> are_class_ids(torch.tensor([1])), are_class_ids(torch.tensor([1.0]))
        (True, False)
    """
    return not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)


def checked_ids(ids: Tensor, size: int, name: str, rows: Tensor | None = None) -> Tensor:
    """The ids in int64, once they are whole numbers in [0, size), which is looked at on CPU only.

    Args:
        ids: [N], or [B, N] where there are rows.
        size: how many there are to choose from.
        name: what they are called in messages.
        rows: [B, ...] what may have ids of its own in each row, on whose device they are wanted.

    Raises:
        ArgumentError: a mask, other numbers, or another shape.
        LabelError: an id out of range.

    Example:
        >>> checked_ids(torch.tensor([1, 3]), 3, "only")
        Traceback (most recent call last):
        widemax.errors.LabelError: only must lie in [0, 3); got 3. Drop such entries.
    """
    one_a_row = "" if rows is None else f", or one for each of {len(rows)} rows"
    if not isinstance(ids, Tensor):
        raise ArgumentError(f"{name} must be a tensor, a vector of ids{one_a_row}; got {shown(ids)}.")
    has_rows = ids.ndim == 2 and rows is not None and len(ids) == len(rows)
    if not are_class_ids(ids) or not (ids.ndim == 1 or has_rows) or (ids.is_meta and rows is None):
        raise ArgumentError(
            f"{name} must be a vector of ids{one_a_row}; got {ids.dtype} of shape {tuple(ids.shape)} on "
            f"{ids.device}. Pass mask.nonzero()[:, 0] for a mask."
        )
    if not is_traced() and ids.is_cpu:
        wrong = ids[(ids < 0) | (ids >= size)]
        if len(wrong):
            raise LabelError(f"{name} must lie in [0, {size}); got {int(wrong[0])}. Drop such entries.")
    return ids.to(None if rows is None else rows.device, torch.int64)


def check_device(like: Tensor, of: str, **tensors: Tensor) -> None:
    """Refuse tensors on another device than that of a first one, which ``of`` names.

    Example:
        >>> check_device(torch.ones(1), "logits", labels=torch.ones(1, device="meta"))
        Traceback (most recent call last):
        widemax.errors.ArgumentError: labels must be on the device of logits, cpu; got meta.
    """
    for name, tensor in tensors.items():
        if tensor.device != like.device:
            raise ArgumentError(f"{name} must be on the device of {of}, {like.device}; got {tensor.device}.")


def explained(function: Function) -> Function:
    """The same function of a ``weight`` and other tensors, whose error names one that does not go with it."""
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        if torch.compiler.is_compiling():
            return function(*args, **keywords)
        try:
            return function(*args, **keywords)
        except Exception as error:
            arguments = signature.bind_partial(*args, **keywords).arguments
            tensors = {name: value for name, value in arguments.items() if isinstance(value, Tensor)}
            if isinstance(error, WidemaxError) or "weight" not in tensors or "hidden" not in tensors:
                raise
            weight, hidden = tensors["weight"], tensors["hidden"]
            check_device(weight, "weight", **tensors)
            for name in ("hidden", "bias"):
                if name in tensors and tensors[name].dtype != weight.dtype:
                    raise ArgumentError(
                        f"{name} must have the dtype of weight, {weight.dtype}; got {tensors[name].dtype}."
                    ) from None
            if weight.ndim != 2 or not len(weight) or hidden.ndim != 2 or hidden.shape[1] != weight.shape[-1]:
                raise ShapeError(
                    "hidden must be [B, D], rows as long as the class weights [C, D]; got shapes "
                    f"{tuple(hidden.shape)} and {tuple(weight.shape)}."
                ) from None
            if "bias" in tensors and tensors["bias"].shape != weight.shape[:1]:
                raise ShapeError(
                    f"bias must be [{len(weight)}], one a class; got shape {tuple(tensors['bias'].shape)}."
                ) from None
            raise

    return call  # type: ignore[return-value]

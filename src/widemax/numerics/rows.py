"""Rows made safe to exponentiate: absent entries are −inf, and rows without a finite maximum are replaced.

Shapes: ``scores`` has the shape of x; the others have length 1 along the normalized axis, or broadcast.
"""

from typing import Any, Generic, NamedTuple

import numpy as np
import torch

from widemax.numerics.arrays import (
    Array,
    NumpyArray,
    array_mask,
    check_axis,
    floating_array,
    floating_tensor,
    tensor_mask,
    widened_array,
    widened_tensor,
)


class Rows(NamedTuple, Generic[Array]):
    """Rows along one axis, of which every function of this room takes its sums."""

    scores: Array
    """x, −inf at absent entries; where a row's maximum is infinite, 0 at its maxima and −inf elsewhere."""
    shift: Array
    """Each row's largest score, at least float32: subtracted, it leaves nothing above 0."""
    largest: Array
    """Each row's largest entry of x itself, infinite or not."""
    absent: Array | None
    """Entries without a share: outside the mask, or in a row of nothing but −inf; None when all have one."""
    dtype: Any
    """The floating-point type of x, in which results are given."""


def tensor_rows(x: torch.Tensor, axis: int, where: torch.Tensor | None) -> Rows[torch.Tensor]:
    """Rows of a tensor; no gradient reaches absent entries or rows of infinite maximum."""
    x = floating_tensor(x)
    dtype, absent = x.dtype, None
    check_axis(axis, x.shape)
    if where is not None:
        absent = ~tensor_mask(where, x.shape)
        x = torch.where(absent, -torch.inf, x)
    constant = x.detach()
    largest = widened_tensor(tensor_max(constant, axis))
    if _known_finite(largest):
        return Rows(x, largest, largest, absent, dtype)
    infinite, empty = largest.isinf(), largest == -torch.inf
    shares = torch.where(constant == largest, x.new_zeros(()), -torch.inf)
    return Rows(
        torch.where(infinite, shares, x),
        largest.masked_fill(infinite, 0.0),
        largest,
        empty if absent is None else absent | empty,
        dtype,
    )


def array_rows(x: NumpyArray, axis: int, where: NumpyArray | None) -> Rows[NumpyArray]:
    """Rows of an array, at least float32."""
    x = floating_array(x)
    dtype, absent = x.dtype, None
    check_axis(axis, x.shape)
    x = widened_array(x)
    if where is not None:
        absent = ~array_mask(where, x.shape)
        x = np.where(absent, -np.inf, x)
    largest = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    if np.isfinite(largest).all():
        return Rows(x, largest, largest, absent, dtype)
    infinite, empty = np.isinf(largest), largest == -np.inf
    shares = np.where(x == largest, x.dtype.type(0), -np.inf)
    return Rows(
        np.where(infinite, shares, x),
        np.where(infinite, 0, largest),
        largest,
        empty if absent is None else absent | empty,
        dtype,
    )


def finished_tensor(values: torch.Tensor, rows: Rows[torch.Tensor], absent: float) -> torch.Tensor:
    """A result in the type of x, with this number at absent entries."""
    values = values.to(rows.dtype)
    return values if rows.absent is None else values.masked_fill(rows.absent, absent)


def finished_array(values: NumpyArray, rows: Rows[NumpyArray], absent: float) -> NumpyArray:
    """A result in the type of x, with this number at absent entries; ``values`` are altered."""
    if rows.absent is not None:
        np.copyto(values, absent, where=rows.absent)
    return np.asarray(values.astype(rows.dtype, copy=False))


def shifted_tensor(rows: Rows[torch.Tensor], temperature: float) -> torch.Tensor:
    """Scores less the largest of their row, divided by the temperature: at most 0, at least float32."""
    # Shifted first, a score overflows to −inf at worst, which is as good as any very small one.
    shifted = rows.scores - rows.shift
    return shifted if temperature == 1 else shifted / temperature


def shifted_array(rows: Rows[NumpyArray], temperature: float) -> NumpyArray:
    """Scores less the largest of their row, divided by the temperature: at most 0, at least float32."""
    with np.errstate(over="ignore"):
        shifted = rows.scores - rows.shift
        if temperature != 1:
            shifted /= temperature
    return np.asarray(shifted)


def tensor_max(x: torch.Tensor, axis: int) -> torch.Tensor:
    """The largest entry of each row, −inf of an axis without entries (which amax refuses)."""
    return x.amax(axis, keepdim=True) if x.shape[axis] else x.logsumexp(axis, keepdim=True)


def _known_finite(largest: torch.Tensor) -> bool:
    # Two full passes are saved by looking at the values, which is free on a CPU only, and impossible while
    # torch traces or maps a function.
    if not largest.is_cpu or torch.compiler.is_compiling():
        return False
    try:
        return bool(largest.isfinite().all())
    except RuntimeError:
        return False

"""Rows made safe to exponentiate: absent entries are −inf, and rows without a finite maximum are replaced.

Shapes: ``scores`` has the shape of x; the others have length 1 along the normalized axis, or broadcast.
"""

from typing import NamedTuple

import torch

from widemax.numerics.arrays import Array, check_axis, given_as, mask_of, tensor_of, widened_tensor


class Rows(NamedTuple):
    """Rows along one axis, of which every function of this room takes its sums."""

    scores: torch.Tensor
    """x, −inf at absent entries; where a row's maximum is infinite, 0 at its maxima and −inf elsewhere."""
    shift: torch.Tensor
    """Each row's largest score, at least float32: subtracted, it leaves nothing above 0."""
    largest: torch.Tensor
    """Each row's largest entry of x itself, infinite or not."""
    absent: torch.Tensor | None
    """Entries without a share: outside the mask, or in a row of nothing but −inf; None when all have one."""


def rows_of(x: Array, axis: int, where: Array | None) -> Rows:
    """Rows of an array or tensor; no gradient reaches absent entries or rows of infinite maximum."""
    scores, absent = tensor_of(x), None
    check_axis(axis, scores.shape)
    if where is not None:
        absent = ~mask_of(where, x, scores.shape)
        scores = torch.where(absent, -torch.inf, scores)
    constant = scores.detach()
    largest = widened_tensor(max_along(constant, axis))
    if _known_finite(largest):
        return Rows(scores, largest, largest, absent)
    infinite, empty = largest.isinf(), largest == -torch.inf
    shares = torch.where(constant == largest, scores.new_zeros(()), -torch.inf)
    return Rows(
        torch.where(infinite, shares, scores),
        largest.masked_fill(infinite, 0.0),
        largest,
        empty if absent is None else absent | empty,
    )


def finished(values: torch.Tensor, rows: Rows, x: Array, absent: float) -> Array:
    """A result in the kind and type of x, with this number at absent entries."""
    return given_as(values if rows.absent is None else values.masked_fill(rows.absent, absent), x)


def shifted(rows: Rows, temperature: float) -> torch.Tensor:
    """Scores less the largest of their row, divided by the temperature: at most 0, at least float32."""
    # Shifted first, a score overflows to −inf at worst, which is as good as any very small one.
    scores = rows.scores - rows.shift
    return scores if temperature == 1 else scores / temperature


def max_along(x: torch.Tensor, axis: int) -> torch.Tensor:
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

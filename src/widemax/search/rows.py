"""Vectors in memory or in a file, read a few at a time.

Shapes: N vectors, D dimensions, n vectors read, P (query, vector) pairs.
"""

from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from widemax.errors import ArgumentError, DataError, ShapeError
from widemax.kernels import budget

Metric: TypeAlias = Literal["dot", "cosine", "euclidean"]
Numbers: TypeAlias = Tensor | npt.NDArray[Any]

# A square of anything larger may overflow float64 when it is summed.
LARGEST = float(np.finfo(np.float32).max)


class Rows:
    """The vectors of an index, or some of them, as float64 tiles and as exact scores.

    Attributes:
        ids_N: int64 rows of the array that take part, ascending; None for all.
    """

    def __init__(
        self, array: npt.NDArray[Any], bias: Tensor | None, metric: Metric, ids: Tensor | None = None
    ) -> None:
        self.array, self.bias, self.metric, self.ids_N = array, bias, metric, ids

    def __len__(self) -> int:
        return len(self.array) if self.ids_N is None else len(self.ids_N)

    @property
    def dim(self) -> int:
        return int(self.array.shape[1])

    def only(self, ids: Tensor) -> "Rows":
        """Some of these vectors: ids ascending and distinct."""
        return Rows(self.array, self.bias, self.metric, ids)

    def tiles(self) -> list[slice]:
        """Ranges of vectors to be read at a time."""
        width = max(1, budget.SMALL_TILE_ELEMENTS // self.dim)
        return [slice(start, min(start + width, len(self))) for start in range(0, len(self), width)]

    def read(self, where: slice | Tensor) -> Tensor:
        """[n, D] vectors in float64."""
        if isinstance(where, slice) and self.ids_N is None:
            part = self.array[where]
        else:
            part = self.array[self.global_ids(where).numpy()]
        return torch.from_numpy(part.astype(np.float64))

    def global_ids(self, where: slice | Tensor) -> Tensor:
        """[n] rows of the array."""
        if self.ids_N is not None:
            return self.ids_N[where]
        return torch.arange(len(self.array))[where] if isinstance(where, slice) else where

    def biases(self, where: slice | Tensor) -> Tensor | float:
        """[n] biases in float64, or 0."""
        return 0.0 if self.bias is None else self.bias[self.global_ids(where)]

    def exact_scores(self, queries_PD: Tensor, where_P: Tensor) -> Tensor:
        """[P] float64 scores of pairs, larger is better: for Euclidean the negative distance."""
        vectors_PD = self.read(where_P)
        if self.metric == "euclidean":
            return -_lengths(vectors_PD.sub_(queries_PD))
        if self.metric == "cosine":
            vectors_PD = unit_rows(vectors_PD)
        return _row_sums(vectors_PD.mul_(queries_PD)) + self.biases(where_P)


def _row_sums(x_ND: Tensor) -> Tensor:
    # NumPy's sum of a row does not depend on the other rows; torch may split a single long row among threads.
    return torch.from_numpy(x_ND.numpy().sum(1))


def _lengths(x_ND: Tensor) -> Tensor:
    # NumPy's root is the nearest number; torch's may be the next one.
    return torch.from_numpy(np.sqrt(_row_sums(x_ND.square()).numpy()))


def unit_rows(x_ND: Tensor) -> Tensor:
    """Rows of length 1; a zero row stays zero. Dividing by the largest entry first keeps squares in range."""
    largest_N1 = x_ND.abs().amax(1, keepdim=True)
    scaled_ND = x_ND / largest_N1.where(largest_N1 > 0, 1)
    length_N1 = _lengths(scaled_ND)[:, None]
    return scaled_ND.div_(length_N1.where(length_N1 > 0, 1))


def as_array(x: Numbers, name: str) -> npt.NDArray[Any]:
    """The array itself, or the memory of a tensor, once it holds real numbers."""
    if isinstance(x, Tensor):
        if x.device.type != "cpu":
            raise ArgumentError(f"{name} must be on the CPU; got {x.device}. Pass {name}.cpu().")
        # NumPy has no bfloat16.
        x = (x.float() if x.dtype == torch.bfloat16 else x).detach().numpy()
    if x.dtype.kind not in "fiu":
        raise ArgumentError(f"{name} must be a NumPy array or torch tensor of real numbers; got {x.dtype}.")
    return x


def as_matrix(x: Numbers, name: str) -> npt.NDArray[Any]:
    """The same for a matrix."""
    array = as_array(x, name)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ShapeError(f"{name} must be [rows, dimensions], one vector a row; got shape {array.shape}.")
    return array


def check_finite(x_ND: Tensor, name: str, *, first_row: int = 0) -> None:
    """Refuse NaN, infinity and what float32 cannot hold."""
    # A NaN is not ≤ anything.
    wrong = (~(x_ND.abs().amax(1) <= LARGEST)).nonzero()
    if len(wrong):
        raise DataError(
            f"{name} must hold finite float32 numbers; row {first_row + int(wrong[0])} has NaN, infinity or "
            f"more than {LARGEST:.1e}. Drop or repair such rows."
        )

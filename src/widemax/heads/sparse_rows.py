"""Heads that learn from all rows of sparse features together.

Shapes: B rows of a batch, N rows so far, F features, C classes, P pairs.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from widemax import native
from widemax.classes import Classes
from widemax.errors import DataError, ShapeError
from widemax.heads.base import CountingHead, Dim
from widemax.heads.labels import Labels, training_pairs
from widemax.kernels import Pairs
from widemax.options import checked

Sparse: TypeAlias = Any
"""A SciPy array in CSR form."""
CSR_PARTS = "offsets", "ids", "values"


class SparseRowsHead(CountingHead):
    """Keeps the rows it is given, which are mostly far smaller than what is made of them.

    Args:
        num_classes: C, or ``Classes`` with their counts.
        dim: F, the number of features.
    """

    def __init__(self, num_classes: int | Classes, dim: Dim) -> None:
        super().__init__(num_classes, dim)
        self._counted: list[tuple[Sparse, Sparse]] = []

    @partial(checked, of="head.partial_fit")
    def partial_fit(self, hidden: Tensor, labels: Labels) -> None:
        if hidden.ndim != 2 or hidden.shape[1] != self.dim:
            raise ShapeError(f"hidden must be [B, {self.dim}], the features; got {tuple(hidden.shape)}.")
        pairs = training_pairs(labels, hidden, self.num_classes)
        features = csr_of_rows(hidden)
        wrong = np.flatnonzero(~((features.data >= 0) & np.isfinite(features.data)))
        if len(wrong):
            row = int(np.searchsorted(features.indptr, wrong[0], side="right")) - 1
            raise DataError(
                f"features must be finite and at least 0 to be counted; row {row} has "
                f"{features.data[wrong[0]]}. Scale them, or choose another head."
            )
        self._counted.append((features, csr_of_pairs(pairs, (len(hidden), self.num_classes))))

    def rows_so_far(self) -> tuple[Sparse, Sparse]:
        """X [N, F] and Y [N, C] of all rows so far."""
        if len(self._counted) != 1:
            shapes = (0, self.dim), (0, self.num_classes)
            nothing = tuple(scipy_sparse().csr_array(shape, dtype=np.float32) for shape in shapes)
            parts = zip(*(self._counted or [nothing]), strict=True)
            features, labels = (scipy_sparse().vstack(part, format="csr") for part in parts)
            self._counted = [(features, labels)]
        return self._counted[0]

    @partial(checked, of="head.merge")
    def merge(self, other: "SparseRowsHead") -> None:
        """Adds what another head has counted, as if its rows had been counted here.

        Raises:
            ShapeError: it has other features or classes.
        """
        if (other.dim, other.num_classes) != (self.dim, self.num_classes):
            raise ShapeError(
                f"other must have {self.dim} features and {self.num_classes} classes; got {other.dim} and "
                f"{other.num_classes}."
            )
        self._counted += other._counted

    def training_state(self) -> dict[str, Tensor]:
        state = super().training_state()
        for name, matrix in zip(("features", "labels"), self.rows_so_far(), strict=True):
            parts = zip(CSR_PARTS, (matrix.indptr, matrix.indices, matrix.data), strict=True)
            state |= {f"{name}.{part}": torch.from_numpy(array) for part, array in parts}
        return state

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        super().load_training_state(state)
        rows = []
        for name, size in (("features", self.dim), ("labels", self.num_classes)):
            offsets, ids, values = (state[f"{name}.{part}"].numpy() for part in CSR_PARTS)
            rows.append(scipy_sparse().csr_array((values, ids, offsets), shape=(len(offsets) - 1, size)))
        self._counted = [(rows[0], rows[1])]

    def _load_from_state_dict(self, state: Any, prefix: str, *args: Any) -> None:
        for name in self.learned_sizes:
            if f"{prefix}{name}" in state:
                setattr(
                    self, name, torch.empty_like(state[f"{prefix}{name}"], dtype=getattr(self, name).dtype)
                )
        super()._load_from_state_dict(state, prefix, *args)


def scipy_sparse() -> Any:
    """SciPy's sparse arrays, which nothing but these heads import."""
    import scipy.sparse

    return scipy.sparse


def csr_of_rows(hidden: Tensor) -> Sparse:
    """Rows of features as a SciPy array; what a row says twice is added up."""
    hidden = hidden.detach()
    if hidden.layout is torch.strided:
        return scipy_sparse().csr_array(hidden.numpy())
    places = hidden._indices().numpy().astype(index_dtype(*hidden.shape))
    return scipy_sparse().csr_array((hidden._values().numpy(), places), shape=tuple(hidden.shape))


def sparse_product(left: Sparse, right: Sparse) -> Sparse:
    """left @ right."""
    return native.sparse_product(left, right) if native.takes_sparse(left, right) else left @ right


def powered(features: Sparse, power: float) -> Sparse:
    """D_row X^p: what is below 0 is dropped, and each row has length 1."""
    rows = features.astype(np.float64)
    np.maximum(rows.data, 0, out=rows.data)
    rows.eliminate_zeros()
    lengths_B = np.diff(rows.indptr)
    with np.errstate(invalid="ignore"):  # what is infinite has no answer
        # By the largest first, so that no power leaves the range of numbers.
        rows.data /= np.repeat(rows.max(axis=1).toarray(), lengths_B)
        rows.data **= power
        rows.data /= np.repeat(np.sqrt(rows.power(2).sum(axis=1)), lengths_B)
    return rows.astype(np.float32)


def csr_of_pairs(pairs: Pairs, shape: tuple[int, int]) -> Sparse:
    """A 1 at each pair."""
    ones_P = np.ones(len(pairs.ids_P), np.float32)
    places = tuple(places_P.numpy().astype(index_dtype(*shape)) for places_P in pairs)
    return scipy_sparse().csr_array((ones_P, places), shape=shape)


def index_dtype(*sizes: int) -> type[np.signedinteger[Any]]:
    """That of places in arrays of these sizes, in half the memory where that suffices."""
    return np.int32 if max(sizes) < 2**31 else np.int64


def sparse_laws(offsets_F1: Tensor, ids_P: Tensor, num_columns: int) -> Iterator[tuple[bool, str]]:
    """What must hold between the offsets and column ids of a matrix in CSR form, as `Head.laws` yields it."""
    rises = bool((offsets_F1.diff() >= 0).all()) and int(offsets_F1[0]) == 0
    yield rises and int(offsets_F1[-1]) == len(ids_P), "offsets that rise from 0 to the number of class ids"
    in_range = bool(((ids_P >= 0) & (ids_P < num_columns)).all())
    begins_P1 = torch.zeros(len(ids_P) + 1, dtype=torch.bool)
    begins_P1[offsets_F1] = True
    by_id = bool(((ids_P.diff() > 0) | begins_P1[1:-1]).all())
    yield in_range and by_id, f"class ids within [0, {num_columns}) that rise for each feature"

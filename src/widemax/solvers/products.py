"""The two products with the features that a gradient costs, for dense and CSR matrices in float32 or float64.

Shapes: N rows, D features, K vectors of weights, M chosen rows.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse
import torch
from torch.nn.functional import embedding_bag

Array = npt.NDArray[Any]

# Rows of a block of squares: large enough for BLAS, small beside the features.
_BLOCK = 4096


class Products(ABC):
    """Features that can be multiplied from both sides."""

    num_rows: int
    num_features: int
    dtype: np.dtype[Any]

    @abstractmethod
    def logits(self, weight_DK: Array) -> Array:
        """(X W)ᵀ, of shape [K, N]."""

    @abstractmethod
    def pull_back(self, residual_KN: Array) -> Array:
        """Xᵀ Rᵀ, of shape [D, K]."""

    @abstractmethod
    def squares(self, weight_KN: Array) -> Array:
        """Σ_i w_ki x_ij², of shape [D, K]."""

    @abstractmethod
    def rows(self, ids_M: Array | slice, features: Array | slice) -> Array:
        """Some features of some rows, dense, [M, D]."""


def products(features_ND: Any, dtype: npt.DTypeLike) -> Products:
    """The fastest products for this kind of matrix in this precision."""
    if not scipy.sparse.issparse(features_ND):
        return DenseProducts(features_ND.astype(dtype, copy=False))
    features_ND = features_ND.astype(dtype, copy=False)
    return BagProducts(features_ND) if features_ND.dtype == np.float32 else CsrProducts(features_ND)


class DenseProducts(Products):
    """BLAS."""

    def __init__(self, features_ND: Array) -> None:
        self.features_ND = features_ND
        self.num_rows, self.num_features = features_ND.shape
        self.dtype = features_ND.dtype

    def logits(self, weight_DK: Array) -> Array:
        return weight_DK.T @ self.features_ND.T

    def pull_back(self, residual_KN: Array) -> Array:
        return (residual_KN @ self.features_ND).T

    def squares(self, weight_KN: Array) -> Array:
        total_KD = np.zeros((len(weight_KN), self.num_features), self.dtype)
        for start in range(0, self.num_rows, _BLOCK):
            block = slice(start, start + _BLOCK)
            total_KD += weight_KN[:, block] @ np.square(self.features_ND[block])
        return total_KD.T

    def rows(self, ids_M: Array | slice, features: Array | slice) -> Array:
        return self.features_ND[ids_M][:, features]


class CsrProducts(Products):
    """scipy: one thread, any precision."""

    def __init__(self, features_ND: Any) -> None:
        self.features_ND = features_ND
        self.num_rows, self.num_features = features_ND.shape
        self.dtype = features_ND.dtype

    def logits(self, weight_DK: Array) -> Array:
        return np.ascontiguousarray((self.features_ND @ weight_DK).T)

    def pull_back(self, residual_KN: Array) -> Array:
        return np.asarray(self.features_ND.T @ np.ascontiguousarray(residual_KN.T))

    def squares(self, weight_KN: Array) -> Array:
        return np.asarray(self.features_ND.power(2).T @ np.ascontiguousarray(weight_KN.T))

    def rows(self, ids_M: Array | slice, features: Array | slice) -> Array:
        return np.asarray(self.features_ND[ids_M][:, features].toarray())


class BagProducts(CsrProducts):
    """CSR in float32, as sums of bags of embeddings: vectorized over K, on all threads."""

    def __init__(self, features_ND: Any) -> None:
        super().__init__(features_ND)
        self._forward = _bags(features_ND)
        self._backward = _bags(features_ND.T.tocsr())

    def logits(self, weight_DK: Array) -> Array:
        return np.ascontiguousarray(_bag_sums(*self._forward, weight_DK).T)

    def pull_back(self, residual_KN: Array) -> Array:
        return _bag_sums(*self._backward, residual_KN.T)

    def squares(self, weight_KN: Array) -> Array:
        offsets, ids, values = self._backward
        return _bag_sums(offsets, ids, values.square(), weight_KN.T)


def _bags(matrix: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    index = matrix.indices.dtype
    parts = (matrix.indptr.astype(index, copy=False), matrix.indices, matrix.data)
    # Copied where the caller's arrays are read-only, which torch does not accept.
    offsets, ids, values = (torch.from_numpy(np.require(part, requirements="W")) for part in parts)
    return offsets, ids, values


def _bag_sums(offsets: torch.Tensor, ids: torch.Tensor, values: torch.Tensor, table: Array) -> Array:
    embeddings = torch.from_numpy(np.ascontiguousarray(table))
    sums: Array = embedding_bag(
        ids, embeddings, offsets, mode="sum", per_sample_weights=values, include_last_offset=True
    ).numpy()
    return sums

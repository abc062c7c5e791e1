"""Linear support vector machines of sparse rows, each class against the rest, all classes at once.

Shapes: B rows of a block, R rows at once, F features, U different features in a block, C classes.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from widemax import native
from widemax.options import checked
from widemax.solvers.products import Array

ROWS = 16
"""R, those whose coordinates are minimized at once."""


@checked
class Separators:
    """The minimum of ½ Σ_c ‖w_c‖² + C Σ_ic max(0, m_ic)² over W, by dual coordinate descent.

    m_ic is 2 − w_c·x_i for a class of the row's own and w_c·x_i for every other: the squared hinge of one
    class against the rest with the bias −1 of a rare class. The dual coordinates of all classes are minimized
    together, so that each number of a row meets C weights that lie side by side, and those of R rows at once:
    with x_i·x_i replaced by Σ_j abs(x_i·x_j) over the R rows, a step goes down for all of them. Within a
    block the products with W are brought up to date by the products of its rows with one another.

    Args:
        blocks: CSR rows of float32, [B, F], with [B, C] whether a class is the row's own; they stay in
            memory.
        penalty: C, what a row counts against the length of the weights.
        seed: of the order of blocks and rows.

    Attributes:
        weight_FC: W.

    Example:
        >>> from scipy.sparse import csr_matrix
        >>> rows = csr_matrix(np.eye(2, dtype=np.float32))
        >>> separators = Separators([(rows, np.eye(2, dtype=bool))], seed=0)
        >>> separators.sweep()
        >>> separators.weight_FC  # 2C / (1 + 2C) of the 2 that its margin wants
        tensor([[1.3333, 0.0000],
                [0.0000, 1.3333]])

    Source: Hsieh et al., "A dual coordinate descent method for large-scale linear SVM", ICML 2008.
    """

    def __init__(self, blocks: Iterable[tuple[Any, Array]], *, penalty: float = 1.0, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        ridge = np.float32(1 / (2 * penalty))
        self._blocks = [_block(rows, is_own_BC, ridge) for rows, is_own_BC in blocks]
        first = self._blocks[0]
        self.weight_FC = torch.zeros(first.num_features, first.is_own_BC.shape[1])

    def sweep(self) -> None:
        """Minimize over the coordinates of all rows once."""
        for block in self._random.permutation(np.array(self._blocks, dtype=object)):
            block.sweep(self.weight_FC, self._random.permutation(range(0, len(block.is_own_BC), ROWS)))


def _block(rows: Any, is_own_BC: Array, ridge: np.float32) -> "_Block | native.SeparatedRows":
    if native.takes_sparse(rows):
        return native.SeparatedRows(rows, is_own_BC, float(ridge), ROWS)
    return _Block(rows, is_own_BC, ridge)


class _Block:
    """Rows, their dual coordinates and their products with one another."""

    def __init__(self, rows: Any, is_own_BC: Array, ridge: np.float32) -> None:
        from scipy.sparse import csr_matrix

        self.num_features = rows.shape[1]
        features_U, places = used_columns(rows)
        self.features_U = torch.from_numpy(features_U)
        parts = rows.data, places, rows.indptr
        self.rows_BU = csr_matrix(parts, (len(is_own_BC), len(features_U)))
        self.products_BB: Array = (self.rows_BU @ self.rows_BU.T).toarray()
        self.is_own_BC, self.ridge = is_own_BC, ridge
        self.dual_BC = np.zeros(is_own_BC.shape, dtype=np.float32)

    def sweep(self, weight_FC: Tensor, starts: Array) -> None:
        margins_BC = -(self.rows_BU @ weight_FC.index_select(0, self.features_U).numpy())
        margins_BC[self.is_own_BC] += 2
        dual_BC = self.dual_BC.copy()
        for start in starts:
            at = slice(start, start + ROWS)
            products_BR, is_own_RC, dual_RC = self.products_BB[:, at], self.is_own_BC[at], dual_BC[at]
            step_R = 1 / (np.abs(products_BR[at]).sum(0) + self.ridge)
            new_RC = dual_RC + step_R[:, None] * (margins_BC[at] - self.ridge * dual_RC)
            np.maximum(new_RC, 0, out=new_RC, where=is_own_RC)
            np.minimum(new_RC, 0, out=new_RC, where=~is_own_RC)
            margins_BC -= products_BR @ (new_RC - dual_RC)
            dual_BC[at] = new_RC
        change_UC = self.rows_BU.T @ (dual_BC - self.dual_BC)
        weight_FC.index_add_(0, self.features_U, torch.from_numpy(change_UC))
        self.dual_BC = dual_BC


@checked
def used_columns(rows: Any) -> tuple[Array, Array]:
    """The columns of CSR rows that hold anything, in int64 and ascending, and the place of each number's.

    Example:
        >>> from scipy.sparse import csr_matrix
        >>> used, places = used_columns(csr_matrix(np.array([[0.0, 0.0, 2.0], [3.0, 0.0, 4.0]])))
        >>> used.tolist(), places.tolist()
        ([0, 2], [1, 0, 1])
    """
    is_used = np.zeros(rows.shape[1], dtype=np.bool_)
    is_used[rows.indices] = True
    place_of = np.cumsum(is_used, dtype=np.int32) - np.int32(1)
    return np.flatnonzero(is_used), place_of[rows.indices]

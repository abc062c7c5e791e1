"""Linear support vector machines of sparse rows, each class against the rest, all classes at once.

Shapes: N rows, B rows of a block, F features, U different features in a block, C classes.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from widemax.options import checked
from widemax.solvers.products import Array


@checked
class Separators:
    """The minimum of ½ Σ_c ‖w_c‖² + C Σ_ic max(0, m_ic)² over W, by dual coordinate descent.

    m_ic is 2 − w_c·x_i for the row's own class and w_c·x_i for every other: the squared hinge of one class
    against the rest with the bias −1 of a rare class. A row's C dual coordinates are minimized together, and
    the rows one after the other, so that each number of a row meets C weights that lie side by side. Within a
    block the products with W are brought up to date by the products of its rows with one another.

    Args:
        blocks: CSR rows of float32, [B, F], with their labels; they stay in memory.
        num_classes: C.
        penalty: C, what a row counts against the length of the weights.
        seed: of the order of blocks and rows.

    Attributes:
        weight_FC: W.

    Example:
        >>> from scipy.sparse import csr_matrix
        >>> rows = csr_matrix(np.eye(2, dtype=np.float32))
        >>> separators = Separators([(rows, np.array([0, 1]))], num_classes=2, seed=0)
        >>> separators.sweep()
        >>> separators.weight_FC  # 2C / (1 + 2C) of the 2 that its margin wants
        tensor([[1.3333, 0.0000],
                [0.0000, 1.3333]])

    Source: Hsieh et al., "A dual coordinate descent method for large-scale linear SVM", ICML 2008.
    """

    def __init__(
        self, blocks: Iterable[tuple[Any, Array]], *, num_classes: int, penalty: float = 1.0, seed: int
    ) -> None:
        self._random = np.random.default_rng(seed)
        self._ridge = np.float32(1 / (2 * penalty))
        self._blocks = [_Block(rows, labels_B, num_classes) for rows, labels_B in blocks]
        num_features = self._blocks[0].num_features
        self.weight_FC = torch.zeros(num_features, num_classes)

    def sweep(self) -> None:
        """Minimize over each row's coordinates once."""
        for block in self._random.permutation(np.array(self._blocks, dtype=object)):
            block.sweep(self.weight_FC, self._ridge, self._random.permutation(len(block.labels_B)))


class _Block:
    """Rows, their dual coordinates and their products with one another."""

    def __init__(self, rows: Any, labels_B: Array, num_classes: int) -> None:
        from scipy.sparse import csr_matrix

        self.num_features = rows.shape[1]
        features_U, places = np.unique(rows.indices, return_inverse=True)
        self.features_U = torch.from_numpy(features_U.astype(np.int64))
        parts = rows.data, places.astype(np.int32), rows.indptr
        self.rows_BU = csr_matrix(parts, (len(labels_B), len(features_U)))
        self.products_BB: Array = (self.rows_BU @ self.rows_BU.T).toarray()
        self.labels_B = labels_B
        self.dual_BC = np.zeros((len(labels_B), num_classes), dtype=np.float32)

    def sweep(self, weight_FC: Tensor, ridge: np.float32, order_B: Array) -> None:
        from scipy.linalg.blas import sger

        margins_BC = -(self.rows_BU @ weight_FC.index_select(0, self.features_U).numpy())
        margins_BC[np.arange(len(order_B)), self.labels_B] += 2
        step_B = 1 / (self.products_BB.diagonal() + ridge)
        dual_BC = self.dual_BC.copy()
        margins_CB = margins_BC.T
        for row in order_B:
            dual_C, label = dual_BC[row], self.labels_B[row]
            new_C = dual_C + step_B[row] * (margins_BC[row] - ridge * dual_C)
            own = max(new_C[label], 0)
            np.minimum(new_C, 0, out=new_C)
            new_C[label] = own
            # In place; numpy would make the [B, C] product first.
            sger(-1, new_C - dual_C, self.products_BB[row], a=margins_CB, overwrite_a=True)
            dual_BC[row] = new_C
        change_UC = self.rows_BU.T @ (dual_BC - self.dual_BC)
        weight_FC.index_add_(0, self.features_U, torch.from_numpy(change_UC))
        self.dual_BC = dual_BC

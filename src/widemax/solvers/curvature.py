"""Approximate inverse Hessians of the objective, which precondition L-BFGS.

Shapes: N rows, D features, F = D + 1 with biases (F = D without), K vectors of weights, M sampled rows,
T features of the largest curvature.
"""

from collections.abc import Callable

import numpy as np
from scipy.linalg import get_lapack_funcs

from widemax.solvers.objective import Objective, Point
from widemax.solvers.products import Array

Preconditioner = Callable[[Array], Array]
"""A gradient [F, K] to a direction [F, K]."""

Features = Array | slice
"""Columns of the features."""

_MOST_ENTRIES = 100_000_000
"""Of all blocks together; with more, only the diagonal is used."""

_ALWAYS_FLOPS = 1_000_000_000
"""Blocks of at most this cost are computed for any number of rows."""

_MANY, _MOST_CURVED = 10_000, 256
"""From the first number of features on, the second number of largest curvature share a block."""

_GATHERED = 2_000_000
"""Numbers of rows drawn for several blocks that are multiplied together."""

_STALE = 0.3
"""The share of the curvature that may change before it is computed again."""

_COMPARED = 1000
"""Rows that are compared to see whether the curvature has changed."""


class InverseHessian:
    """H⁻¹ class by class: an inverse matrix each where that is cheap, else the diagonal's and one block.

    The Hessian's block of class k is Σ_i c_ik x_i x_iᵀ + l2·I with the curvature c_ik = ω_i p_ik (1 − p_ik).
    Its M rows are drawn with probability proportional to c, so that few estimate the sum well. It is
    computed again once a good part of the curvature has changed, always in the precision of ``objective``.
    """

    def __init__(self, objective: Objective, generator: np.random.Generator) -> None:
        self._objective = objective
        self._generator = generator
        self._probs_KN: Array | None = None

    def at(self, point: Point) -> Preconditioner:
        """The preconditioner for gradients near this point."""
        objective = self._objective
        if self._is_stale(point.outputs.probs_KN):
            self._probs_KN = point.outputs.probs_KN
            # At weights of 0 all classes have the same curvature: one block is enough.
            blocks_pay = _blocks_pay(*objective.shape, objective.products.num_rows)
            probs_KN = self._probs_KN[: None if point.weight_FK.any() or not blocks_pay else 1]
            make = _block_preconditioner if blocks_pay else _sparse_preconditioner
            precondition = make(objective, probs_KN, self._generator)
            # A constant added to every class changes no probability: optimal weights sum to 0 over classes.
            self._preconditioner = (
                precondition
                if objective.is_sigmoid
                else lambda gradient_FK: _centered(precondition(gradient_FK))
            )
        return self._preconditioner

    def _is_stale(self, probs_KN: Array) -> bool:
        if self._probs_KN is None:
            return True
        some = slice(None, None, 1 + probs_KN.shape[1] // _COMPARED)
        old_KN, new_KN = (part[:, some] * (1 - part[:, some]) for part in (self._probs_KN, probs_KN))
        row_weight_N = self._objective.row_weight_N[some]
        changed_N, total_N = np.abs(new_KN - old_KN).sum(axis=0), old_KN.sum(axis=0)
        return bool(row_weight_N @ changed_N > _STALE * (row_weight_N @ total_N))


def _centered(weight_FK: Array) -> Array:
    # The mean as a product: NumPy sums short rows slowly.
    num_vectors = weight_FK.shape[1]
    average_K1 = np.full((num_vectors, 1), 1 / num_vectors, weight_FK.dtype)
    weight_FK -= weight_FK @ average_K1
    return weight_FK


def _blocks_pay(dim: int, num_vectors: int, num_rows: int) -> bool:
    if num_vectors * dim**2 > _MOST_ENTRIES:
        return False
    return dim**2 <= 16 * num_rows or num_vectors * dim**3 <= _ALWAYS_FLOPS


def _curvature(objective: Objective, probs_KN: Array) -> Array:
    curvature_KN = 1 - probs_KN
    curvature_KN *= probs_KN
    curvature_KN *= objective.row_weight_N.astype(curvature_KN.dtype)
    return curvature_KN


def _sparse_preconditioner(
    objective: Objective, probs_KN: Array, generator: np.random.Generator
) -> Preconditioner:
    """The diagonal; of many features, those of most curvature have a block of the classes' mean curvature."""
    curvature_KN = _curvature(objective, probs_KN)
    num_features = objective.products.num_features
    diagonal_FK = objective.products.squares(curvature_KN)
    if objective.has_bias:
        diagonal_FK = np.concatenate([diagonal_FK, curvature_KN.sum(axis=1)[None]])
    diagonal_FK += _ridge(objective, len(diagonal_FK))
    if num_features < _MANY:
        return lambda gradient_FK: gradient_FK / diagonal_FK
    ids_T = np.argsort(diagonal_FK[:num_features].sum(axis=1))[-_MOST_CURVED:]
    mean_1N = curvature_KN.mean(axis=0, keepdims=True)
    inverse_TT = _inverse_blocks(objective, ids_T, mean_1N, generator)[0]
    if objective.has_bias:
        ids_T = np.append(ids_T, num_features)

    def precondition(gradient_FK: Array) -> Array:
        direction_FK: Array = gradient_FK / diagonal_FK
        direction_FK[ids_T] = inverse_TT @ gradient_FK[ids_T]
        return direction_FK

    return precondition


def _ridge(objective: Objective, dim: int) -> Array:
    """What the penalty adds to the diagonal, [F, 1]; never 0, as probabilities of 0 have no curvature."""
    precision = np.finfo(objective.products.dtype)
    ridge_F1 = np.full((dim, 1), precision.tiny / precision.eps, precision.dtype)
    ridge_F1 += objective.penalty.l2
    if objective.has_bias:
        ridge_F1[-1] = precision.eps
    return ridge_F1


def _block_preconditioner(
    objective: Objective, probs_KN: Array, generator: np.random.Generator
) -> Preconditioner:
    num_numbers = len(probs_KN) * _num_sampled(objective.products.num_features) * objective.shape[0]
    num_parts = min(len(probs_KN), -(-num_numbers // _GATHERED))
    curvatures = (_curvature(objective, part_kN) for part_kN in np.array_split(probs_KN, num_parts))
    inverse_KFF = np.concatenate(
        [_inverse_blocks(objective, slice(None), part_kN, generator) for part_kN in curvatures]
    )

    def precondition(gradient_FK: Array) -> Array:
        gradient_KF1 = gradient_FK.T[:, :, None].astype(inverse_KFF.dtype)
        return np.ascontiguousarray((inverse_KFF @ gradient_KF1)[:, :, 0].T)

    return precondition


def _inverse_blocks(
    objective: Objective, features: Features, curvature_KN: Array, generator: np.random.Generator
) -> Array:
    """[K, F, F]: inverses of the Hessian's blocks of these features and the bias."""
    rows_KMF, scale_K = _weighted_rows(objective, features, curvature_KN, generator)
    hessian_KFF = rows_KMF.transpose(0, 2, 1) @ rows_KMF
    hessian_KFF *= scale_K[:, None, None]
    dim = hessian_KFF.shape[1]
    root_KF = np.sqrt(hessian_KFF.diagonal(axis1=1, axis2=2) + _ridge(objective, dim)[:, 0])
    # Scaled to a unit diagonal, so that the rounding of the product is alike for features of any unit.
    for each_KF in root_KF[:, None], root_KF[:, :, None]:
        hessian_KFF /= each_KF
    hessian_KFF[:, range(dim), range(dim)] = 1 + dim * np.finfo(hessian_KFF.dtype).eps
    factorize, invert = get_lapack_funcs(("potrf", "potri"), (hessian_KFF,))
    # Both see the transpose, as LAPACK counts columns first: the upper triangle there is the lower here.
    for matrix_FF in hessian_KFF.transpose(0, 2, 1):
        factor_FF, failed = factorize(matrix_FF, lower=0, overwrite_a=True)
        matrix_FF[:] = np.eye(dim) if failed else invert(factor_FF, lower=0, overwrite_c=True)[0]
    lower_KFF = np.tril(hessian_KFF)
    inverse_KFF: Array = lower_KFF + np.tril(hessian_KFF, -1).transpose(0, 2, 1)
    for each_KF in root_KF[:, None], root_KF[:, :, None]:
        inverse_KFF /= each_KF
    return inverse_KFF


def _num_sampled(num_features: int) -> int:
    return 3 * num_features + 256


def _weighted_rows(
    objective: Objective, features: Features, curvature_KN: Array, generator: np.random.Generator
) -> tuple[Array, Array]:
    """[K, M, F] rows R and scales such that scale·RᵀR estimates Σ_i c_i x_i x_iᵀ, exactly for few rows."""
    products, (num_blocks, num_rows) = objective.products, curvature_KN.shape
    num_sampled = _num_sampled(products.num_features if isinstance(features, slice) else len(features))
    if num_rows <= num_sampled:
        rows_NF = _with_ones(objective, products.rows(slice(None), features))
        roots_KN = np.sqrt(curvature_KN).astype(products.dtype)
        return rows_NF * roots_KN[:, :, None], np.ones(num_blocks, products.dtype)
    ids_KM, scale_K = np.empty((num_blocks, num_sampled), np.int64), np.empty(num_blocks, products.dtype)
    for block, curvature_N in enumerate(curvature_KN):
        cumulative_N = np.cumsum(curvature_N, dtype=np.float64)
        distance = cumulative_N[-1] / num_sampled
        # Systematic sampling: every row is drawn as often as expected, give or take one.
        positions_M = (np.arange(num_sampled) + generator.random()) * distance
        ids_KM[block], scale_K[block] = np.searchsorted(cumulative_N, positions_M), distance
    rows_PF = products.rows(np.minimum(ids_KM, num_rows - 1).ravel(), features)
    return _with_ones(objective, rows_PF).reshape(num_blocks, num_sampled, -1), scale_K


def _with_ones(objective: Objective, rows_MD: Array) -> Array:
    if not objective.has_bias:
        return rows_MD
    return np.concatenate([rows_MD, np.ones((len(rows_MD), 1), rows_MD.dtype)], axis=1)

"""A change of variables after which L-BFGS needs few steps.

Shapes: D features, K vectors of weights, F = D + 1 with biases (F = D without), M chosen rows.
"""

import numpy as np
from scipy.linalg import solve_triangular

from widemax.solvers.products import Array, Products

_MOST_ENTRIES = 20_000_000


class ChangeOfVariables:
    """Variables V = Lᵀ R W in which the Hessian of a smoothed hinge is about the identity.

    A row has curvature for about one of the K vectors, so that the Hessian is about
    H = Σ_i ω_i x_i x_iᵀ / K + λ for each of them, and H = R L Lᵀ R with R diagonal. With very many features,
    or more than rows, L is 1.
    """

    def __init__(self, features: Products, share_N: Array, strength: float, shape: tuple[int, int]) -> None:
        dim, num_vectors = shape
        num_biases = dim - features.num_features
        square_F1 = np.concatenate([features.squares(share_N[None]), np.ones((num_biases, 1))])
        self._root_F1 = np.sqrt(square_F1 / num_vectors + strength)
        ids_M = np.flatnonzero(share_N)
        self._factor_FF: Array | None = None
        if dim > len(ids_M) or dim**2 > _MOST_ENTRIES:
            return
        ids_M = ids_M[np.linspace(0, len(ids_M) - 1, min(len(ids_M), 3 * dim + 256)).astype(np.int64)]
        rows_MF = np.concatenate(
            [features.rows(ids_M, slice(None)), np.ones((len(ids_M), num_biases))], axis=1
        )
        rows_MF *= np.sqrt(share_N[ids_M] / share_N[ids_M].sum() / num_vectors)[:, None] / self._root_F1.T
        square_FF = rows_MF.T @ rows_MF
        # Of all rows the diagonal is 1; of the chosen ones it may be less, also by rounding.
        np.fill_diagonal(square_FF, np.maximum(square_FF.diagonal(), 1) + dim * np.finfo(float).eps)
        self._factor_FF = np.linalg.cholesky(square_FF)

    def variables(self, weight_FK: Array) -> Array:
        """The variables of weights."""
        scaled_FK = weight_FK * self._root_F1
        return scaled_FK if self._factor_FF is None else self._factor_FF.T @ scaled_FK

    def weights(self, variable_FK: Array) -> Array:
        """The weights of variables."""
        return self._solved(variable_FK, trans=1) / self._root_F1

    def gradient(self, gradient_FK: Array) -> Array:
        """The gradient by the variables, from the gradient by the weights."""
        return self._solved(gradient_FK / self._root_F1, trans=0)

    def _solved(self, right_FK: Array, *, trans: int) -> Array:
        if self._factor_FF is None:
            return right_FK
        solved_FK: Array = solve_triangular(
            self._factor_FF, right_FK, lower=True, trans=trans, check_finite=False
        )
        return solved_FK

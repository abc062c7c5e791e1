"""What regressions to a proven optimum share: fitting linear logits.

Shapes: N rows, D features, C classes, K vectors of weights, F = D + 1 with biases (F = D without).
"""

import warnings
from abc import ABC
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from widemax.estimators.base import Array, ProbabilisticClassifier
from widemax.estimators.linear import LinearClassifier
from widemax.estimators.objective import Objective
from widemax.estimators.options import ABOVE_0, AT_LEAST_0, COUNT, SHARE, check_options
from widemax.estimators.penalty import Penalty
from widemax.estimators.products import products
from widemax.estimators.solve import solve


class Regression(LinearClassifier, ProbabilisticClassifier, ABC):
    """Logits W x + b, with one vector of weights for two classes, and the options of the solver."""

    C: float
    l1_ratio: float
    tol: float
    max_iter: int
    random_state: Any

    def _check_options(self) -> None:
        check_options(self, C=ABOVE_0, l1_ratio=SHARE, tol=AT_LEAST_0, max_iter=COUNT)

    def _fit(self, X: Any, labels: Array, weight_N: Array, classes: Array, *, num_vectors: int) -> Self:
        """Fit checked features to class ids [N] or to booleans [N, K]."""
        strength = 1 / (self.C * float(weight_N.sum()))
        penalty = Penalty(l1=self.l1_ratio * strength, l2=(1 - self.l1_ratio) * strength)

        def build(dtype: npt.DTypeLike, ids_M: Array | None) -> Objective:
            some = slice(None) if ids_M is None else ids_M
            return Objective(
                products(X if ids_M is None else X[ids_M], dtype),
                labels[some],
                weight_N[some] / weight_N[some].sum(),
                num_vectors=num_vectors,
                penalty=penalty,
                has_bias=self.fit_intercept,
            )

        weight_FK, optimality, self.n_iter_, reached = solve(
            build,
            self._start(X.shape[1], num_vectors, classes),
            tol=self.tol,
            max_iter=self.max_iter,
            generator=np.random.default_rng(check_random_state(self.random_state).randint(2**31)),
            dtype=X.dtype,
        )
        self.classes_ = classes
        self.coef_ = np.ascontiguousarray(weight_FK[: X.shape[1]].T)
        self.intercept_ = weight_FK[-1].copy() if self.fit_intercept else np.zeros(num_vectors, X.dtype)
        self.objective_ = optimality.objective
        self.gradient_norm_ = optimality.gradient_norm
        self.gap_ = optimality.relative_gap
        if not reached:
            warnings.warn(
                f"stopped after {self.n_iter_} steps at a relative gap of {self.gap_:.2g}, above "
                f"tol={self.tol:g}; raise max_iter or tol, or scale the features.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

"""What linear classifiers solved to an optimum share: their scores, and where a fit starts.

Shapes: N rows, D features, C classes, K = C vectors of weights (1 for two classes), F = D + 1 with biases
(F = D without).
"""

import warnings
from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import validate_data

from widemax.errors import ShapeError
from widemax.estimators.base import (
    DTYPES,
    Array,
    Classifier,
    ClassWeight,
    encoded_labels,
    given_labels,
    weights_of_rows,
    with_class_weight,
)
from widemax.estimators.options import check_options
from widemax.solvers import Solution

_MOST_SHOWN = 5


class LinearClassifier(Classifier, ABC):
    """Scores W x + b, with one vector of weights for two classes.

    Args:
        max_iter: at most so many steps.
        fit_intercept: whether there are biases b.
        class_weight: weight of each class, by class, 1 for those without; "balanced" makes all classes of
            positive weight count alike.
        warm_start: start from the previous solution.

    Attributes:
        coef_: W, [K, D], in the precision of the features.
        intercept_: b, [K].
        n_iter_: steps taken.
        objective_: the value of the objective.
    """

    coef_: Array
    intercept_: Array
    tol: float
    fit_intercept: bool
    class_weight: ClassWeight = None
    warm_start: bool

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Find the optimum.

        Args:
            X: features, [N, D], dense or sparse; float32 and float64 stay as they are.
            y: class of each row, [N].
            sample_weight: weight of each row, [N].

        Raises:
            ConfigError: an option out of its range, or a class_weight of a class that y lacks.
            DataError: fewer than two classes, or no row of positive weight.
            ShapeError: a warm start from other features or classes.
        """
        check_options(self)
        X, y = validate_data(self, X, given_labels(y), accept_sparse="csr", dtype=DTYPES, order="C")
        classes, labels_N = encoded_labels(y)
        weight_N = weights_of_rows(X, sample_weight)
        weight_N = with_class_weight(weight_N, self.class_weight, classes, labels_N)
        start_FK = self._start(X.shape[1], 1 if len(classes) == 2 else len(classes), classes)
        return self._keep(self._solve(X, labels_N, weight_N, start_FK), classes, X.dtype)

    @abstractmethod
    def _solve(self, X: Any, labels: Array, weight_N: Array, start_FK: Array) -> Solution:
        """The optimum for checked features and class ids [N]."""

    def _scores(self, X: Any) -> Array:
        scores_NK: Array = safe_sparse_dot(X, self.coef_.T, dense_output=True) + self.intercept_
        if len(self.coef_) == 1:  # the second of two classes
            return np.concatenate([np.zeros_like(scores_NK), scores_NK], axis=1)
        return scores_NK

    def _start(self, num_features: int, num_vectors: int, classes: Array) -> Array:
        """Weights to start from, [F, K] in float64: the previous ones for a warm start, otherwise 0."""
        weight_FK = np.zeros((num_features + self.fit_intercept, num_vectors))
        if not (self.warm_start and hasattr(self, "coef_")):
            return weight_FK
        if self.coef_.shape[1] != num_features:
            raise ShapeError(
                f"a warm start needs the {self.coef_.shape[1]} features of the previous fit; got "
                f"{num_features}. Set warm_start=False, or fit a new estimator."
            )
        if len(self.coef_) != num_vectors or not np.array_equal(self.classes_, classes):
            raise ShapeError(
                f"a warm start needs y to be as in the previous fit, of {_listed(self.classes_)}; got "
                f"{_listed(classes)}. Set warm_start=False, or fit a new estimator."
            )
        weight_FK[:num_features] = self.coef_.T
        if self.fit_intercept:
            weight_FK[-1] = self.intercept_
        return weight_FK

    def _keep(self, solution: Solution, classes: Array, dtype: Any) -> Self:
        """Set the attributes of a fit; warns where the solver stopped before its tolerance."""
        weight_FK = solution.weight_FK.astype(dtype)
        self.classes_ = classes
        self.coef_ = np.ascontiguousarray(weight_FK[: self.n_features_in_].T)
        self.intercept_ = weight_FK[-1].copy() if self.fit_intercept else np.zeros(weight_FK.shape[1], dtype)
        self.n_iter_, self.objective_, self.gap_ = solution.num_steps, solution.objective, solution.gap
        if not solution.converged:
            warnings.warn(
                f"stopped after {self.n_iter_} steps at a relative gap of {self.gap_:.2g}, above "
                f"tol={self.tol:g}; raise max_iter or tol, or scale the features.",
                ConvergenceWarning,
                stacklevel=4,
            )
        return self


def _listed(classes: Array) -> str:
    shown = ", ".join(map(repr, classes[:_MOST_SHOWN].tolist()))
    return shown if len(classes) <= _MOST_SHOWN else f"{shown} and {len(classes) - _MOST_SHOWN} more"

"""Linear support vector machines of several classes, as a scikit-learn classifier.

Shapes: N rows, D features, C classes, K = C vectors of weights (1 for two classes), F = D + 1 with biases
(F = D without).
"""

import warnings
from collections.abc import Mapping
from typing import Any, Literal, Self, final, get_args

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import validate_data
from torch import Tensor

from widemax.errors import ConfigError, did_you_mean
from widemax.estimators.base import DTYPES, Array, encoded_labels, weights_of_rows
from widemax.estimators.linear import LinearClassifier
from widemax.estimators.margins import MarginLoss, Margins
from widemax.estimators.options import ABOVE_0, AT_LEAST_0, COUNT, check_options
from widemax.estimators.products import products

_SHRINK = 4


@final
class LinearSVM(LinearClassifier):
    """A linear classifier that wants the right class to stand a margin above the wrong ones.

    Minimizes Σ_i ω_i ℓ(W x_i + b, y_i) + λ/2 (‖W‖² + ‖b‖²) with ω_i the share of row i in all weights,
    λ = 1 / (C Σ_i w_i), and ℓ a loss of :mod:`widemax.losses` with margin 1:

    - "crammer_singer": max(0, 1 + max_{j≠y} s_j − s_y), the best wrong class alone;
    - "weston_watkins": Σ_{j≠y} max(0, 1 + s_j − s_y), every wrong class within the margin;
    - "one_vs_rest": Σ_j max(0, 1 − t_j s_j) with t_j = ±1, each class against the rest.

    With two classes all three are the usual hinge of one vector of weights. This is the objective of
    ``sklearn.svm.LinearSVC`` divided by C Σ_i w_i, with ``loss="hinge"`` for one against the rest.

    L-BFGS minimizes a smooth bound from below, whose kinks are rounded over a width, and the width shrinks
    until the certificate ``gap_`` holds: the duality gap at the slopes of the bound.

    There are no probabilities, as a margin is none: ``CalibratedTemperature(LinearSVM())`` gives some. There
    is no ``partial_fit``: an optimum belongs to all rows together; ``warm_start`` begins at the previous one.

    Args:
        loss: "crammer_singer", "weston_watkins" or "one_vs_rest".
        C: inverse strength of the penalty, above 0.
        tol: stop where ``gap_`` is at most this.
        max_iter: at most so many steps.
        fit_intercept: whether there are biases b.
        class_weight: weight of each class, by class; "balanced" makes all classes count alike.
        warm_start: start from the previous solution.

    Attributes:
        classes_: the classes, sorted.
        coef_: W, [K, D], in the precision of the features.
        intercept_: b, [K].
        n_iter_: steps taken.
        n_features_in_: D.
        objective_: the value of the objective.
        gap_: a bound from above on (objective − optimum) / objective.

    Example:
        >>> model = LinearSVM(C=10.0).fit([[0.0], [1.0], [2.0], [3.0]], ["low", "low", "high", "high"])
        >>> model.predict([[0.5], [2.9]]).tolist(), hasattr(model, "predict_proba")
        (['low', 'high'], False)

    Source: Doğan, Glasmachers, Igel, "A Unified View on Multi-class Support Vector Classification", JMLR 2016
        (the losses); Nesterov, "Smooth minimization of non-smooth functions", Math. Program. 2005 (width).
    """

    def __init__(
        self,
        *,
        loss: MarginLoss = "crammer_singer",
        C: float = 1.0,
        tol: float = 1e-3,
        max_iter: int = 1000,
        fit_intercept: bool = True,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        warm_start: bool = False,
    ) -> None:
        self.loss = loss
        self.C = C
        self.tol = tol
        self.max_iter = max_iter
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.warm_start = warm_start

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Find the optimum.

        Args:
            X: features, [N, D], dense or sparse; float32 and float64 stay as they are.
            y: class of each row, [N].
            sample_weight: weight of each row, [N].

        Returns:
            The estimator itself.

        Raises:
            ConfigError: an option out of its range.
            DataError: fewer than two classes, or no row of positive weight.
            ShapeError: a warm start from other features or classes.
        """
        check_options(self, C=ABOVE_0, tol=AT_LEAST_0, max_iter=COUNT)
        if self.loss not in get_args(MarginLoss):
            known = list(get_args(MarginLoss))
            raise ConfigError(
                f"loss must be one of {known}; got {self.loss!r}; {did_you_mean(self.loss, known)}"
            )
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=DTYPES, order="C")
        classes, labels_N = encoded_labels(y)
        weight_N = weights_of_rows(X, y, sample_weight, self.class_weight)
        num_vectors = 1 if len(classes) == 2 else len(classes)
        weight_FK = self._start(X.shape[1], num_vectors, classes)
        weight_FK = self._minimize(X, torch.from_numpy(labels_N), weight_N, weight_FK)
        self.classes_ = classes
        self.coef_ = np.ascontiguousarray(weight_FK[: X.shape[1]].T.astype(X.dtype))
        self.intercept_ = (weight_FK[-1] if self.fit_intercept else np.zeros(num_vectors)).astype(X.dtype)
        return self

    def _minimize(self, X: Any, labels_N: Tensor, weight_N: Array, weight_FK: Array) -> Array:
        problem = Margins(products(X, np.float64), labels_N, weight_N, self.loss, self.C, weight_FK.shape)
        width, steps, value = 1.0, 0, problem.value(weight_FK)
        best_FK, self.objective_, self.gap_ = weight_FK, value, np.inf
        kinks, _ = problem.gap(weight_FK, width)
        while True:
            # Nearer to the optimum of the bound than the bound is to the objective is nearer than needed.
            enough = max(self.tol * value, kinks) / 4
            weight_FK, more = problem.descend(weight_FK, width, enough=enough, max_iter=self.max_iter - steps)
            steps, value = steps + more, problem.value(weight_FK)
            kinks, distance = problem.gap(weight_FK, width)
            share = (kinks + distance) / value if value else kinks + distance
            # Where the width is too small for float64 no stage comes nearer.
            is_nearer = share < self.gap_
            if is_nearer:
                best_FK, self.objective_, self.gap_ = weight_FK, value, share
            self.n_iter_ = steps
            if self.gap_ <= self.tol:
                return best_FK
            if steps >= self.max_iter or not is_nearer:
                warnings.warn(
                    f"stopped after {steps} steps at a relative gap of {self.gap_:.2g}, above "
                    f"tol={self.tol:g}; raise max_iter or tol, or scale the features.",
                    ConvergenceWarning,
                    stacklevel=3,
                )
                return best_FK
            width /= _SHRINK
            kinks /= _SHRINK

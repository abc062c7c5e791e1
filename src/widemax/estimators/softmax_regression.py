"""Softmax regression with a proof of optimality, as a scikit-learn classifier.

Shapes: N rows, D features, C classes, K = C vectors of weights (1 for two classes), F = D + 1.
"""

import warnings
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from widemax.errors import ConfigError, DataError, ShapeError
from widemax.estimators.objective import Objective
from widemax.estimators.penalty import Penalty
from widemax.estimators.products import Array, products
from widemax.estimators.solve import solve
from widemax.numerics import log_softmax


class SoftmaxRegression(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Multinomial logistic regression: a linear model of class probabilities, solved to a proven gap.

    Minimizes Σ_i ω_i (log Z_i − s_i,y) + λ ((1 − r)/2 ‖W‖² + r ‖W‖₁) with s = W x + b, ω_i the share of row i
    in all weights, λ = 1 / (C Σ_i w_i), r = l1_ratio, and b unpenalized. This is the objective of
    ``sklearn.linear_model.LogisticRegression`` divided by C Σ_i w_i; like there, two classes share one vector
    of weights.

    Args:
        C: inverse strength of the penalty, above 0; inf is no penalty.
        l1_ratio: 0 is L2, 1 is L1, between them the elastic net.
        tol: stop where ``gap_`` is at most this; without penalty, where no entry of the gradient is larger.
        max_iter: at most so many steps.
        fit_intercept: whether there are biases b.
        class_weight: weight of each class, by class; "balanced" makes all classes count alike.
        warm_start: start from the previous solution.
        random_state: seed of the rows from which curvature is estimated; the optimum does not depend on it.

    Attributes:
        classes_: the classes, sorted.
        coef_: W, [K, D], in the precision of the features.
        intercept_: b, [K].
        n_iter_: steps taken.
        n_features_in_: D.
        objective_: the value of the objective, in nats a row.
        gradient_norm_: Euclidean length of its gradient; with L1, of its shortest subgradient.
        gap_: a bound from above on (objective − optimum) / objective, by duality; inf without penalty.

    Example:
        >>> import numpy as np
        >>> X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), ["low", "low", "mid", "high"]
        >>> model = SoftmaxRegression(C=10.0).fit(X, y)
        >>> model.predict([[0.5], [3.0]]).tolist(), model.gap_ <= 1e-4
        (['low', 'high'], True)

    Source: Nocedal and Wright, "Numerical Optimization", 2006, alg. 7.4 (L-BFGS); Shalev-Shwartz and Zhang,
        "Accelerated proximal stochastic dual coordinate ascent", 2014, sec. 2 (the duality gap).
    """

    def __init__(
        self,
        *,
        C: float = 1.0,
        l1_ratio: float = 0.0,
        tol: float = 1e-4,
        max_iter: int = 1000,
        fit_intercept: bool = True,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.C = C
        self.l1_ratio = l1_ratio
        self.tol = tol
        self.max_iter = max_iter
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.random_state = random_state

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
            ShapeError: a warm start from weights of another shape.
        """
        self._check_options()
        X, y = validate_data(
            self, X, y, accept_sparse="csr", dtype=[np.float64, np.float32], order="C", multi_output=False
        )
        check_classification_targets(y)
        classes, labels_N = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise DataError(f"y must hold at least two classes; got one class, {classes.tolist()[0]!r}.")
        weight_N = self._weights(X, y, classes, labels_N, sample_weight)
        total = float(weight_N.sum())
        strength = 1 / (self.C * total)
        penalty = Penalty(l1=self.l1_ratio * strength, l2=(1 - self.l1_ratio) * strength)

        def build(dtype: npt.DTypeLike, ids_M: Array | None) -> Objective:
            some = slice(None) if ids_M is None else ids_M
            return Objective(
                products(X if ids_M is None else X[ids_M], dtype),
                labels_N[some],
                weight_N[some] / weight_N[some].sum(),
                num_classes=len(classes),
                penalty=penalty,
                has_bias=self.fit_intercept,
            )

        weight_FK, optimality, self.n_iter_, reached = solve(
            build,
            self._start(X.shape[1], classes),
            tol=self.tol,
            max_iter=self.max_iter,
            generator=np.random.default_rng(check_random_state(self.random_state).randint(2**31)),
            dtype=X.dtype,
        )
        self.classes_ = classes
        self.coef_ = np.ascontiguousarray(weight_FK[: X.shape[1]].T)
        self.intercept_ = weight_FK[-1].copy() if self.fit_intercept else np.zeros(len(self.coef_), X.dtype)
        self.objective_ = optimality.objective
        self.gradient_norm_ = optimality.gradient_norm
        self.gap_ = optimality.relative_gap
        if not reached:
            warnings.warn(
                f"stopped after {self.n_iter_} steps at a relative gap of {self.gap_:.2g}, above "
                f"tol={self.tol:g}; raise max_iter or tol, or scale the features.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def _check_options(self) -> None:
        ranges: tuple[tuple[str, type, Callable[[Any], bool], str], ...] = (
            ("C", Real, lambda value: value > 0, "a number above 0"),
            ("l1_ratio", Real, lambda value: 0 <= value <= 1, "a number in [0, 1]"),
            ("tol", Real, lambda value: value >= 0, "a number of at least 0"),
            ("max_iter", Integral, lambda value: value >= 1, "a whole number of at least 1"),
        )
        for name, kind, inside, words in ranges:
            value = getattr(self, name)
            if not (isinstance(value, kind) and inside(value)):
                raise ConfigError(f"{name} must be {words}; got {value!r}.")

    def _weights(self, X: Any, y: Array, classes: Array, labels_N: Array, sample_weight: Any) -> Array:
        weight_N: Array = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if self.class_weight is not None:
            weight_C = compute_class_weight(
                self.class_weight, classes=classes, y=y, sample_weight=sample_weight
            )
            weight_N = weight_N * weight_C[labels_N]
        if not weight_N.sum() > 0:
            raise DataError("sample_weight and class_weight must leave a row of positive weight; all are 0.")
        return weight_N

    def _start(self, num_features: int, classes: Array) -> Array:
        num_vectors = 1 if len(classes) == 2 else len(classes)
        weight_FK = np.zeros((num_features + self.fit_intercept, num_vectors))
        if not (self.warm_start and hasattr(self, "coef_")):
            return weight_FK
        if self.coef_.shape != (num_vectors, num_features) or not np.array_equal(self.classes_, classes):
            raise ShapeError(
                f"a warm start needs the classes and features of the previous fit, {self.coef_.shape}; got "
                f"{(num_vectors, num_features)} or other classes. Set warm_start=False."
            )
        weight_FK[:num_features] = self.coef_.T
        if self.fit_intercept:
            weight_FK[-1] = self.intercept_
        return weight_FK

    def decision_function(self, X: Any) -> Array:
        """Logits, [N, C]; for two classes those of the second, [N]."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False)
        logits_NK: Array = safe_sparse_dot(X, self.coef_.T, dense_output=True) + self.intercept_
        return logits_NK[:, 0] if len(self.classes_) == 2 else logits_NK

    def predict(self, X: Any) -> Array:
        """The most probable class of each row, [N]."""
        logits = self.decision_function(X)
        best_N = (logits > 0).astype(int) if logits.ndim == 1 else logits.argmax(axis=1)
        classes_N: Array = self.classes_[best_N]
        return classes_N

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of the class probabilities, [N, C]."""
        logits = self.decision_function(X)
        if logits.ndim == 1:
            logits = np.stack([np.zeros_like(logits), logits], axis=1)
        return log_softmax(logits)

    def predict_proba(self, X: Any) -> Array:
        """Class probabilities, [N, C], in the order of ``classes_``."""
        probs_NC: Array = np.exp(self.predict_log_proba(X))
        return probs_NC

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

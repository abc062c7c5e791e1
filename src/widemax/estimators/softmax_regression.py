"""Softmax regression with a proof of optimality, as a scikit-learn classifier.

Shapes: N rows, D features, C classes, K = C vectors of weights (1 for two classes), F = D + 1.
"""

from typing import Any, Self, final

from sklearn.utils.validation import validate_data

from widemax.estimators.base import DTYPES, ClassWeight, encoded_labels, weights_of_rows, with_class_weight
from widemax.estimators.options import Count, NonNegative, PositiveOrInf, Seed, Share, check_options
from widemax.estimators.regression import Regression


@final
class SoftmaxRegression(Regression):
    """Multinomial logistic regression: a linear model of class probabilities, solved to a proven gap.

    Minimizes Σ_i ω_i (log Z_i − s_i,y) + λ ((1 − r)/2 ‖W‖² + r ‖W‖₁) with s = W x + b, ω_i the share of row i
    in all weights, λ = 1 / (C Σ_i w_i), r = l1_ratio, and b unpenalized. This is the objective of
    ``sklearn.linear_model.LogisticRegression`` divided by C Σ_i w_i; like there, two classes share one vector
    of weights. There is no ``partial_fit``: an optimum belongs to all rows together; ``warm_start`` begins at
    the previous one.

    Args:
        C: inverse strength of the penalty, above 0; inf is no penalty.
        l1_ratio: 0 is L2, 1 is L1, between them the elastic net.
        tol: stop where ``gap_`` is at most this; without penalty, where no entry of the gradient is larger.
        max_iter: at most so many steps.
        fit_intercept: whether there are biases b.
        class_weight: weight of each class, by class, 1 for those without; "balanced" makes all classes of
            positive weight count alike.
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
        C: PositiveOrInf = 1.0,
        l1_ratio: Share = 0.0,
        tol: NonNegative = 1e-4,
        max_iter: Count = 1000,
        fit_intercept: bool = True,
        class_weight: ClassWeight = None,
        warm_start: bool = False,
        random_state: Seed = 0,
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
            ConfigError: an option out of its range, or a class_weight of a class that y lacks.
            DataError: fewer than two classes, or no row of positive weight.
            ShapeError: a warm start from weights of another shape.
        """
        check_options(self)
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=DTYPES, order="C")
        classes, labels_N = encoded_labels(y)
        weight_N = weights_of_rows(X, sample_weight)
        weight_N = with_class_weight(weight_N, self.class_weight, classes, labels_N)
        is_binary = len(classes) == 2
        start_FK = self._start(X.shape[1], 1 if is_binary else len(classes), classes)
        solution = self._solve(X, labels_N[:, None] == 1 if is_binary else labels_N, weight_N, start_FK)
        return self._keep(solution, classes, X.dtype)

"""Linear support vector machines of several classes, as a scikit-learn classifier.

Shapes: N rows, D features, C classes, K = C vectors of weights (1 for two classes), F = D + 1 with biases
(F = D without).
"""

from typing import Any, Self, final

from sklearn.utils.validation import validate_data

from widemax.estimators.base import DTYPES, ClassWeight, encoded_labels, weights_of_rows, with_class_weight
from widemax.estimators.linear import LinearClassifier
from widemax.estimators.options import Count, NonNegative, Positive, check_options
from widemax.solvers import HingeLoss, minimize_hinge


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

    L-BFGS minimizes a bound from below, smooth over a width around the breakpoints, and the width shrinks
    until the certificate ``gap_`` holds: the duality gap at the slopes of the bound.

    There are no probabilities, as a margin is none: ``CalibratedTemperature(LinearSVM())`` gives some. There
    is no ``partial_fit``: an optimum belongs to all rows together; ``warm_start`` begins at the previous one.

    Args:
        loss: "crammer_singer", "weston_watkins" or "one_vs_rest".
        C: inverse strength of the penalty, above 0.
        tol: stop where ``gap_`` is at most this.
        max_iter: at most so many steps.
        fit_intercept: whether there are biases b.
        class_weight: weight of each class, by class, 1 for those without; "balanced" makes all classes of
            positive weight count alike.
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
        loss: HingeLoss = "crammer_singer",
        C: Positive = 1.0,
        tol: NonNegative = 1e-3,
        max_iter: Count = 1000,
        fit_intercept: bool = True,
        class_weight: ClassWeight = None,
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
            ConfigError: an option out of its range, or a class_weight of a class that y lacks.
            DataError: fewer than two classes, or no row of positive weight.
            ShapeError: a warm start from other features or classes.
        """
        check_options(self)
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=DTYPES, order="C")
        classes, labels_N = encoded_labels(y)
        weight_N = weights_of_rows(X, sample_weight)
        weight_N = with_class_weight(weight_N, self.class_weight, classes, labels_N)
        start_FK = self._start(X.shape[1], 1 if len(classes) == 2 else len(classes), classes)
        solution = minimize_hinge(
            X,
            labels_N,
            weight_N,
            start_FK,
            loss=self.loss,
            C=self.C,
            tol=self.tol,
            max_iter=self.max_iter,
        )
        return self._keep(solution, classes, X.dtype)

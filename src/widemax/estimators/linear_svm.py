"""Linear support vector machines of several classes, as a scikit-learn classifier.

Shapes: N rows, D features, C classes, K = C vectors of weights (1 for two classes), F = D + 1 with biases
(F = D without).
"""

from typing import Any, final

from widemax.estimators.base import Array, ClassWeight
from widemax.estimators.linear import LinearClassifier
from widemax.estimators.options import NonNegative, Positive, with_options
from widemax.options import AtLeast1
from widemax.solvers import HingeLoss, Solution, minimize_hinge


@final
@with_options
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
    until the certificate ``gap_`` holds: the duality gap at the slopes of the bound. Many sparse rows go to
    scikit-learn's liblinear instead, which has no "weston_watkins", until the duality gap at its dual point
    is small enough; it begins anew also with ``warm_start``.

    There are no probabilities, as a margin is none: ``CalibratedTemperature(LinearSVM())`` gives some. There
    is no ``partial_fit``: an optimum belongs to all rows together; ``warm_start`` begins at the previous one.

    Args:
        loss: "crammer_singer", "weston_watkins" or "one_vs_rest".
        C: inverse strength of the penalty, above 0.
        tol: stop where ``gap_`` is at most this.
        max_iter: at most so many steps, or passes of liblinear, which with Crammer and Singer's loss looks at
            it only where ``tol`` wants it to begin anew.

    Attributes:
        gap_: a bound from above on (objective − optimum) / objective.

    Example:
        >>> model = LinearSVM(C=10.0).fit([[0.0], [1.0], [2.0], [3.0]], ["low", "low", "high", "high"])
        >>> model.predict([[0.5], [2.9]]).tolist(), hasattr(model, "predict_proba")
        (['low', 'high'], False)

    Source: Doğan, Glasmachers, Igel, "A Unified View on Multi-class Support Vector Classification", JMLR 2016
        (the losses); Nesterov, "Smooth minimization of non-smooth functions", Math. Program. 2005 (width).
    """

    loss: HingeLoss = "crammer_singer"
    C: Positive = 1.0
    tol: NonNegative = 1e-3
    max_iter: AtLeast1 = 1000
    fit_intercept: bool = True
    class_weight: ClassWeight = None
    warm_start: bool = False

    def _solve(self, X: Any, labels: Array, weight_N: Array, start_FK: Array) -> Solution:
        return minimize_hinge(
            X, labels, weight_N, start_FK, loss=self.loss, C=self.C, tol=self.tol, max_iter=self.max_iter
        )

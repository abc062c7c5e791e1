"""Softmax regression with a proof of optimality, as a scikit-learn classifier.

Shapes: N rows, D features, C classes, K = C vectors of weights (1 for two classes), F = D + 1.
"""

from typing import final

from widemax.estimators.base import ClassWeight
from widemax.estimators.options import with_options
from widemax.estimators.regression import Regression


@final
@with_options
class SoftmaxRegression(Regression):
    """Multinomial logistic regression: a linear model of class probabilities, solved to a proven gap.

    Minimizes Σ_i ω_i (log Z_i − s_i,y) + λ ((1 − r)/2 ‖W‖² + r ‖W‖₁) with s = W x + b, ω_i the share of row i
    in all weights, λ = 1 / (C Σ_i w_i), r = l1_ratio, and b unpenalized. This is the objective of
    ``sklearn.linear_model.LogisticRegression`` divided by C Σ_i w_i; like there, two classes share one vector
    of weights. There is no ``partial_fit``: an optimum belongs to all rows together; ``warm_start`` begins at
    the previous one.

    Example:
        >>> import numpy as np
        >>> X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), ["low", "low", "mid", "high"]
        >>> model = SoftmaxRegression(C=10.0).fit(X, y)
        >>> model.predict([[0.5], [3.0]]).tolist(), model.gap_ <= 1e-4
        (['low', 'high'], True)

    Source: Nocedal and Wright, "Numerical Optimization", 2006, alg. 7.4 (L-BFGS); Shalev-Shwartz and Zhang,
        "Accelerated proximal stochastic dual coordinate ascent", 2014, sec. 2 (the duality gap).
    """

    class_weight: ClassWeight = None

"""The optimum of a hinge loss of sparse rows by scikit-learn's liblinear, with the dual point that proves it.

Shapes: N rows, D features, C classes, K = C vectors of weights (1 for two classes), F = D + 1 with biases
(F = D without).
"""

import warnings
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, hstack, identity

from widemax.solvers.products import Array

TELLING = 1e-8
"""What each row's own feature is worth: its square vanishes beside that of the row."""


def dual_coordinate_descent(
    features: Any,
    labels: Array,
    row_weight: Array,
    *,
    crammer_singer: bool,
    C: float,
    fit_intercept: bool,
    violation: float,
    max_iter: int,
) -> tuple[Array, Array, int]:
    """Weights W with ½ ‖W‖² + C Σ_i w_i ℓ_i about least, and what each row contributes to them.

    liblinear keeps its dual point to itself. A further feature of each row that no other has gets that row's
    part of it as its weight, so that W is the sum of x_i times row i of what is returned second.

    Args:
        features: CSR, [N, D].
        labels: class ids, [N]; no class lacks.
        row_weight: w, [N], above 0.
        crammer_singer: whether ℓ is Crammer and Singer's loss; otherwise, and for two classes, each class is
            against the rest.
        violation: stop where no dual coordinate wants more.
        max_iter: at most so many passes.

    Returns:
        The weights, [F, K]; the rows' parts, [N, K]; the passes of the class that took most.

    Source: Hsieh et al., "A dual coordinate descent method for large-scale linear SVM", ICML 2008.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    num_rows, num_features = features.shape
    told = csr_matrix(hstack([features, TELLING * identity(num_rows)]), dtype=np.float64)
    model = LinearSVC(
        loss="hinge",
        multi_class="crammer_singer" if crammer_singer and labels.max() > 1 else "ovr",
        C=C,
        fit_intercept=fit_intercept,
        tol=violation,
        max_iter=max_iter,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the gap tells
        model.fit(told, labels, row_weight)
    weight_FK = model.coef_[:, :num_features].T
    if fit_intercept:
        weight_FK = np.concatenate([weight_FK, model.intercept_[None]])
    return weight_FK, model.coef_[:, num_features:].T / TELLING, int(np.max(model.n_iter_))

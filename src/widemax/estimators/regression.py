"""What regressions to a proven optimum share. Shapes: N rows, F features and biases, K vectors of weights."""

from abc import ABC
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from widemax.estimators.base import Array, ProbabilisticClassifier
from widemax.estimators.linear import LinearClassifier
from widemax.estimators.options import NonNegative, PositiveOrInf, Seed, Share, with_options
from widemax.options import AtLeast1
from widemax.solvers import Solution, minimize_cross_entropy


@with_options
class Regression(LinearClassifier, ProbabilisticClassifier, ABC):
    """Logits W x + b, with one vector of weights for two classes, and the options of the solver.

    Args:
        C: inverse strength of the penalty, above 0; inf is no penalty.
        l1_ratio: 0 is L2, 1 is L1, between them the elastic net.
        tol: stop where ``gap_`` is at most this; without penalty, where no entry of the gradient is larger.
        random_state: seed of the rows from which curvature is estimated; the optimum does not depend on it.

    Attributes:
        objective_: the value of the objective, in nats a row.
        gradient_norm_: Euclidean length of its gradient; with L1, of its shortest subgradient.
        gap_: a bound from above on (objective − optimum) / objective, by duality; inf without penalty.
    """

    C: PositiveOrInf = 1.0
    l1_ratio: Share = 0.0
    tol: NonNegative = 1e-4
    max_iter: AtLeast1 = 1000
    fit_intercept: bool = True
    warm_start: bool = False
    random_state: Seed = 0

    def _solve(self, X: Any, labels: Array, weight_N: Array, start_FK: Array) -> Solution:
        """The optimum for checked features and class ids [N] or booleans [N, K]."""
        if labels.ndim == 1 and start_FK.shape[1] == 1:
            labels = labels[:, None] == 1
        solution = minimize_cross_entropy(
            X,
            labels,
            weight_N,
            start_FK,
            C=self.C,
            l1_ratio=self.l1_ratio,
            tol=self.tol,
            max_iter=self.max_iter,
            generator=np.random.default_rng(check_random_state(self.random_state).randint(2**31)),
        )
        self.gradient_norm_ = solution.gradient_norm
        return solution

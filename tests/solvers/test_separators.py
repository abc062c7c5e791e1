"""Dual coordinate descent reaches the optimum that another method finds on the formula itself."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.sparse import random as random_sparse

from widemax.solvers import Separators

PENALTY = 0.7


def objective(weight, rows, own):
    """½ Σ ‖w_c‖² + C Σ max(0, m_ic)², and its gradient."""
    weight = weight.reshape(-1, own.shape[1])
    margins = np.maximum(0, np.where(own, 2, 0) + np.where(own, -1, 1) * (rows @ weight))
    slope = 2 * PENALTY * margins * np.where(own, -1, 1)
    return (weight**2).sum() / 2 + PENALTY * (margins**2).sum(), (weight + rows.T @ slope).ravel()


@pytest.mark.parametrize("num_classes", [2, 5])
def test_sweeps_go_down_to_the_optimum(num_classes: int) -> None:
    rng = np.random.default_rng(0)
    rows = random_sparse(60, 30, 0.2, format="csr", dtype=np.float32, rng=rng)
    rows.data[rows.indptr[7] : rows.indptr[8]] = 0
    rows.eliminate_zeros()
    own = rng.random((60, num_classes)) < 0.4  # none, one or several

    def separators() -> Separators:
        blocks = [(rows[:25], own[:25]), (rows[25:50], own[25:50]), (rows[50:], own[50:])]
        return Separators(blocks, penalty=PENALTY, seed=3)

    def value(found: Separators) -> float:
        return objective(found.weight_FC.double().numpy(), rows, own)[0]

    best = minimize(objective, np.zeros(30 * num_classes), (rows.astype(float), own), jac=True, tol=1e-9)
    found, again = separators(), separators()
    found.sweep()
    assert best.fun * 1.001 < value(found) < 1.5 * best.fun
    for _ in range(300):
        found.sweep()
    assert value(found) == pytest.approx(best.fun, rel=1e-6)
    np.testing.assert_allclose(found.weight_FC.ravel(), best.x, atol=1e-4)
    for _ in range(301):
        again.sweep()
    assert (again.weight_FC == found.weight_FC).all()

"""The duality gap of a smoothed hinge, and its gradient."""

import types

import numpy as np
import pytest
import torch

from widemax.estimators import LinearSVM
from widemax.solvers.hinge import HingeObjective
from widemax.solvers.products import products

LOSSES = ["crammer_singer", "weston_watkins", "one_vs_rest"]


def problem(num_classes=4, num_rows=60):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((num_rows, 5))
    scores = X @ generator.standard_normal((5, num_classes)) + generator.gumbel(size=(num_rows, num_classes))
    return X, scores.argmax(axis=1)


def objective_of(loss, num_classes, X, y):
    shape = (6, 1 if num_classes == 2 else num_classes)
    weight_N = np.linspace(0, 2, len(y))
    return HingeObjective(products(X, np.float64), torch.from_numpy(y), weight_N, loss, 0.3, shape), weight_N


# With two classes the three losses are one.
@pytest.mark.parametrize(("loss", "num_classes"), [*((loss, 4) for loss in LOSSES), (LOSSES[0], 2)])
def test_the_gap_bounds_the_distance_to_the_optimum_and_is_nearer_than_the_bound(loss, num_classes):
    X, y = problem(num_classes)
    objective, weight_N = objective_of(loss, num_classes, X, y)
    best = LinearSVM(loss=loss, C=0.3, tol=1e-4, max_iter=50_000).fit(X, y, sample_weight=weight_N)
    generator = np.random.default_rng(1)
    best_FK = np.concatenate([best.coef_.T, best.intercept_[None]])
    optimum = objective.value(best_FK)
    for width in (1.0, 0.1, 1e-3):
        for weight_FK in (generator.standard_normal(best_FK.shape), best_FK):
            smoothing, distance = objective.gap(weight_FK, width)
            value = objective.value(weight_FK)
            bound, _ = objective.smooth(weight_FK, width)
            assert smoothing + distance >= value - optimum - 1e-6 * optimum
            assert 0 <= smoothing <= value - bound + 1e-11
    found_FK, _ = objective.minimize_smooth(best_FK, 1.0, enough=1e-9, max_iter=1000)
    smoothing, distance = objective.gap(found_FK, 1.0)
    assert smoothing < 0.9 * (objective.value(found_FK) - objective.smooth(found_FK, 1.0)[0])
    # At the minimum of the bound its gradient alone would prove what is not so.
    assert distance < objective.value(found_FK) - optimum <= smoothing + distance


@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_smooth_bound_is_below_and_its_gradient_is_right(loss, num_classes):
    X, y = problem(num_classes)
    shape = (6, 1 if num_classes == 2 else num_classes)
    objective, _ = objective_of(loss, num_classes, X, y)
    weight_FK = np.random.default_rng(1).standard_normal(shape)
    value = objective.value(weight_FK)
    for width in (1.0, 0.1, 1e-3):
        bound, gradient_FK = objective.smooth(weight_FK, width)
        hinges = 1 if loss == "crammer_singer" else num_classes
        assert value - hinges * width / 2 <= bound <= value + 1e-12
        step_FK = 1e-6 * np.random.default_rng(2).standard_normal(shape)
        ahead, behind = (objective.smooth(weight_FK + sign * step_FK, width)[0] for sign in (1, -1))
        assert ahead - behind == pytest.approx(2 * np.vdot(gradient_FK, step_FK), rel=1e-3, abs=1e-13)
        assert ahead - behind != pytest.approx(2 * np.vdot(gradient_FK + 0.01, step_FK), rel=1e-3, abs=1e-13)


def test_the_gap_is_the_objective_less_the_dual_one():
    X, y = problem(2)
    objective, weight_N = objective_of("one_vs_rest", 2, X, y)
    share_N, signs_N = weight_N / weight_N.sum(), 2 * y - 1
    with_ones_NF = np.concatenate([X, np.ones((len(X), 1))], axis=1)
    weight_F1 = np.random.default_rng(1).standard_normal((6, 1))
    lack_N = 1 - signs_N * (with_ones_NF @ weight_F1)[:, 0]
    dual_N = np.clip(lack_N / 0.5, 0, 1)
    sum_F = (share_N * dual_N * signs_N) @ with_ones_NF
    dual = share_N @ dual_N - (sum_F**2).sum() / (2 * objective.strength)
    assert sum(objective.gap(weight_F1, 0.5)) == pytest.approx(objective.value(weight_F1) - dual)


def test_steps_are_few_where_features_are_correlated(monkeypatch):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((400, 3)) @ generator.standard_normal((3, 30))
    X += 0.05 * generator.standard_normal(X.shape)
    y = (X[:, :3] + generator.gumbel(size=(400, 3))).argmax(axis=1)
    objective = HingeObjective(
        products(X, np.float64), torch.from_numpy(y), np.ones(400), "weston_watkins", 1.0, (31, 3)
    )
    start_FK = np.zeros((31, 3))
    _, steps = objective.minimize_smooth(start_FK, 0.1, enough=1e-4, max_iter=2000)
    # The wrong twin: the weights as they are.
    identity = types.SimpleNamespace(weights=np.array, variables=np.array, gradient=np.array)
    monkeypatch.setattr(objective, "change_of_variables", identity)
    _, more = objective.minimize_smooth(start_FK, 0.1, enough=1e-4, max_iter=2000)
    assert 2 * steps < more

"""The duality gap of rounded hinges, and the coordinates in which their valley is round."""

import numpy as np
import pytest
import scipy.sparse
import torch

from widemax.estimators import LinearSVM
from widemax.estimators.margins import Margins, Valley
from widemax.estimators.products import products

LOSSES = ["crammer_singer", "weston_watkins", "one_vs_rest"]


def problem(num_classes=4, num_rows=60):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((num_rows, 5))
    scores = X @ generator.standard_normal((5, num_classes)) + generator.gumbel(size=(num_rows, num_classes))
    return X, scores.argmax(axis=1)


def margins(loss, num_classes, X, y):
    shape = (6, 1 if num_classes == 2 else num_classes)
    weight_N = np.linspace(0, 2, len(y))
    return Margins(products(X, np.float64), torch.from_numpy(y), weight_N, loss, 0.3, shape), weight_N


@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_gap_bounds_the_distance_to_the_optimum_and_is_nearer_than_the_bound(loss, num_classes):
    X, y = problem(num_classes)
    objective, weight_N = margins(loss, num_classes, X, y)
    best = LinearSVM(loss=loss, C=0.3, tol=1e-7, max_iter=50_000).fit(X, y, sample_weight=weight_N)
    generator = np.random.default_rng(1)
    best_FK = np.concatenate([best.coef_.T, best.intercept_[None]])
    optimum = objective.value(best_FK)
    for width in (1.0, 0.1, 1e-3):
        for weight_FK in (generator.standard_normal(best_FK.shape), best_FK):
            kinks, distance = objective.gap(weight_FK, width)
            value = objective.value(weight_FK)
            bound, _ = objective.smooth(weight_FK, width)
            assert kinks + distance >= value - optimum - 1e-6 * optimum
            assert 0 <= kinks <= value - bound + 1e-11
    settled_FK, _ = objective.descend(best_FK, 1.0, enough=1e-9, max_iter=1000)
    kinks, distance = objective.gap(settled_FK, 1.0)
    assert kinks < 0.9 * (objective.value(settled_FK) - objective.smooth(settled_FK, 1.0)[0])
    # At the least of the bound its gradient alone would prove what is not so.
    assert distance < objective.value(settled_FK) - optimum <= kinks + distance


def test_the_gap_is_the_objective_less_the_dual_one():
    X, y = problem(2)
    objective, weight_N = margins("one_vs_rest", 2, X, y)
    share_N, signs_N = weight_N / weight_N.sum(), 2 * y - 1
    with_ones_NF = np.concatenate([X, np.ones((len(X), 1))], axis=1)
    weight_F1 = np.random.default_rng(1).standard_normal((6, 1))
    lack_N = 1 - signs_N * (with_ones_NF @ weight_F1)[:, 0]
    dual_N = np.clip(lack_N / 0.5, 0, 1)
    sum_F = (share_N * dual_N * signs_N) @ with_ones_NF
    dual = share_N @ dual_N - (sum_F**2).sum() / (2 * objective.strength)
    assert sum(objective.gap(weight_F1, 0.5)) == pytest.approx(objective.value(weight_F1) - dual)


def moments(X, share_N, num_vectors, strength):
    with_ones_NF = np.concatenate([X, np.ones((len(X), 1))], axis=1)
    return (with_ones_NF.T * share_N) @ with_ones_NF / num_vectors + strength * np.eye(X.shape[1] + 1)


@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_matrix])
def test_in_its_coordinates_the_moments_are_round(kind):
    X, _ = problem()
    X = X * [1.0, 10.0, 0.01, 1.0, 1.0] + [0.0, 3.0, 0.0, 0.0, 5.0]
    share_N = np.arange(60.0) / np.arange(60.0).sum()
    valley = Valley(products(kind(X), np.float64), share_N, 1e-3, (6, 4))
    columns_FF = valley.weights(np.eye(6))
    expected_FF = moments(X, share_N, 4, 1e-3)
    np.testing.assert_allclose(columns_FF.T @ expected_FF @ columns_FF, np.eye(6), atol=1e-8)
    assert (
        np.abs(columns_FF.T @ moments(X, np.full(60, 1 / 60), 4, 1e-3) @ columns_FF - np.eye(6)).max() > 0.05
    )
    # A row of weight 0 is as if it were not there.
    fewer = Valley(products(kind(X[1:]), np.float64), share_N[1:], 1e-3, (6, 4))
    np.testing.assert_array_equal(fewer.weights(np.eye(6)), columns_FF)


@pytest.mark.parametrize("num_features", [5, 300])
def test_gradients_follow_the_coordinates(num_features):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((60, num_features)) * np.geomspace(0.1, 10, num_features)
    shape = (num_features + 1, 3)
    valley = Valley(products(X, np.float64), np.full(60, 1 / 60), 1e-2, shape)
    weight_FK, gradient_FK = generator.standard_normal((2, *shape))
    np.testing.assert_allclose(valley.weights(valley.places(weight_FK)), weight_FK, atol=1e-10)
    along = np.vdot(valley.slopes(gradient_FK), valley.places(weight_FK))
    assert along == pytest.approx(np.vdot(gradient_FK, weight_FK))
    # More features than rows are scaled alone.
    is_diagonal = np.count_nonzero(valley.weights(np.eye(num_features + 1))) == num_features + 1
    assert is_diagonal == (num_features == 300)


def test_a_feature_that_no_drawn_row_has_is_scaled_by_all_rows():
    X = np.random.default_rng(0).standard_normal((2000, 4))
    X[:, 1] = 0
    X[3, 1] = 100.0
    valley = Valley(products(X, np.float64), np.full(2000, 1 / 2000), 1e-6, (5, 1))
    columns_FF = valley.weights(np.eye(5))
    bends_F = np.diag(columns_FF.T @ moments(X, np.full(2000, 1 / 2000), 1, 1e-6) @ columns_FF)
    assert 0.5 < bends_F.min() <= bends_F.max() < 2


def test_steps_are_few_where_features_go_together():
    generator = np.random.default_rng(0)
    X = generator.standard_normal((400, 3)) @ generator.standard_normal((3, 30))
    X += 0.05 * generator.standard_normal(X.shape)
    y = (X[:, :3] + generator.gumbel(size=(400, 3))).argmax(axis=1)
    objective = Margins(
        products(X, np.float64), torch.from_numpy(y), np.ones(400), "weston_watkins", 1.0, (31, 3)
    )
    start_FK = np.zeros((31, 3))
    _, steps = objective.descend(start_FK, 0.1, enough=1e-4, max_iter=2000)
    # The wrong twin: the weights as they are.
    objective._valley._factor_FF, objective._valley._root_F1 = None, np.ones((31, 1))
    _, more = objective.descend(start_FK, 0.1, enough=1e-4, max_iter=2000)
    assert 2 * steps < more

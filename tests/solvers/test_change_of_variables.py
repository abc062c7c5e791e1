"""Variables in which the second moments of the rows are the identity."""

import numpy as np
import pytest
import scipy.sparse

from widemax.solvers.change_of_variables import ChangeOfVariables
from widemax.solvers.products import products


def moments(X, share_N, num_vectors, strength):
    with_ones_NF = np.concatenate([X, np.ones((len(X), 1))], axis=1)
    return (with_ones_NF.T * share_N) @ with_ones_NF / num_vectors + strength * np.eye(X.shape[1] + 1)


@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_matrix])
def test_in_its_variables_the_moments_are_the_identity(kind):
    X = np.random.default_rng(0).standard_normal((60, 5))
    X = X * [1.0, 10.0, 0.01, 1.0, 1.0] + [0.0, 3.0, 0.0, 0.0, 5.0]
    share_N = np.arange(60.0) / np.arange(60.0).sum()
    change = ChangeOfVariables(products(kind(X), np.float64), share_N, 1e-3, (6, 4))
    columns_FF = change.weights(np.eye(6))
    expected_FF = moments(X, share_N, 4, 1e-3)
    np.testing.assert_allclose(columns_FF.T @ expected_FF @ columns_FF, np.eye(6), atol=1e-8)
    assert (
        np.abs(columns_FF.T @ moments(X, np.full(60, 1 / 60), 4, 1e-3) @ columns_FF - np.eye(6)).max() > 0.05
    )
    # A row of weight 0 is as if it were not there.
    fewer = ChangeOfVariables(products(kind(X[1:]), np.float64), share_N[1:], 1e-3, (6, 4))
    np.testing.assert_array_equal(fewer.weights(np.eye(6)), columns_FF)


@pytest.mark.parametrize("num_features", [5, 300])
def test_gradients_are_those_by_the_variables(num_features):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((60, num_features)) * np.geomspace(0.1, 10, num_features)
    shape = (num_features + 1, 3)
    change = ChangeOfVariables(products(X, np.float64), np.full(60, 1 / 60), 1e-2, shape)
    weight_FK, gradient_FK = generator.standard_normal((2, *shape))
    np.testing.assert_allclose(change.weights(change.variables(weight_FK)), weight_FK, atol=1e-10)
    along = np.vdot(change.gradient(gradient_FK), change.variables(weight_FK))
    assert along == pytest.approx(np.vdot(gradient_FK, weight_FK))
    # More features than rows are scaled alone.
    is_diagonal = np.count_nonzero(change.weights(np.eye(num_features + 1))) == num_features + 1
    assert is_diagonal == (num_features == 300)


def test_a_feature_that_no_drawn_row_has_is_scaled_by_all_rows():
    X = np.random.default_rng(0).standard_normal((2000, 4))
    X[:, 1] = 0
    X[3, 1] = 100.0
    change = ChangeOfVariables(products(X, np.float64), np.full(2000, 1 / 2000), 1e-6, (5, 1))
    columns_FF = change.weights(np.eye(5))
    curvature_F = np.diag(columns_FF.T @ moments(X, np.full(2000, 1 / 2000), 1, 1e-6) @ columns_FF)
    assert 0.5 < curvature_F.min() <= curvature_F.max() < 2

"""TwoLayerNet: its formula, its seed, and passes over parts of the rows."""

import numpy as np
import pytest

from widemax.estimators import SoftmaxRegression, TwoLayerNet


def rings(num_rows=300):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((num_rows, 2))
    return X, (np.linalg.norm(X, axis=1) > 1.2).astype(int)


def test_it_learns_what_no_linear_model_can():
    X, y = rings()
    assert TwoLayerNet(hidden_units=32, epochs=100, learning_rate=0.01).fit(X, y).score(X, y) > 0.95
    assert SoftmaxRegression().fit(X, y).score(X, y) < 0.7


def test_its_logits_are_those_of_the_formula():
    X, y = rings()
    model = TwoLayerNet(epochs=2).fit(X, np.where(X[:, 0] > 0.5, 2, y))
    hidden = np.maximum(X @ model.hidden_coef_.T + model.hidden_intercept_, 0)
    np.testing.assert_allclose(
        model.decision_function(X), hidden @ model.coef_.T + model.intercept_, atol=1e-12
    )
    assert model.hidden_coef_.shape == (128, 2)


def test_the_seed_decides_all():
    X, y = rings()
    first, again, other = (TwoLayerNet(epochs=2, random_state=seed).fit(X, y) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.coef_, again.coef_)
    assert np.abs(first.coef_ - other.coef_).max() > 1e-4


def test_weights_are_rows_in_a_whole_batch():
    X, y = rings(60)
    times = np.random.default_rng(1).integers(0, 4, len(y))
    options = {"batch_size": 1000, "epochs": 20, "hidden_units": 8}
    weighted = TwoLayerNet(**options).fit(X, y, sample_weight=times)
    repeated = TwoLayerNet(**options).fit(X.repeat(times, axis=0), y.repeat(times))
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-6)
    assert np.abs(weighted.coef_ - TwoLayerNet(**options).fit(X, y).coef_).max() > 1e-3


def test_passes_go_on_where_the_last_ended():
    X, y = rings()
    model = TwoLayerNet(learning_rate=0.01).partial_fit(X, y)
    early = model.score(X, y)
    for _ in range(50):
        model.partial_fit(X, y)
    assert model.score(X, y) > max(early, 0.9)


def test_weights_decay():
    X, y = rings()
    free, held = (TwoLayerNet(weight_decay=decay).fit(X, y) for decay in (0.0, 10.0))
    assert np.abs(held.hidden_coef_).sum() < np.abs(free.hidden_coef_).sum() / 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_computes_in_the_precision_of_the_rows(dtype):
    X, y = rings()
    model = TwoLayerNet(epochs=1).fit(X.astype(dtype), y)
    assert (
        model.coef_.dtype == model.hidden_coef_.dtype == model.predict_proba(X.astype(dtype)).dtype == dtype
    )

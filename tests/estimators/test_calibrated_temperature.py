"""CalibratedTemperature: the least held-out loss, frozen classifiers, those without probabilities."""

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.naive_bayes import GaussianNB

from widemax.errors import DataError
from widemax.estimators import CalibratedTemperature, LinearSVM, NearestNeighborsClassifier, SoftmaxRegression


def problem(num_rows=400, num_classes=3):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((num_rows, 4))
    scores = X @ generator.standard_normal((4, num_classes)) + generator.gumbel(size=(num_rows, num_classes))
    return X, scores.argmax(axis=1)


def nll(model, X, y):
    return -model.predict_log_proba(X)[np.arange(len(y)), y].mean()


@pytest.mark.parametrize("num_classes", [2, 3])
def test_logits_blown_up_tenfold_are_brought_back(num_classes):
    X, y = problem(num_classes=num_classes)
    inner = SoftmaxRegression(C=1e3, tol=1e-8).fit(X, y)
    inner.coef_, inner.intercept_ = 10 * inner.coef_, 10 * inner.intercept_
    model = CalibratedTemperature(FrozenEstimator(inner)).fit(X, y)
    assert 9 < model.temperature_ < 10
    np.testing.assert_array_equal(model.predict(X), inner.predict(X))
    assert nll(model, X, y) < nll(inner, X, y) / 2


def test_the_temperature_is_the_best_of_held_out_rows():
    X, y = problem()
    folds = StratifiedKFold(4)
    model = CalibratedTemperature(SoftmaxRegression(C=1e3), cv=folds).fit(X, y)

    def held_out(temperature):
        total = 0.0
        for train, rest in folds.split(X, y):
            logits = SoftmaxRegression(C=1e3).fit(X[train], y[train]).decision_function(X[rest]) / temperature
            total += (np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(rest)), y[rest]]).sum()
        return total

    best = held_out(model.temperature_)
    assert best < min(held_out(model.temperature_ * 1.05), held_out(model.temperature_ / 1.05))


def test_a_frozen_classifier_stays_as_it_is():
    X, y = problem()
    inner = SoftmaxRegression().fit(X[:200], y[:200])
    before = inner.coef_.copy()
    model = CalibratedTemperature(FrozenEstimator(inner)).fit(X[200:], y[200:])
    np.testing.assert_array_equal(model.estimator_.coef_, before)
    np.testing.assert_allclose(
        model.decision_function(X), inner.predict_log_proba(X) / model.temperature_, atol=1e-12
    )


@pytest.mark.parametrize(
    "inner", [LinearSVM(tol=0.05), NearestNeighborsClassifier(), GaussianNB(), LogisticRegression()], ids=str
)
@pytest.mark.parametrize("num_classes", [2, 3])
def test_any_classifier_gets_better_probabilities(inner, num_classes):
    X, y = problem(num_classes=num_classes)
    model = CalibratedTemperature(inner).fit(X[:200], y[:200])
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)
    assert nll(model, X[200:], y[200:]) < np.log(num_classes)
    np.testing.assert_array_equal(model.predict(X), model.estimator_.predict(X))


def test_weights_of_rows_count():
    X, y = problem()
    inner = FrozenEstimator(SoftmaxRegression().fit(X, y))
    weight = np.where(inner.predict(X) == y, 1.0, 5.0)
    doubting, plain = CalibratedTemperature(inner).fit(X, y, weight), CalibratedTemperature(inner).fit(X, y)
    assert doubting.temperature_ > 2 * plain.temperature_


def test_rows_of_a_class_never_fitted_are_left_out():
    X, y = problem()
    inner = SoftmaxRegression().fit(X[y < 2], y[y < 2])
    model = CalibratedTemperature(FrozenEstimator(inner)).fit(X[y < 2], y[y < 2])
    with pytest.raises(DataError, match="no held-out row has a class"):
        CalibratedTemperature(FrozenEstimator(inner)).fit(X[y < 2], y[y < 2] + 5)
    assert model.classes_.tolist() == [0, 1]


def test_a_frozen_classifier_of_more_classes_keeps_them():
    X, y = problem()
    inner = SoftmaxRegression().fit(X, y)
    model = CalibratedTemperature(FrozenEstimator(inner)).fit(X[y < 2], y[y < 2])
    assert model.classes_.tolist() == [0, 1, 2]
    assert model.predict_proba(X).shape == (len(X), 3)

"""Weights of rows reach the estimators through scikit-learn's pipelines and cross-validation."""

import inspect

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import widemax.estimators
from widemax.estimators import (
    CalibratedTemperature,
    LinearSVM,
    SampledSoftmaxClassifier,
    SigmoidClassifier,
    SoftmaxRegression,
    TwoLayerNet,
)

TAKES = [
    CalibratedTemperature(),
    LinearSVM(),
    SampledSoftmaxClassifier(epochs=3),
    SigmoidClassifier(),
    SoftmaxRegression(),
    TwoLayerNet(hidden_units=8, epochs=3),
]
each = pytest.mark.parametrize("member", TAKES, ids=lambda member: type(member).__name__)


@pytest.fixture(autouse=True)
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def problem():
    generator = np.random.default_rng(0)
    labels = generator.integers(3, size=90)
    return generator.normal(labels[:, None], 1.0, (90, 4)), labels, generator.integers(1, 9, 90).astype(float)


def scores(model, X):
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.decision_function(X)


def test_every_estimator_that_takes_weights_is_in_the_table():
    kinds = [getattr(widemax.estimators, name) for name in widemax.estimators.__all__]
    takes = {kind for kind in kinds if "sample_weight" in inspect.signature(kind.fit).parameters}
    assert {type(member) for member in TAKES} == takes


@each
def test_a_pipeline_hands_the_weights_on(member):
    X, y, weight = problem()
    scaler = StandardScaler().set_fit_request(sample_weight=False)

    def fitted(**given):
        asking = clone(member).set_fit_request(sample_weight=True)
        return make_pipeline(clone(scaler), asking).fit(X, y, **given)[-1]

    scaled = scaler.fit_transform(X)
    routed = scores(fitted(sample_weight=weight), scaled)
    np.testing.assert_array_equal(routed, scores(clone(member).fit(scaled, y, sample_weight=weight), scaled))
    assert np.abs(routed - scores(fitted(), scaled)).max() > 1e-6


@each
def test_cross_validation_hands_the_weights_of_each_fold_on(member):
    X, y, weight = problem()
    options = {"cv": 3, "return_estimator": True, "return_indices": True}

    def folds(fit_asks):
        asking = clone(member).set_fit_request(sample_weight=fit_asks).set_score_request(sample_weight=True)
        return cross_validate(asking, X, y, params={"sample_weight": weight}, error_score="raise", **options)

    found, without = folds(True), folds(False)
    for fold, (model, train, test) in enumerate(
        zip(found["estimator"], found["indices"]["train"], found["indices"]["test"], strict=True)
    ):
        direct = clone(member).fit(X[train], y[train], sample_weight=weight[train])
        np.testing.assert_array_equal(scores(model, X), scores(direct, X))
        right = direct.predict(X[test]) == y[test]
        assert found["test_score"][fold] == pytest.approx(np.average(right, weights=weight[test]))
        assert np.abs(scores(model, X) - scores(without["estimator"][fold], X)).max() > 1e-6


@each
def test_weights_without_a_request_are_refused(member):
    X, y, weight = problem()
    with pytest.raises(ValueError, match="sample_weight"):
        make_pipeline(StandardScaler(), clone(member)).fit(X, y, sample_weight=weight)


def test_none_transforms():
    kinds = [getattr(widemax.estimators, name) for name in widemax.estimators.__all__]
    assert not any(hasattr(kind, "transform") or hasattr(kind, "set_output") for kind in kinds)

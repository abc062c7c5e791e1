"""Weights of rows and classes, over all estimators that take them."""

import re
from fractions import Fraction

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.class_weight import compute_class_weight

from widemax.errors import ConfigError, DataError
from widemax.estimators import (
    CalibratedTemperature,
    LinearSVM,
    SampledSoftmaxClassifier,
    SigmoidClassifier,
    SoftmaxRegression,
    TwoLayerNet,
)

WEIGHED = [
    CalibratedTemperature(),
    LinearSVM(),
    SampledSoftmaxClassifier(epochs=20, learning_rate=1.0),
    SigmoidClassifier(),
    SoftmaxRegression(),
    SoftmaxRegression(l1_ratio=0.5),
    TwoLayerNet(hidden_units=8, epochs=20, learning_rate=0.02),
]
LINEAR = [LinearSVM(tol=1e-4), SoftmaxRegression(tol=1e-8), SoftmaxRegression(l1_ratio=0.5, tol=1e-6)]
each = pytest.mark.parametrize("member", WEIGHED, ids=str)
each_linear = pytest.mark.parametrize("member", LINEAR, ids=str)


def rows(num_rows=90):
    generator = np.random.default_rng(0)
    labels = np.arange(num_rows) % 3
    return generator.normal(labels[:, None], 1.0, (num_rows, 2)), np.array(["a", "b", "c"])[labels]


@each
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({3: -1.0}, "[Nn]egative"),
        ({3: np.nan}, "NaN"),
        ({3: np.inf}, "infinity"),
        ({3: 1e308, 4: 1e308}, "a finite sum; the sum is inf"),
        (
            dict.fromkeys(range(90), 0.0),
            "a row of positive weight, and a finite sum; the sum is 0|at least one non-zero",
        ),
    ],
    ids=["negative", "nan", "inf", "overflow", "zero"],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sample_weights_that_cannot_be_are_refused(member, weights, message, dtype):
    X, y = rows()
    weight = np.ones(len(y))
    weight[list(weights)] = list(weights.values())
    with pytest.raises(ValueError, match=message):
        clone(member).fit(X.astype(dtype), y, sample_weight=weight)
    if hasattr(member, "partial_fit"):
        with pytest.raises(ValueError, match=message):
            clone(member).partial_fit(X.astype(dtype), y, sample_weight=weight)


@each
def test_as_many_sample_weights_as_rows(member):
    X, y = rows()
    with pytest.raises(ValueError, match=r"sample_weight.shape == \(89,\), expected \(90,\)"):
        clone(member).fit(X, y, sample_weight=np.ones(89))


@each
def test_a_class_of_no_weight_is_allowed_and_not_predicted(member):
    X, y = rows()
    model = clone(member).fit(X, y, sample_weight=np.where(y == "c", 0.0, 1.0))
    assert model.classes_.tolist() == ["a", "b", "c"]
    assert set(model.predict(X)) == {"a", "b"}
    scores = model.predict_proba(X) if hasattr(model, "predict_proba") else model.decision_function(X)
    assert np.isfinite(scores).all()


@each_linear
def test_balanced_classes_weigh_alike(member):
    X, y = rows()
    weight = np.linspace(0.1, 3, len(y)) * np.where(y == "a", 5, 1)
    weight_C = compute_class_weight("balanced", classes=np.unique(y), y=y, sample_weight=weight)
    factor = dict(zip("abc", weight_C, strict=True))
    balanced = clone(member).set_params(class_weight="balanced").fit(X, y, sample_weight=weight)
    by_hand = clone(member).fit(X, y, sample_weight=weight * [factor[name] for name in y])
    np.testing.assert_allclose(balanced.coef_, by_hand.coef_, atol=1e-6)
    assert np.abs(balanced.coef_ - clone(member).fit(X, y, sample_weight=weight).coef_).max() > 1e-3


@each_linear
def test_a_class_of_no_weight_counts_nothing_in_the_balance(member):
    X, y = rows()
    weight = np.where(y == "c", 0.0, np.where(y == "a", 3.0, 1.0))
    model = clone(member).set_params(class_weight="balanced").fit(X, y, sample_weight=weight)
    # Both classes get half of the sum, 30 · 3 + 30 · 1, over their 30 rows.
    alike = clone(member).fit(X, y, sample_weight=np.where(y == "c", 0.0, 2.0))
    np.testing.assert_allclose(model.coef_, alike.coef_, atol=1e-6)


@each_linear
def test_a_table_weighs_the_classes_it_names(member):
    X, y = rows()
    for weight_of in ({"a": 5.0}, {"a": 5, "b": Fraction(1, 2), "c": np.float32(0)}):
        model = clone(member).set_params(class_weight=weight_of).fit(X, y)
        weight = np.array([float(weight_of.get(name, 1)) for name in y])
        np.testing.assert_allclose(
            model.coef_, clone(member).fit(X, y, sample_weight=weight).coef_, atol=1e-6
        )


@each_linear
@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({"a": -1.0}, "finite numbers of at least 0; got -1.0 for class 'a'"),
        ({"b": float("nan")}, "finite numbers of at least 0; got nan for class 'b'"),
        ({"b": float("inf")}, "finite numbers of at least 0; got inf for class 'b'"),
        ({"b": "2"}, "finite numbers of at least 0; got '2' for class 'b'"),
        ({"a": 1.0, "d": 2.0}, "must name classes of y; got 'd'; choose one of ['a', 'b', 'c']"),
        ({"a": 1.0, "b": 1.0, "c": 1.0, "cc": 1.0}, "must name classes of y; got 'cc'; did you mean 'c'?"),
        ("balence", "'balanced' or None; got 'balence'; did you mean 'balanced'?"),
        ([1.0, 2.0, 3.0], "must be a table or 'balanced' or None; got [1.0, 2.0, 3.0]."),
    ],
    ids=str,
)
def test_class_weights_that_cannot_be_are_refused(member, class_weight, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        clone(member).set_params(class_weight=class_weight).fit(*rows())


@each_linear
def test_no_weight_at_all_is_refused(member):
    X, y = rows()
    for options, weight in (
        ({"class_weight": dict.fromkeys("abc", 0.0)}, None),
        ({"class_weight": {"a": 0.0}}, np.where(y == "a", 1.0, 0.0)),
        ({"class_weight": {"a": 1e308}}, np.full(len(y), 1e300)),
    ):
        with pytest.raises(
            DataError, match="sample_weight and class_weight must leave a row of positive weight"
        ):
            clone(member).set_params(**options).fit(X, y, sample_weight=weight)

"""Where a fit of a linear classifier starts."""

import numpy as np
import pytest

from widemax.errors import ShapeError
from widemax.estimators import LinearSVM, SigmoidClassifier, SoftmaxRegression

each = pytest.mark.parametrize("kind", [LinearSVM, SigmoidClassifier, SoftmaxRegression])


def problem(num_classes=3):
    generator = np.random.default_rng(0)
    labels = generator.integers(num_classes, size=120)
    return generator.normal(labels[:, None], 1.0, (120, 4)), np.array(list("abcdefgh"))[labels]


@each
@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_warm_start_begins_at_the_previous_weights(kind, num_classes, fit_intercept):
    X, y = problem(num_classes)
    model = kind(warm_start=True, fit_intercept=fit_intercept).fit(X, y)
    cold, optimum = model.n_iter_, model.objective_
    model.fit(X, y)
    # The stages of LinearSVM begin anew; the others are at the optimum already.
    assert model.n_iter_ < cold if kind is LinearSVM else model.n_iter_ == 0
    assert model.objective_ == pytest.approx(optimum, rel=1e-3)
    assert model.set_params(warm_start=False).fit(X, y).n_iter_ == cold


@each
def test_a_warm_start_from_elsewhere_is_refused(kind):
    X, y = problem()
    model = kind(warm_start=True).fit(X, y)
    with pytest.raises(ShapeError, match=r"the 4 features of the previous fit; got 3\. Set warm_start=False"):
        model.fit(X[:, :3], y)
    for other in (np.where(y == "a", "z", y), np.where(y == "a", "b", y)):
        classes = ", ".join(map(repr, np.unique(other).tolist()))
        with pytest.raises(ShapeError, match=f"of 'a', 'b', 'c'; got {classes}. Set warm_start=False"):
            model.fit(X, other)
    # A cold start takes both.
    assert model.set_params(warm_start=False).fit(X[:, :3], np.where(y == "a", "z", y)).classes_[-1] == "z"


def test_of_many_classes_a_few_are_named():
    X, y = problem(8)
    model = SoftmaxRegression(warm_start=True).fit(X, y)
    with pytest.raises(ShapeError, match="of 'a', 'b', 'c', 'd', 'e' and 3 more; got 'a', 'b'"):
        model.fit(X, np.where(y == "a", "a", "b"))


def test_two_labels_are_not_two_classes():
    X, y = problem(2)
    model = SigmoidClassifier(warm_start=True).fit(X, (y == "a").astype(int))
    with pytest.raises(ShapeError, match="needs y to be as in the previous fit"):
        model.fit(X, np.stack([y == "a", y == "b"], axis=1))

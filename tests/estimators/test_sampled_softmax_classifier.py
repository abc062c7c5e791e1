"""SampledSoftmaxClassifier: draws, classes that come later, and exact answers."""

import numpy as np
import pytest

from widemax.errors import ConfigError
from widemax.estimators import SampledSoftmaxClassifier, SoftmaxRegression


def many(num_classes=1000, per_class=4, dim=32):
    """Rows around a direction a class."""
    generator = np.random.default_rng(0)
    centers = generator.standard_normal((num_classes, dim)).astype(np.float32)
    labels = np.arange(num_classes).repeat(per_class)
    noise = generator.standard_normal((len(labels), dim)).astype(np.float32)
    return centers[labels] + 0.3 * noise, labels


def test_a_draw_of_classes_teaches_all():
    X, y = many()
    model = SampledSoftmaxClassifier(num_sampled=100, epochs=20).fit(X, y)
    assert model.score(X, y) > 0.9
    untaught = SampledSoftmaxClassifier(num_sampled=100, epochs=20).fit(
        X, np.random.default_rng(1).permutation(y)
    )
    assert untaught.score(X, y) < 0.05  # the wrong twin


def test_its_best_are_exact_over_all_classes():
    X, y = many(500)
    model = SampledSoftmaxClassifier(num_sampled=50, epochs=2).fit(X, y)
    probs = model.predict_proba(X)
    np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=1e-5)
    classes, best = model.top_k(X, 5)
    np.testing.assert_array_equal(classes, np.argsort(-probs, axis=1, kind="stable")[:, :5])
    np.testing.assert_allclose(best, -np.sort(-probs, axis=1)[:, :5], rtol=1e-4)
    np.testing.assert_allclose(model.decision_function(X), X @ model.coef_.T + model.intercept_, atol=1e-4)


def test_with_few_classes_it_nears_the_optimum():
    X, y = many(5, 100)
    optimum = SoftmaxRegression(C=1e3).fit(X, y)
    model = SampledSoftmaxClassifier(epochs=50).fit(X, y)
    np.testing.assert_array_equal(model.predict(X), optimum.predict(X))


@pytest.mark.parametrize("num_sampled", [50, 5000])
def test_new_classes_join_and_old_ones_stay(num_sampled):
    X, y = many(400)
    old = y < 300
    model = SampledSoftmaxClassifier(num_sampled=num_sampled, epochs=20).fit(X[old], y[old])
    before = model.score(X[old], y[old])
    for _ in range(20):
        model.partial_fit(X[~old], y[~old])
    assert model.classes_.tolist() == list(range(400))
    assert model.coef_.shape == (400, 32)
    assert before > 0.9
    assert model.score(X[~old], y[~old]) > 0.9
    assert model.score(X[old], y[old]) > 0.8


def test_classes_that_sort_before_the_known_ones_keep_their_names():
    X, y = many(3, 50)
    names = np.array(["m", "z", "a"])[y]
    model = SampledSoftmaxClassifier().partial_fit(X[:100], names[:100])
    for _ in range(20):
        model.partial_fit(X, names)
    assert model.classes_.tolist() == ["m", "z", "a"]
    assert model.score(X, names) == 1
    wrong = np.sort(model.classes_)[model.decision_function(X).argmax(axis=1)]  # the wrong twin
    assert (wrong == names).mean() < 0.5


def test_classes_may_be_named_before_they_come():
    X, y = many(3, 50)
    model = SampledSoftmaxClassifier().partial_fit(X[:100], y[:100], classes=[0, 1, 2])
    assert model.predict_proba(X).shape == (150, 3)


def test_the_seed_decides_all():
    X, y = many(300)
    first, again, other = (
        SampledSoftmaxClassifier(num_sampled=20, epochs=1, random_state=seed).fit(X, y) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.coef_, again.coef_)
    assert np.abs(first.coef_ - other.coef_).max() > 1e-3


def test_another_sampler_is_taken():
    X, y = many(300)
    options = {"num_sampled": 20, "epochs": 1}
    uniform = SampledSoftmaxClassifier(**options).fit(X, y)
    other = SampledSoftmaxClassifier(sampler="log_uniform", **options).fit(X, y)
    assert np.abs(uniform.coef_ - other.coef_).max() > 1e-3
    with pytest.raises(ConfigError):
        SampledSoftmaxClassifier(sampler="frequency", **options).fit(X, y)


@pytest.mark.slow
def test_a_million_classes_and_one_more():
    num_classes, dim = 1_000_000, 32
    generator = np.random.default_rng(0)
    directions = generator.standard_normal((num_classes, dim)).astype(np.float32)

    def rows(count):
        """Small classes are frequent."""
        labels = (generator.random(count) ** 4 * num_classes).astype(np.int64)
        return directions[labels] + 0.1 * generator.standard_normal((count, dim)).astype(np.float32), labels

    model = SampledSoftmaxClassifier(learning_rate=0.5)
    X, y = rows(50_000)
    model.partial_fit(X, y, classes=np.arange(num_classes))
    assert model.coef_.shape == (num_classes, dim)
    X, y = rows(500)
    is_frequent = y < 1000
    assert model.score(X[is_frequent], y[is_frequent]) > 0.9
    assert model.score(-X[is_frequent], y[is_frequent]) < 0.1  # the wrong twin
    new = generator.standard_normal(dim) + 0.1 * generator.standard_normal((512, dim))
    model.partial_fit(new[:256], np.full(256, num_classes))
    classes, probs = model.top_k(new[256:], 3)
    assert (classes[:, 0] == num_classes).mean() > 0.9
    assert (probs.sum(axis=1) <= 1).all()

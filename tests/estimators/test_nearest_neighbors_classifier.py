"""NearestNeighborsClassifier: the neighbors of a plain float64 search and their votes."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from widemax.errors import DataError
from widemax.estimators import NearestNeighborsClassifier


def problem(seed=0):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((300, 6)) + 3
    return X[:250], generator.integers(4, size=250), X[250:]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("n_neighbors", [1, 5])
def test_it_is_the_plain_search(metric, n_neighbors):
    X, y, queries = problem()
    model = NearestNeighborsClassifier(n_neighbors=n_neighbors, metric=metric).fit(X, y)
    peer = KNeighborsClassifier(n_neighbors, metric=metric, algorithm="brute").fit(X, y)
    distances, ids = model.kneighbors(queries)
    peer_distances, peer_ids = peer.kneighbors(queries)
    np.testing.assert_array_equal(ids, peer_ids)
    np.testing.assert_allclose(distances, peer_distances, atol=1e-12)
    np.testing.assert_allclose(model.predict_proba(queries), peer.predict_proba(queries))
    np.testing.assert_array_equal(model.predict(queries), peer.predict(queries))


def test_the_two_metrics_differ():
    X, y, queries = problem()
    euclidean, cosine = (NearestNeighborsClassifier(metric=m).fit(X, y) for m in ("euclidean", "cosine"))
    assert (euclidean.kneighbors(queries)[1] != cosine.kneighbors(queries)[1]).any()


def test_of_equally_near_rows_the_first_counts():
    model = NearestNeighborsClassifier(n_neighbors=1).fit([[1.0], [-1.0], [1.0]], ["right", "left", "other"])
    assert model.kneighbors([[0.0], [2.0]])[1].tolist() == [[0], [0]]
    assert model.predict([[0.0], [-0.1]]).tolist() == ["right", "left"]


def test_of_equal_votes_the_first_class_wins():
    model = NearestNeighborsClassifier(n_neighbors=2).fit([[0.0], [1.0]], ["b", "a"])
    assert model.predict([[0.1]]).tolist() == ["a"]
    assert model.predict_proba([[0.1]]).tolist() == [[0.5, 0.5]]


def test_with_few_rows_all_vote():
    model = NearestNeighborsClassifier(n_neighbors=9).fit([[0.0], [1.0], [5.0]], [0, 0, 1])
    np.testing.assert_allclose(model.predict_proba([[5.0]]), [[2 / 3, 1 / 3]])


def test_rows_added_later_are_found():
    X, y, queries = problem()
    whole = NearestNeighborsClassifier().fit(X, y)
    parts = (
        NearestNeighborsClassifier().partial_fit(X[:100], y[:100], classes=[7]).partial_fit(X[100:], y[100:])
    )
    np.testing.assert_array_equal(parts.kneighbors(queries)[1], whole.kneighbors(queries)[1])
    np.testing.assert_array_equal(parts.predict(queries), whole.predict(queries))
    assert parts.classes_.tolist() == [0, 1, 2, 3, 7]
    added = parts.partial_fit(queries[:1], [5])
    assert added.set_params(n_neighbors=1).predict(queries[:1]).tolist() == [5]


def test_numbers_beyond_float32_are_refused():
    with pytest.raises(DataError, match="float32"):
        NearestNeighborsClassifier().fit([[1e300], [0.0]], [0, 1])

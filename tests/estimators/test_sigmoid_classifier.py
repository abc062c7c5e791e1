"""SigmoidClassifier: a logistic regression a label, the certificate, and what it answers."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.sparse
from sklearn.datasets import make_multilabel_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, hamming_loss
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import MultiLabelBinarizer, StandardScaler

from widemax.data import at_hand, resolve
from widemax.errors import DataError
from widemax.estimators import SigmoidClassifier, SoftmaxRegression


def problem():
    return make_multilabel_classification(200, 12, n_classes=5, random_state=0)


@pytest.mark.parametrize("options", [{}, {"C": 0.01}, {"fit_intercept": False}])
def test_it_is_a_logistic_regression_a_label(options):
    X, Y = problem()
    model = SigmoidClassifier(tol=1e-10, **options).fit(X, Y)
    peers = [LogisticRegression(tol=1e-10, solver="newton-cg", **options).fit(X, y) for y in Y.T]
    np.testing.assert_allclose(model.coef_, [peer.coef_[0] for peer in peers], atol=1e-5)
    np.testing.assert_allclose(model.predict_proba(X)[:, 2], peers[2].predict_proba(X)[:, 1], atol=1e-5)
    np.testing.assert_array_equal(model.predict(X), np.stack([peer.predict(X) for peer in peers], axis=1))
    assert model.gap_ <= 1e-10


@pytest.mark.parametrize("options", [{}, {"l1_ratio": 0.5, "C": 0.1}, {"l1_ratio": 1.0, "C": 0.1}])
def test_the_gap_bounds_the_distance_to_the_optimum(options):
    X, Y = problem()
    X = X / X.std(axis=0)
    optimum = SigmoidClassifier(tol=1e-11, max_iter=50_000, **options).fit(X, Y).objective_
    distances = []
    for tol in (0.3, 0.1, 0.01, 1e-4):
        model = SigmoidClassifier(tol=tol, max_iter=50_000, **options).fit(X, Y)
        distances.append((model.objective_ - optimum) / model.objective_)
        assert tol >= model.gap_ >= distances[-1] - 1e-11
    assert distances[0] > 1e-4


def test_labels_are_no_classes():
    """The wrong twin: probabilities of labels need not sum to 1, those of classes do."""
    X, Y = problem()
    sums = SigmoidClassifier().fit(X, Y).predict_proba(X).sum(axis=1)
    assert sums.std() > 0.1
    y = Y.argmax(axis=1)
    np.testing.assert_allclose(SigmoidClassifier().fit(X, y).predict_proba(X).sum(axis=1), 1)


def test_of_one_class_a_row_it_is_one_against_the_rest():
    X, Y = problem()
    y = np.array(["a", "b", "c", "d", "e"])[Y.argmax(axis=1)]
    model = SigmoidClassifier(tol=1e-10).fit(X, y)
    peer = OneVsRestClassifier(LogisticRegression(tol=1e-10, solver="newton-cg")).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X), peer.predict_proba(X), atol=1e-5)
    np.testing.assert_array_equal(model.predict(X), peer.predict(X))


def test_of_two_classes_it_is_softmax_regression():
    X, Y = problem()
    mine, other = (kind(tol=1e-10).fit(X, Y[:, 0]) for kind in (SigmoidClassifier, SoftmaxRegression))
    np.testing.assert_array_equal(mine.coef_, other.coef_)
    np.testing.assert_array_equal(mine.predict_proba(X), other.predict_proba(X))


def test_an_indicator_may_be_sparse_or_boolean_and_have_two_labels():
    X, Y = problem()
    whole = SigmoidClassifier().fit(X, Y)
    for other in (scipy.sparse.csr_matrix(Y), Y.astype(bool), Y.astype(float)):
        np.testing.assert_array_equal(SigmoidClassifier().fit(X, other).coef_, whole.coef_)
    assert SigmoidClassifier().fit(X, Y[:, :2]).decision_function(X).shape == (len(X), 2)


def test_the_likeliest_labels_lead():
    X, Y = problem()
    labels, probs = SigmoidClassifier().fit(X, Y).top_k(X, 3)
    assert labels.shape == probs.shape == (len(X), 3)
    assert (np.diff(probs, axis=1) <= 0).all()


def test_a_label_that_all_or_none_have_is_learned():
    X, Y = problem()
    Y[:, 1], Y[:, 3] = 0, 1
    model = SigmoidClassifier().fit(X, Y)
    assert model.gap_ <= 1e-4
    assert model.predict_proba(X)[:, 1].max() < 1e-6
    assert model.predict_proba(X)[:, 3].min() > 1 - 1e-6


def test_other_numbers_are_refused():
    X, Y = problem()
    with pytest.raises(DataError, match="an indicator matrix of 0 and 1"):
        SigmoidClassifier().fit(X, Y + 1)


def test_many_labels_are_drafted_too():
    generator = np.random.default_rng(0)
    X = generator.standard_normal((3000, 20))
    Y = X @ generator.standard_normal((20, 30)) + generator.logistic(size=(3000, 30)) > 1
    model = SigmoidClassifier(tol=1e-9).fit(X, Y)
    peer = LogisticRegression(tol=1e-10, solver="newton-cg").fit(X, Y[:, 7])
    np.testing.assert_allclose(model.coef_[7], peer.coef_[0], atol=1e-4)


@pytest.mark.parametrize("name", ["mulan_emotions", "mulan_yeast"])
def test_on_real_labels_it_is_a_logistic_regression_a_label(
    name, widemax_data, tmp_path_factory, monkeypatch
):
    monkeypatch.setenv("WIDEMAX_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    if not at_hand(name):
        pytest.skip(f"data not at hand: {name}")
    tables = [pq.read_table(path) for path in resolve([f"{name}:train", f"{name}:test"])]
    scaler, binarizer = StandardScaler(), MultiLabelBinarizer()
    X, test_X = (np.stack(table["features"].to_numpy()).astype(float) for table in tables)
    X, test_X = scaler.fit_transform(X), scaler.transform(test_X)
    Y, test_Y = (table["labels"].to_pylist() for table in tables)
    Y, test_Y = binarizer.fit_transform(Y), binarizer.transform(test_Y)

    def measures(model):
        given = model.fit(X, Y).predict(test_X)
        return [f1_score(test_Y, given, average="micro"), hamming_loss(test_Y, given)]

    peer = OneVsRestClassifier(LogisticRegression(C=0.1, tol=1e-6, solver="newton-cg"))
    expected = measures(peer)
    assert measures(SigmoidClassifier(C=0.1, tol=1e-8)) == pytest.approx(expected, abs=1e-3)
    # A hundredth of C is another model.
    assert measures(SigmoidClassifier(C=1e-3)) != pytest.approx(expected, abs=1e-3)

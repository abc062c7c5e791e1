"""LinearSVM: the optima of liblinear, the certificate, and what the three losses are."""

import csv
import gzip
import warnings

import numpy as np
import pytest
from scipy.sparse import csr_matrix, random, vstack
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from widemax.errors import DataError
from widemax.estimators import LinearSVM

LOSSES = ["crammer_singer", "weston_watkins", "one_vs_rest"]


def problem(num_classes=4, num_rows=200):
    generator = np.random.default_rng(0)
    X = generator.standard_normal((num_rows, 5))
    scores = X @ generator.standard_normal((5, num_classes)) + generator.gumbel(size=(num_rows, num_classes))
    return X, scores.argmax(axis=1)


def objective_of(model, X, y, *, C=1.0, weight=None):
    """The documented objective, written out once more."""
    weight = np.ones(len(y)) if weight is None else weight
    scores, rows = X @ model.coef_.T + model.intercept_, np.arange(len(y))
    if scores.shape[1] == 1:
        losses = np.maximum(0, 1 - (2 * y - 1) * scores[:, 0])
    elif getattr(model, "loss", "") == "one_vs_rest" or getattr(model, "multi_class", "") == "ovr":
        answers = np.where(y[:, None] == np.arange(scores.shape[1]), 1, -1)
        losses = np.maximum(0, 1 - answers * scores).sum(axis=1)
    else:
        lacks = np.maximum(0, 1 + scores - scores[rows, y][:, None])
        lacks[rows, y] = 0
        losses = lacks.sum(axis=1) if getattr(model, "loss", "") == "weston_watkins" else lacks.max(axis=1)
    penalty = ((model.coef_**2).sum() + (model.intercept_**2).sum()) / (2 * C * weight.sum())
    return weight @ losses / weight.sum() + penalty


@pytest.mark.parametrize("kind", [np.asarray, csr_matrix])
@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("loss", ["crammer_singer", "one_vs_rest"])
def test_it_reaches_the_optimum_of_liblinear(loss, num_classes, kind):
    X, y = problem(num_classes)
    options = {"multi_class": "crammer_singer"} if loss == "crammer_singer" and num_classes > 2 else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        peer = LinearSVC(C=0.3, loss="hinge", tol=1e-8, max_iter=200_000, random_state=0, **options).fit(X, y)
    model = LinearSVM(loss=loss, C=0.3, tol=1e-3, max_iter=5000).fit(kind(X), y)
    best = objective_of(peer, X, y, C=0.3)
    assert best - 1e-9 <= model.objective_ <= best * (1 + 1e-3)
    assert model.objective_ == pytest.approx(objective_of(model, X, y, C=0.3), rel=1e-12)
    assert model.coef_.shape == peer.coef_.shape


@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("loss", ["crammer_singer", "one_vs_rest"])
def test_many_sparse_rows_reach_the_optimum_with_a_proof(loss, num_classes):
    generator = np.random.default_rng(0)
    X = csr_matrix(random(2000, 600, 0.03, random_state=0))
    weight = generator.uniform(0.5, 2, 2000)
    scores = X @ generator.standard_normal((600, num_classes))
    y = (scores + generator.gumbel(size=scores.shape)).argmax(axis=1)
    options = {"loss": loss, "C": 0.3, "max_iter": 50_000}
    model, best = (LinearSVM(tol=tol, **options).fit(X, y, weight) for tol in (1e-2, 1e-5))
    # A row without weight makes it the other solver.
    more = vstack([X, csr_matrix((1, 600))]), np.append(y, 0), np.append(weight, 0.0)
    other = LinearSVM(tol=1e-2, **options).fit(*more)
    assert model.objective_ == pytest.approx(objective_of(model, X, y, C=0.3, weight=weight), rel=1e-12)
    assert 1e-5 < model.gap_ <= 1e-2
    assert model.gap_ >= (model.objective_ - best.objective_) / model.objective_ > 0
    assert best.objective_ * (1 - 1e-5) <= other.objective_ <= best.objective_ * (1 + 1e-2)
    with pytest.warns(ConvergenceWarning, match=r"after \d+ steps at a relative gap of"):
        LinearSVM(loss=loss, max_iter=3).fit(X, y)


@pytest.fixture(scope="module")
def fitted():
    """A model of each loss, near the optimum."""
    return {loss: LinearSVM(loss=loss, tol=1e-3, max_iter=20_000).fit(*problem()) for loss in LOSSES}


@pytest.mark.parametrize("loss", LOSSES)
def test_the_gap_bounds_the_distance_to_the_optimum(loss, fitted):
    X, y = problem()
    optimum = fitted[loss].objective_
    for steps in (1, 5, 20, 60):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = LinearSVM(loss=loss, tol=1e-6, max_iter=steps).fit(X, y)
        distance = (model.objective_ - optimum) / model.objective_
        assert model.gap_ >= distance
        assert steps > 1 or distance > 1e-3


def test_the_losses_are_three(fitted):
    coefs = [fitted[loss].coef_ for loss in LOSSES]
    assert all(np.abs(coefs[a] - coefs[b]).max() > 0.01 for a, b in ((0, 1), (0, 2), (1, 2)))


def test_of_two_classes_they_are_one():
    X, y = problem(2)
    coefs = [LinearSVM(loss=loss).fit(X, y).coef_ for loss in LOSSES]
    np.testing.assert_array_equal(coefs[0], coefs[1])
    np.testing.assert_array_equal(coefs[0], coefs[2])


def test_weights_of_rows_and_classes_count():
    X, y = problem()
    times = np.random.default_rng(1).integers(0, 4, len(y))
    weighted = LinearSVM().fit(X, y, sample_weight=times)
    assert weighted.objective_ == pytest.approx(objective_of(weighted, X, y, weight=times))
    repeated = LinearSVM().fit(X.repeat(times, axis=0), y.repeat(times))
    assert weighted.objective_ == pytest.approx(repeated.objective_, rel=1e-3)
    by_class = LinearSVM(class_weight={0: 5.0}).fit(X, y)
    same = LinearSVM().fit(X, y, sample_weight=np.where(y == 0, 5.0, 1.0))
    np.testing.assert_allclose(by_class.coef_, same.coef_)
    with pytest.raises(DataError, match="leave a row of positive weight"):
        LinearSVM(class_weight=dict.fromkeys(range(4), 0.0)).fit(X, y)


def test_without_intercept_and_warm():
    X, y = problem()
    model = LinearSVM(fit_intercept=False, warm_start=True).fit(X, y)
    assert not model.intercept_.any()
    cold = model.n_iter_
    assert model.fit(X, y).n_iter_ < cold


def test_a_stop_before_the_optimum_is_said():
    with pytest.warns(ConvergenceWarning, match="after 2 steps at a relative gap of"):
        LinearSVM(max_iter=2).fit(*problem())


@pytest.mark.slow
def test_letter_recognition(widemax_data):
    path = widemax_data / "letter_recognition" / "letter-recognition.data.gz"
    if not path.is_file():
        pytest.skip(f"no Letter Recognition: {path} is absent")
    with gzip.open(path, "rt") as file:
        table = list(csv.reader(file))[1:]
    X, y = np.array([row[1:] for row in table], float), np.array([row[0] for row in table])
    X = (X - X[:16_000].mean(axis=0)) / X[:16_000].std(axis=0)
    model = LinearSVM(C=0.1, tol=1e-4).fit(X[:16_000], y[:16_000])
    assert model.objective_ * 1600 == pytest.approx(971.378, rel=1e-4)  # what liblinear reaches
    assert model.score(X[16_000:], y[16_000:]) == pytest.approx(0.770, abs=2e-3)

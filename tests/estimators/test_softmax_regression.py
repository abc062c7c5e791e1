"""SoftmaxRegression: its optimum, and the certificate of how near one is to it."""

import csv
import gzip
import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from widemax.errors import ConfigError, DataError, ShapeError
from widemax.estimators import SoftmaxRegression

EXACT = {"tol": 1e-12, "max_iter": 20_000}


def problem(num_rows=300, num_features=7, num_classes=4, *, seed=0):
    """Overlapping classes, features of different units, one of them always zero."""
    generator = np.random.default_rng(seed)
    features = generator.standard_normal((num_rows, num_features)) * np.logspace(-1, 1, num_features) + 0.5
    features[generator.random(features.shape) < 0.3] = 0
    features[:, 0] = 0
    scores = features @ generator.standard_normal((num_features, num_classes)) / 2
    labels = (scores + generator.gumbel(size=scores.shape)).argmax(axis=1)
    return features, np.array(["ash", "birch", "cedar", "dogwood", "elm"])[labels]


def objective_of(model, features, labels, *, C=1.0, l1_ratio=0.0, weight=None):
    """The documented objective, written out once more."""
    weight = np.ones(len(labels)) if weight is None else np.asarray(weight, float)
    coef, intercept = model.coef_.astype(float), model.intercept_.astype(float)
    logits = features @ coef.T + intercept
    if len(coef) == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    own = logits[np.arange(len(labels)), np.searchsorted(model.classes_, labels)]
    strength = 1 / (C * weight.sum())
    penalty = (1 - l1_ratio) / 2 * (coef**2).sum() + l1_ratio * np.abs(coef).sum()
    return weight / weight.sum() @ (np.logaddexp.reduce(logits, axis=1) - own) + strength * penalty


CASES = {
    "default": {},
    "strong": {"C": 0.01},
    "weak": {"C": 1e3},
    "without intercept": {"fit_intercept": False},
    "balanced": {"class_weight": "balanced"},
    "class weights": {"class_weight": {"ash": 3.0, "birch": 0.2}},
    "elastic net": {"l1_ratio": 0.4, "C": 0.05},
    "l1": {"l1_ratio": 1.0, "C": 0.05},
}


def class_weights(options, labels):
    chosen = options.get("class_weight")
    if chosen is None:
        return np.ones(len(labels))
    if chosen == "balanced":
        names, counts = np.unique(labels, return_counts=True)
        chosen = dict(zip(names, len(labels) / (len(names) * counts), strict=True))
    return np.array([chosen.get(label, 1.0) for label in labels])


@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("name", CASES)
def test_reaches_the_optimum_of_scikit_learn(name, num_classes, kind):
    options = CASES[name]
    features, labels = problem(num_classes=num_classes)
    X = scipy.sparse.csr_matrix(features) if kind == "csr" else features
    if "l1_ratio" in options:
        features /= np.maximum(features.std(axis=0), 1)  # saga needs features of one unit
        X = scipy.sparse.csr_matrix(features) if kind == "csr" else features
        peer = LogisticRegression(solver="saga", tol=1e-9, max_iter=20_000, random_state=0, **options)
    else:
        peer = LogisticRegression(solver="newton-cg", tol=1e-10, max_iter=1000, **options)
    peer.fit(X, labels)
    model = SoftmaxRegression(tol=1e-9, max_iter=20_000, **options).fit(X, labels)
    terms = {key: options[key] for key in ("C", "l1_ratio") if key in options}
    weight = class_weights(options, labels)
    mine, best = (objective_of(m, features, labels, weight=weight, **terms) for m in (model, peer))
    assert mine == pytest.approx(best, rel=1e-7)
    assert model.objective_ == pytest.approx(mine, rel=1e-12)
    assert model.gap_ <= 1e-9
    assert model.coef_.shape == peer.coef_.shape
    np.testing.assert_allclose(model.predict_proba(X), peer.predict_proba(X), atol=2e-4)
    np.testing.assert_array_equal(model.predict(X), peer.predict(X))


def test_two_classes_are_not_two_vectors_of_weights():
    """The wrong twin: a softmax over two vectors shares the penalty among them, and ends elsewhere."""
    features, labels = problem(num_classes=2)
    model = SoftmaxRegression(C=0.01, **EXACT).fit(features, labels)
    doubled = SoftmaxRegression(C=0.02, **EXACT).fit(features, labels)  # what two vectors amount to
    assert model.coef_.shape == (1, features.shape[1])
    assert np.abs(model.coef_ - doubled.coef_).max() > 1e-2


def test_sample_weights_count_rows():
    features, labels = problem(num_rows=120)
    times = np.random.default_rng(1).integers(0, 4, len(labels))
    weighted = SoftmaxRegression(**EXACT).fit(features, labels, sample_weight=times)
    repeated = SoftmaxRegression(**EXACT).fit(features.repeat(times, axis=0), labels.repeat(times))
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, atol=1e-6)
    assert weighted.objective_ == pytest.approx(repeated.objective_, rel=1e-12)
    assert weighted.objective_ == pytest.approx(objective_of(weighted, features, labels, weight=times))


@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("l1_ratio", [0.0, 0.5])
def test_float32_stays_float32_and_reaches_the_optimum(kind, l1_ratio):
    features, labels = problem()
    features = features.astype(np.float32)
    X = scipy.sparse.csr_array(features) if kind == "csr" else features
    exact = SoftmaxRegression(tol=1e-9, max_iter=20_000, l1_ratio=l1_ratio)
    optimum = exact.fit(features.astype(float), labels).objective_
    model = SoftmaxRegression(tol=1e-6, max_iter=20_000, l1_ratio=l1_ratio).fit(X, labels)
    assert model.coef_.dtype == model.intercept_.dtype == model.predict_proba(X).dtype == np.float32
    assert model.objective_ == pytest.approx(optimum, rel=1e-6)


@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_many_rows_are_drafted_in_float32_and_finished_in_float64(kind, dtype):
    features, labels = problem(num_rows=20_000, num_features=30)
    features = features.astype(dtype)
    X = scipy.sparse.csr_matrix(features) if kind == "csr" else features
    # 2e-9 is as near as weights rounded to float32 come.
    model = SoftmaxRegression(tol=1e-8, max_iter=200).fit(X, labels)
    assert model.gap_ <= 1e-8
    assert model.objective_ == pytest.approx(objective_of(model, features.astype(float), labels), rel=1e-12)
    assert model.n_iter_ < 60


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("num_features", [3000, 12_000])
def test_wide_sparse_features_take_the_diagonal_and_at_most_one_block(num_features, fit_intercept):
    X = scipy.sparse.random(400, num_features, 0.01, format="csr", random_state=0)
    labels = np.random.default_rng(0).integers(5, size=400)
    options = {"C": 10, "fit_intercept": fit_intercept}
    peer = LogisticRegression(solver="newton-cg", tol=1e-9, max_iter=1000, **options).fit(X, labels)
    model = SoftmaxRegression(tol=1e-9, **options).fit(X, labels)
    assert model.objective_ == pytest.approx(objective_of(peer, X, labels, C=10), rel=1e-8)


def test_features_beyond_float32_are_fitted_in_float64():
    features, labels = problem(num_rows=20_000, num_features=30)
    scale = 1e30
    # The penalty scales along: the same problem in other units.
    small = SoftmaxRegression(C=1e4, tol=1e-6).fit(features, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        large = SoftmaxRegression(C=1e4 / scale**2, tol=1e-6).fit(features * scale, labels)
    assert large.objective_ == pytest.approx(small.objective_, rel=2e-6)


def test_without_penalty():
    features, labels = problem()
    peer = LogisticRegression(C=np.inf, solver="newton-cg", tol=1e-9, max_iter=1000).fit(features, labels)
    model = SoftmaxRegression(C=np.inf, tol=1e-8).fit(features, labels)
    best = objective_of(peer, features, labels, C=np.inf)
    assert model.objective_ == pytest.approx(best, rel=1e-8)
    assert model.gap_ == np.inf


def test_warm_start_starts_at_the_previous_solution():
    features, labels = problem()
    model = SoftmaxRegression(warm_start=True, tol=1e-8).fit(features, labels)
    cold, optimum = model.n_iter_, model.objective_
    assert model.fit(features, labels).n_iter_ == 0 < cold
    assert model.objective_ == pytest.approx(optimum, rel=1e-12)
    nearby = model.set_params(C=1.1).fit(features, labels)
    assert 0 < nearby.n_iter_ < cold
    with pytest.raises(ShapeError, match="warm_start=False"):
        model.fit(features[:, :3], labels)


def test_the_seed_decides_the_path_alone():
    features, labels = problem(num_rows=5000, num_features=30)
    first, again, other = (
        SoftmaxRegression(random_state=seed, tol=1e-9).fit(features, labels) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.coef_, again.coef_)
    assert np.abs(first.coef_ - other.coef_).max() > 0
    assert first.objective_ == pytest.approx(other.objective_, rel=1e-9)


GAP_CASES = [
    {},
    {"C": 1e3},
    {"fit_intercept": False},
    {"l1_ratio": 0.3, "C": 0.1},
    {"l1_ratio": 1.0, "C": 0.1},
    {"l1_ratio": 1.0, "C": 0.1, "fit_intercept": False},
]


@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("options", GAP_CASES, ids=str)
def test_the_gap_bounds_the_distance_to_the_optimum(options, num_classes):
    features, labels = problem(num_classes=num_classes)
    features /= np.maximum(features.std(axis=0), 1)
    optimum = SoftmaxRegression(tol=1e-10, max_iter=50_000, **options).fit(features, labels).objective_
    gaps, distances = [], []
    for steps in (1, 2, 3, 5, 8, 13, 21):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = SoftmaxRegression(tol=0, max_iter=steps, **options).fit(features, labels)
        gaps.append(model.gap_)
        distances.append((model.objective_ - optimum) / model.objective_)
    assert all(gap >= distance - 1e-12 for gap, distance in zip(gaps, distances, strict=True))
    assert distances[0] > 1e-4
    # Half of the bound is no bound of its own: with a weak penalty it is far above, with a strong one near.
    assert gaps[-1] < gaps[0]


def test_the_gap_without_the_best_bias_bounds_nothing():
    """The wrong twin: at any bias ‖∂f/∂W‖²/(2λ) is 0 where features are 0, and f may be far from best."""
    features, labels = np.zeros((8, 1)), np.array([0, 0, 0, 0, 0, 0, 1, 2])
    model = SoftmaxRegression(tol=1e-10).fit(features, labels)
    counts = np.array([6, 1, 1])
    optimum = -(counts / 8 * np.log(counts / 8)).sum()
    wrong_gap, distance_at_zero = 0.0, np.log(3) - optimum
    assert distance_at_zero > wrong_gap + 0.3
    assert model.objective_ == pytest.approx(optimum, rel=1e-10)
    np.testing.assert_allclose(model.predict_proba([[0.0]]), [counts / 8], rtol=1e-6)


def test_a_stop_before_the_optimum_is_said():
    features, labels = problem()
    with pytest.warns(ConvergenceWarning, match="after 2 steps at a relative gap of"):
        SoftmaxRegression(max_iter=2).fit(features, labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"C": 0}, r"'C' of SoftmaxRegression must be a number above 0.0; got 0"),
        ({"C": "much"}, r"'C' of SoftmaxRegression must be a number above 0.0; got 'much'"),
        ({"l1_ratio": 1.5}, r"'l1_ratio' of SoftmaxRegression must be a number in \[0.0, 1.0\]; got 1.5"),
        ({"tol": -1}, r"'tol' of SoftmaxRegression must be a number of at least 0.0; got -1"),
        ({"max_iter": 2.5}, r"'max_iter' of SoftmaxRegression must be a whole number of at least 1; got 2.5"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        SoftmaxRegression(**options).fit(*problem())


def test_data_that_decide_nothing_are_refused():
    features, labels = problem()
    with pytest.raises(DataError, match="at least two classes; got one class, 'ash'"):
        SoftmaxRegression().fit(features, np.full(len(labels), "ash"))
    with pytest.raises(DataError, match="a row of positive weight"):
        SoftmaxRegression(class_weight=dict.fromkeys(np.unique(labels), 0.0)).fit(features, labels)
    with pytest.raises(ValueError, match="at least one non-zero"):
        SoftmaxRegression().fit(features, labels, sample_weight=np.zeros(len(labels)))
    with pytest.raises(ValueError, match="Negative values"):
        SoftmaxRegression().fit(features, labels, sample_weight=np.full(len(labels), -1.0))


def letters(folder):
    path = folder / "letter_recognition" / "letter-recognition.data.gz"
    if not path.is_file():
        pytest.skip(f"no Letter Recognition: {path} is absent")
    with gzip.open(path, "rt") as file:
        rows = list(csv.reader(file))[1:16_001]
    features = np.array([row[1:] for row in rows], float)
    return (features - features.mean(axis=0)) / features.std(axis=0), np.array([row[0] for row in rows])


@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_matrix], ids=["dense", "csr"])
def test_letter_recognition_reaches_the_known_optimum(widemax_data, kind):
    features, labels = letters(widemax_data)
    model = SoftmaxRegression(C=1 / (1e-6 * len(labels)), tol=1e-6).fit(kind(features), labels)
    optimum = 0.8191581205522
    assert model.objective_ == pytest.approx(optimum, rel=1e-9)
    assert (model.objective_ - optimum) / optimum <= model.gap_ <= 1e-6

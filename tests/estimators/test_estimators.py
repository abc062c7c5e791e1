"""Every classifier of the room: scikit-learn's own checks, answers in every form, saving and loading."""

import inspect
import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.estimator_checks import parametrize_with_checks

import widemax.estimators
from widemax.errors import ConfigError, CorruptError, DataError, UsageError
from widemax.estimators import (
    CalibratedTemperature,
    LinearSVM,
    NearestNeighborsClassifier,
    SampledSoftmaxClassifier,
    SigmoidClassifier,
    SoftmaxRegression,
    TwoLayerNet,
)

MEMBERS = [
    CalibratedTemperature(),
    LinearSVM(tol=0.1),
    NearestNeighborsClassifier(),
    SampledSoftmaxClassifier(epochs=20, learning_rate=1.0, batch_size=64),
    SigmoidClassifier(),
    SoftmaxRegression(),
    TwoLayerNet(hidden_units=32, epochs=40, learning_rate=0.02, batch_size=64),
]
OTHERS = [
    LinearSVM(),
    LinearSVM(loss="one_vs_rest", tol=0.1),
    LinearSVM(loss="weston_watkins", tol=0.1),
    NearestNeighborsClassifier(metric="cosine"),
    SigmoidClassifier(l1_ratio=0.5),
    SoftmaxRegression(l1_ratio=0.5),
    SampledSoftmaxClassifier(),
    TwoLayerNet(),
]


def test_every_public_estimator_is_in_the_table():
    assert {type(member).__name__ for member in MEMBERS} == set(widemax.estimators.__all__)


@parametrize_with_checks(MEMBERS)
@pytest.mark.filterwarnings("ignore")  # the checks stop early on purpose
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(OTHERS)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_accepts_other_options(estimator, check):
    check(estimator)


def rows(num_classes=3, *, dtype=np.float64):
    generator = np.random.default_rng(0)
    names = np.array(["ash", "birch", "cedar"])[:num_classes]
    labels = generator.integers(num_classes, size=90)
    features = generator.normal(labels[:, None] * 1.5, 1.0, (90, 4)).astype(dtype)
    features[np.abs(features) < 0.2] = 0
    return features, names[labels]


each = pytest.mark.parametrize("member", MEMBERS, ids=lambda member: type(member).__name__)


def answers(model, X):
    names = ("predict", "decision_function", "predict_proba", "predict_log_proba")
    return {name: getattr(model, name)(X) for name in names if hasattr(model, name)}


def assert_same(left, right, **tolerances):
    assert left.keys() == right.keys()
    for name in left:
        if left[name].dtype.kind == "f":
            np.testing.assert_allclose(left[name], right[name], **tolerances, err_msg=name)
        else:
            np.testing.assert_array_equal(left[name], right[name])


@each
@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_saved_and_loaded_it_answers_alike(tmp_path, member, num_classes, dtype):
    X, y = rows(num_classes, dtype=dtype)
    model = clone(member).fit(X, y)
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model")
    assert_same(answers(model, X), answers(loaded, X), rtol=0)
    assert repr(loaded) == repr(model)
    pickled = pickle.loads(pickle.dumps(model))  # noqa: S301 (bytes of this test)
    assert_same(answers(model, X), answers(pickled, X), rtol=0)
    assert not list(tmp_path.rglob("*.pkl"))
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        "arrays.safetensors",
        "estimator.json",
        "manifest.json",
    }


@each
def test_the_best_k_lead_the_ranking(member):
    X, y = rows()
    model = clone(member).fit(X, y)
    classes, scores = model.top_k(X, 2)
    everything = model.predict_proba(X) if hasattr(model, "predict_proba") else model.decision_function(X)
    assert classes.shape == scores.shape == (len(X), 2)
    np.testing.assert_array_equal(classes[:, 0], model.predict(X))
    np.testing.assert_allclose(scores, -np.sort(-everything, axis=1)[:, :2], rtol=1e-6)
    assert model.top_k(X, 10)[0].shape == (len(X), 3)
    assert (np.diff(model.top_k(X, 3)[1], axis=1) <= 0).all()
    with pytest.raises(ConfigError, match="must be a whole number of at least 1; got 0"):
        model.top_k(X, 0)


@each
def test_probabilities_sum_to_one_and_are_those_of_the_logarithms(member):
    X, y = rows()
    model = clone(member).fit(X, y)
    if not hasattr(model, "predict_proba"):
        assert type(model) is LinearSVM
        return
    probs = model.predict_proba(X)
    np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), probs, rtol=1e-6)


@each
def test_sparse_rows_are_the_same_rows(member):
    X, y = rows()
    sparse = scipy.sparse.csr_matrix(X)
    dense_answers, sparse_answers = (
        answers(clone(member).fit(X, y), X),
        answers(clone(member).fit(sparse, y), sparse),
    )
    assert_same(dense_answers, sparse_answers, rtol=1e-4, atol=1e-6)


@each
def test_a_fit_learns_what_is_there(member):
    X, y = rows()
    assert clone(member).fit(X, y).score(X, y) > 0.85
    assert clone(member).fit(X, np.random.default_rng(1).permutation(y)).score(X, y) < 0.75  # the wrong twin


@each
def test_the_docstring_speaks_of_partial_fit_where_there_is_none(member):
    assert hasattr(member, "partial_fit") or "no ``partial_fit``" in inspect.getdoc(type(member))


@each
def test_it_shows_itself_in_a_notebook(member):
    assert type(member).__name__ in member._repr_html_()


@each
def test_weights_of_rows_are_routed(member):
    import sklearn

    takes = "sample_weight" in inspect.signature(member.fit).parameters
    assert takes == (type(member) is not NearestNeighborsClassifier)
    if takes:
        with sklearn.config_context(enable_metadata_routing=True):
            request = clone(member).set_fit_request(sample_weight=True).get_metadata_routing()
        assert request.fit.requests["sample_weight"] is True


@each
def test_names_of_features_are_kept(tmp_path, member):
    X, y = rows()
    model = clone(member).fit(X, y)
    model.feature_names_in_ = np.array(["height", "girth", "age", "site"], dtype=object)
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model")
    assert loaded.feature_names_in_.tolist() == ["height", "girth", "age", "site"]
    assert loaded.feature_names_in_.dtype == object


@pytest.mark.parametrize(
    "values",
    [
        [3, 7, 9],
        [1.5, 2.5, 3.5],
        [False, True, True],
        ["a", "b", "c"],
        np.array(["a", "b", "c"], dtype=object),
    ],
    ids=["int", "float", "bool", "str", "object"],
)
def test_classes_of_every_kind_are_saved(tmp_path, values):
    X, y = rows()
    names = np.asarray(values)[np.searchsorted(["ash", "birch", "cedar"], y)]
    if names.dtype == float:
        names = names.astype(str)
    model = SoftmaxRegression().fit(X, names)
    model.save(tmp_path / "model")
    loaded = SoftmaxRegression.load(tmp_path / "model")
    assert loaded.classes_.dtype == model.classes_.dtype
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


def test_parameters_are_saved(tmp_path):
    X, y = rows()
    weights = {"ash": 1.0, "birch": 2.0, "cedar": 0.5}
    model = SoftmaxRegression(C=np.inf, tol=1e-3, class_weight=weights).fit(X, y)
    model.save(tmp_path / "model")
    loaded = SoftmaxRegression.load(tmp_path / "model")
    assert loaded.get_params() == model.get_params()
    assert loaded.gap_ == np.inf
    assert_same(answers(loaded.fit(X, y), X), answers(model, X), rtol=0)


def test_an_estimator_inside_another_is_saved(tmp_path):
    X, y = rows()
    inner = LinearSVM().fit(X, y)
    model = CalibratedTemperature(FrozenEstimator(inner)).fit(X, y)
    model.save(tmp_path / "model")
    loaded = CalibratedTemperature.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(loaded.estimator.estimator.coef_, inner.coef_)


def test_a_saved_net_is_trained_further_as_if_it_never_slept(tmp_path):
    X, y = rows()
    for member in (TwoLayerNet(epochs=5), SampledSoftmaxClassifier()):
        model = clone(member).fit(X, y)
        model.save(tmp_path / "model")
        loaded = type(model).load(tmp_path / "model")
        forgetful = clone(member).fit(X, y)
        forgetful.moments_ = []  # the wrong twin
        for each_model in (model, loaded, forgetful):
            each_model.partial_fit(X, y)
        np.testing.assert_array_equal(model.coef_, loaded.coef_)
        assert np.abs(model.coef_ - forgetful.coef_).max() > 1e-6


def test_what_cannot_be_saved_is_said(tmp_path):
    from sklearn.linear_model import LogisticRegression

    X, y = rows()
    model = SoftmaxRegression(random_state=np.random.RandomState(0)).fit(X, y)
    with pytest.raises(UsageError, match=r"params\.random_state must be a number, a text"):
        model.save(tmp_path / "model")
    with pytest.raises(UsageError, match="an estimator of widemax; got LogisticRegression"):
        CalibratedTemperature(LogisticRegression()).fit(X, y).save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_another_kind_or_a_damaged_folder_is_refused(tmp_path):
    X, y = rows()
    folder = tmp_path / "model"
    SoftmaxRegression().fit(X, y).save(folder)
    with pytest.raises(UsageError, match="must hold a LinearSVM; it holds 'SoftmaxRegression'"):
        LinearSVM.load(folder)
    state = folder / "estimator.json"
    text = state.read_text()
    state.write_text(text.replace('"tol": 0.0001', '"tol": 0.0002'))
    assert state.read_text() != text
    with pytest.raises(CorruptError, match="not the file that was saved"):
        SoftmaxRegression.load(folder)


@pytest.mark.parametrize(
    "code", [{"estimator": "Path", "params": {}, "fitted": {}}, {"array": "none"}, 3, {}]
)
def test_a_state_of_another_kind_runs_nothing(tmp_path, code):
    from widemax.storage import new_folder

    with new_folder(tmp_path / "model", {"estimator": "SoftmaxRegression"}) as folder:
        from safetensors.numpy import save_file

        save_file({}, folder / "arrays.safetensors")
        (Path(folder) / "estimator.json").write_text(json.dumps(code))
    with pytest.raises(CorruptError, match="does not hold a readable estimator"):
        SoftmaxRegression.load(tmp_path / "model")


OPTIONS = [
    (LinearSVM, {"C": 0}, r"option 'C' of \w+ must be a number above 0.0; got 0"),
    (LinearSVM, {"loss": "hinge"}, r"option 'loss' of \w+ must be 'crammer_singer' or .*; got 'hinge'"),
    (
        NearestNeighborsClassifier,
        {"n_neighbors": 0},
        r"option 'n_neighbors' of \w+ must be a whole number of at least 1; got 0",
    ),
    (
        NearestNeighborsClassifier,
        {"metric": "l1"},
        r"option 'metric' of \w+ must be 'euclidean' or 'cosine'; got 'l1'",
    ),
    (
        SampledSoftmaxClassifier,
        {"num_sampled": 0},
        r"option 'num_sampled' of \w+ must be a whole number of at least 1; got 0",
    ),
    (SigmoidClassifier, {"l1_ratio": 2}, r"option 'l1_ratio' of \w+ must be a number in \[0.0, 1.0\]; got 2"),
    (
        TwoLayerNet,
        {"hidden_units": 1.5},
        r"option 'hidden_units' of \w+ must be a whole number of at least 1; got 1.5",
    ),
    (TwoLayerNet, {"learning_rate": 0}, r"option 'learning_rate' of \w+ must be a number above 0.0; got 0"),
]


@pytest.mark.parametrize(("kind", "options", "message"), OPTIONS)
def test_an_option_out_of_range_is_refused(kind, options, message):
    with pytest.raises(ConfigError, match=message):
        kind(**options).fit(*rows())


@pytest.mark.parametrize("member", [LinearSVM(), SigmoidClassifier(), TwoLayerNet(), CalibratedTemperature()])
def test_one_class_is_no_choice(member):
    X, _ = rows()
    with pytest.raises(DataError, match="at least two classes; got one class, 'ash'"):
        clone(member).fit(X, np.full(len(X), "ash"))


def test_warnings_point_at_the_caller():
    X, y = rows()
    for member in (LinearSVM(max_iter=1), SigmoidClassifier(max_iter=1), SoftmaxRegression(max_iter=1)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            clone(member).fit(X, y)
        (warning,) = caught
        assert warning.filename == __file__, type(member)


@pytest.mark.parametrize("kind", [SampledSoftmaxClassifier, NearestNeighborsClassifier])
def test_classes_that_come_later_stay_of_one_type(kind: type) -> None:
    X = np.random.default_rng(0).normal(size=(4, 2))
    model = kind().partial_fit(X, [1, 2, 1, 2])
    for y in (["1", "a", "1", "a"], [True, False] * 2):
        with pytest.raises(DataError, match=r"classes must stay of one type; got .* after int64"):
            model.partial_fit(X, y)
        with pytest.raises(DataError, match="classes must stay of one type"):
            model.partial_fit(X, [1, 2, 1, 2], classes=y)
    model.partial_fit(X, [1.0, 2.0, 1.0, 2.0])
    model.partial_fit(X, np.array([1, 3, 1, 3], np.uint64))
    assert sorted(model.classes_.tolist()) == [1, 2, 3]
    texts = kind().partial_fit(X, ["a", "b", "a", "b"])
    texts.partial_fit(X, np.array(["a", "longer", "a", "b"], object))
    assert sorted(texts.classes_.tolist()) == ["a", "b", "longer"]
    with pytest.raises(DataError, match="classes must stay of one type; got int64"):
        texts.partial_fit(X, [1, 2, 1, 2])


@pytest.mark.parametrize("kind", [SoftmaxRegression, SampledSoftmaxClassifier, NearestNeighborsClassifier])
def test_whole_numbers_that_may_be_missing_stay_exact(kind: type) -> None:
    X = np.array([[0.0], [1.0]] * 10)
    y = pd.Series([2**53, 2**53 + 1] * 10, dtype="Int64")
    model = kind().fit(X, y)
    assert model.classes_.tolist() == [2**53, 2**53 + 1]
    y[3] = pd.NA
    with pytest.raises(DataError, match="a label of y is missing"):
        kind().fit(X, y)

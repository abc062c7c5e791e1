"""One search gives the accuracies of every k, pixels keep their neighbors, and weights become colors."""

import numpy as np
import pytest

from widemax.estimators import NearestNeighborsClassifier, SoftmaxRegression
from widemax.recipes import Results
from widemax.recipes import classifiers_cifar10 as recipe
from widemax.recipes.classifiers_cifar10 import Photos, Settings, Split

SETTINGS = Settings(
    every=1, penalties=(1e-4, 1e-3), rates=(1e-3, 3e-3), decays=(0.1, 1.0), hidden_units=16, epochs=4
)


def some_photos(num_rows=150, seed=0):
    """Noise around a color a class."""
    generator = np.random.default_rng(seed)
    labels_N = np.arange(num_rows) % 3
    pixels_NHW3 = generator.integers(0, 200, (num_rows, 32, 32, 3))
    pixels_NHW3[np.arange(num_rows), :, :, labels_N] += 12
    return Photos(pixels_NHW3.astype(np.uint8), np.array(["red", "green", "blue"])[labels_N])


def halves(rows):
    return rows.take(np.arange(0, len(rows), 2)), rows.take(np.arange(1, len(rows), 2))


def test_one_search_gives_what_every_number_of_neighbors_gives(monkeypatch):
    monkeypatch.setattr(recipe, "NUMBERS_K", np.array([1, 2, 5, 30]))
    rows, _ = recipe.standardized(some_photos(), some_photos(9, seed=1))
    folds = [halves(rows), halves(rows)[::-1]]
    accuracy_FK = recipe.accuracies_by_k(folds)

    def expected(numbers):
        return [
            [
                NearestNeighborsClassifier(n_neighbors=k)
                .fit(part.values_ND, part.names_N)
                .score(held.values_ND, held.names_N)
                for k in numbers
            ]
            for part, held in folds
        ]

    np.testing.assert_array_equal(accuracy_FK, expected([1, 2, 5, 30]))
    assert (accuracy_FK != expected([2, 3, 6, 31])).any()


def test_pixels_lose_the_mean_training_photograph_and_keep_their_neighbors():
    train, test = some_photos(), some_photos(20, seed=1)
    rows, test_rows = recipe.standardized(train, test)
    np.testing.assert_allclose(rows.values_ND.mean(axis=0), 0, atol=1e-5)
    assert rows.values_ND.std() == pytest.approx(1, abs=1e-5)
    assert np.abs(test_rows.values_ND.mean(axis=0)).max() > 0.1
    raw_ND, raw_test_ND = (
        photos.pixels_NHW3.reshape(len(photos.names_N), -1).astype(float) for photos in (train, test)
    )
    nearest = [
        NearestNeighborsClassifier(n_neighbors=3).fit(left, train.names_N).kneighbors(right)[1]
        for left, right in ((rows.values_ND, test_rows.values_ND), (raw_ND, raw_test_ND))
    ]
    np.testing.assert_array_equal(*nearest)
    # A number a pixel in place of one for all would give other neighbors.
    scale_D = raw_ND.std(axis=0) ** 8
    other = NearestNeighborsClassifier(n_neighbors=3).fit(raw_ND / scale_D, train.names_N)
    assert (other.kneighbors(raw_test_ND / scale_D)[1] != nearest[0]).any()


def test_every_choice_is_made_on_training_rows_and_learned_again_from_all(tmp_path):
    rows, test_rows = recipe.standardized(some_photos(), some_photos(90, seed=1))
    results = Results(recipe.KNOWN, tmp_path)
    chosen = recipe.choose(results, rows, SETTINGS, seed=0)
    assert set(chosen) == {recipe.NEIGHBORS, recipe.SVM, recipe.SOFTMAX, recipe.NET}
    assert len(chosen[recipe.NEIGHBORS].model.rows_) == len(rows)
    assert {picture.path.stem for picture in results.pictures} == {"folds", "penalties", "decays"}
    softmax = chosen[recipe.SOFTMAX].model
    again = SoftmaxRegression(C=softmax.C, tol=1e-3).fit(rows.values_ND, rows.names_N)
    np.testing.assert_array_equal(softmax.coef_, again.coef_)
    assert chosen[recipe.SOFTMAX].words == f"C {softmax.C:g}"
    for name in (recipe.SVM, recipe.SOFTMAX):
        assert chosen[name].model.score(test_rows.values_ND, test_rows.names_N) > 0.8
        assert chosen[name].held_out > 0.8
    same = recipe.choose(Results(recipe.KNOWN, tmp_path), rows, SETTINGS, seed=0)
    np.testing.assert_array_equal(same[recipe.NET].model.coef_, chosen[recipe.NET].model.coef_)


def test_weights_become_colors_with_gray_for_zero():
    weights = np.linspace(-1, 1, 3072)[None] * np.array([[1.0], [50.0]])
    pictures = recipe.templates(weights)
    assert pictures.shape == (2, 32, 32, 3)
    np.testing.assert_allclose(pictures[0], pictures[1])
    assert (np.diff(pictures[0].ravel()) >= 0).all()
    assert (pictures[0].ravel()[1535], pictures[0].min(), pictures[0].max()) == (
        pytest.approx(0.5, abs=1e-3),
        0,
        1,
    )
    np.testing.assert_array_equal(recipe.templates(np.repeat([[1.0, 0.0]], (96, 2976), axis=1))[0, 1:], 0.5)


@pytest.mark.slow
def test_photographs_are_read_as_they_stand(widemax_data, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("WIDEMAX_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    test = recipe.read_photos("test")
    assert test.pixels_NHW3.shape == (2000, 32, 32, 3)
    names, counts = np.unique(test.names_N, return_counts=True)
    assert set(counts) == {200}
    assert {"airplane", "truck"} < set(names)
    few = recipe.read_photos("test", every=4)
    np.testing.assert_array_equal(few.pixels_NHW3, test.pixels_NHW3[::4])
    np.testing.assert_array_equal(few.names_N, test.names_N[::4])
    # The sky is above: of airplanes the upper rows are bluer than red.
    planes = test.pixels_NHW3[test.names_N == "airplane"][:, :8].mean(axis=(0, 1, 2))
    assert planes[2] > planes[0]


def test_rows_are_taken_with_their_names():
    rows = Split(np.arange(6.0).reshape(3, 2), np.array(["a", "b", "c"]))
    taken = rows.take(np.array([2, 0]))
    assert taken.names_N.tolist() == ["c", "a"]
    assert taken.values_ND.tolist() == [[4, 5], [0, 1]]

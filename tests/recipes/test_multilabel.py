"""F-scores, thresholds and baselines against plain counting."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from widemax.heads import SeveralLabels
from widemax.recipes.multilabel import (
    LOSSES,
    THRESHOLDS_N,
    Split,
    best_threshold,
    f_scores,
    fit,
    micro_f1,
    popular,
    read,
)


def some_rows(num_rows=60, num_classes=4, seed=0):
    generator = np.random.default_rng(seed)
    features_BF = generator.normal(size=(num_rows, 5))
    targets_BC = features_BF[:, :num_classes] > 0.3
    rows, ids = np.nonzero(targets_BC)
    offsets = np.searchsorted(rows, np.arange(num_rows + 1))
    labels = SeveralLabels(torch.tensor(ids), torch.tensor(offsets))
    return Split(torch.tensor(features_BF, dtype=torch.float32), labels, targets_BC)


def test_micro_f1_at_every_threshold_is_that_of_scikit_learn():
    rows = some_rows()
    probs_BC = np.random.default_rng(1).random(rows.targets_BC.shape)
    expected_N = [
        f1_score(rows.targets_BC, probs_BC > t, average="micro", zero_division=0) for t in THRESHOLDS_N
    ]
    np.testing.assert_allclose(micro_f1(probs_BC, rows.targets_BC), expected_N, atol=1e-15)
    # A threshold that lets equal probabilities through would differ.
    equal_BC = np.full(rows.targets_BC.shape, THRESHOLDS_N[3])
    assert micro_f1(equal_BC, rows.targets_BC)[3] == 0
    assert micro_f1(equal_BC, rows.targets_BC)[2] > 0


def test_the_best_threshold_separates_what_can_be_separated():
    targets_BC = np.array([[True, False], [False, True]])
    probs_BC = np.where(targets_BC, 0.4, 0.2)
    assert 0.2 <= best_threshold(probs_BC, targets_BC) < 0.4


def test_three_f_scores():
    targets_BC = np.array([[True, True, False], [False, True, False]])
    given_BC = np.array([[True, False, False], [False, True, True]])
    assert f_scores(targets_BC, given_BC) == pytest.approx([4 / 6, (1 + 2 / 3 + 0) / 3, (2 / 3 + 2 / 3) / 2])


def test_popular_labels_are_given_to_every_row():
    rows = some_rows()
    given_BC = popular(rows, rows)
    assert (given_BC == given_BC[0]).all()
    counts_C = rows.targets_BC.sum(axis=0)
    assert given_BC[0].sum() == round(rows.targets_BC.sum(axis=1).mean())
    assert counts_C[given_BC[0]].min() >= counts_C[~given_BC[0]].max()


@pytest.mark.parametrize("kind", LOSSES)
def test_a_net_learns_and_answers_with_the_probabilities_of_its_loss(kind):
    rows = some_rows()
    probs_BC = fit(rows, loss=LOSSES[kind], epochs=30, seed=0).probs(rows.features_BF)
    assert micro_f1(probs_BC, rows.targets_BC).max() > 0.75
    sums_one = np.allclose(probs_BC.sum(axis=1), 1, atol=1e-5)
    assert sums_one == (kind == "softmax")
    again_BC = fit(rows, loss=LOSSES[kind], epochs=30, seed=0).probs(rows.features_BF)
    np.testing.assert_array_equal(probs_BC, again_BC)


def test_rows_are_read_with_their_labels(widemax_data, tmp_path, monkeypatch):
    monkeypatch.setenv("WIDEMAX_CACHE", str(tmp_path))
    train, test, names = read("emotions")
    assert (train.features_BF.shape, test.features_BF.shape, len(names)) == ((391, 72), (202, 72), 6)
    first = [names[place] for place in train.labels.take(torch.tensor([0])).ids_P.tolist()]
    assert sorted(first) == ["happy-pleased", "relaxing-calm"]
    assert [name for name, given in zip(names, train.targets_BC[0], strict=True) if given] == sorted(first)
    np.testing.assert_allclose(train.features_BF.mean(dim=0), 0, atol=1e-5)
    taken = train.take(torch.tensor([5, 0]))
    np.testing.assert_array_equal(taken.targets_BC, train.targets_BC[[5, 0]])

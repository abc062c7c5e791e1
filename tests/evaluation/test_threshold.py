"""The threshold of the best F1, against every threshold that there is."""

from dataclasses import replace

import numpy as np
import pytest
from evaluation_rows import random_label_lists, random_probs, several_label_rows
from sklearn.metrics import f1_score

from widemax.errors import ShapeError, UsageError
from widemax.evaluation import SeveralLabelRows, Threshold

B, C = 60, 30


def rows_of(probs_BC: np.ndarray, labels: list[list[int]]) -> SeveralLabelRows:
    rows = several_label_rows(probs_BC, labels, k=C)
    return replace(rows, topk_log_probs_BK=np.log(np.take_along_axis(probs_BC, rows.topk_ids_BK, axis=1)))


@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_is_better(seed: int) -> None:
    # Rounded, so that probabilities occur more than once.
    probs_BC = random_probs(seed, B, C).round(2) + 1e-3
    labels = random_label_lists(seed, B, C, unseen_share=0, fewest=0)
    is_label_BC = np.array([np.isin(np.arange(C), row) for row in labels])
    threshold = Threshold()
    for part in np.array_split(np.arange(B), 3):
        threshold.update(rows_of(probs_BC[part], [labels[row] for row in part]))

    candidates = np.unique(probs_BC) * (1 - 1e-12)
    truth = [f1_score(is_label_BC, probs_BC >= candidate, average="micro") for candidate in candidates]
    assert [threshold.f1(candidate) for candidate in candidates] == pytest.approx(truth)
    assert threshold.f1(threshold.best()) == pytest.approx(max(truth))


@pytest.mark.parametrize("coverage", [0.3, 0.5])
def test_no_higher_threshold_covers_as_much(coverage: float) -> None:
    probs_BC = random_probs(3, B, C).round(2) + 1e-3
    labels = random_label_lists(3, B, C, unseen_share=0.1, fewest=0)
    threshold = Threshold()
    for part in np.array_split(np.arange(B), 3):
        threshold.update(rows_of(probs_BC[part], [labels[row] for row in part]))
    labeled = [(probs, row) for probs, row in zip(probs_BC, labels, strict=True) if row]

    def covered(least: float) -> float:
        """The mean share of right labels, where one more row has none."""
        shares = [np.mean([label >= 0 and probs[label] >= least for label in row]) for probs, row in labeled]
        return float(sum(shares) / (len(labeled) + 1))

    found = threshold.conformity.covering(coverage)
    assert covered(found) >= coverage > covered(probs_BC[probs_BC >= found].min() + 1e-9)
    assert threshold.mean_size(found) == pytest.approx((probs_BC >= found).sum(axis=1).mean())
    with pytest.raises(UsageError, match="too few are among the best"):
        threshold.conformity.covering(0.95)


def test_new_rows_are_covered_as_promised() -> None:
    # Few rows, so that a threshold of the same share of these alone would miss more of others.
    missed = []
    for seed in range(400):
        probs_BC = random_probs(seed, 20, 5)
        labels = [[np.random.default_rng((seed, row)).choice(5, p=probs_BC[row])] for row in range(20)]
        threshold = Threshold()
        threshold.update(rows_of(probs_BC[:9], labels[:9]))
        least = threshold.conformity.covering(0.7)
        missed += [probs[label] < least for probs, (label,) in zip(probs_BC[9:], labels[9:], strict=True)]
    assert 0.24 < np.mean(missed) <= 0.3


def test_labels_that_training_never_saw_are_missed() -> None:
    threshold = Threshold()
    threshold.update(rows_of(np.array([[0.6, 0.4]]), [[0, -1]]))
    assert threshold.f1(0.5) == pytest.approx(2 / 3)


def test_without_any_label_there_is_no_f1() -> None:
    threshold = Threshold()
    threshold.update(rows_of(np.array([[0.6, 0.4]]), [[]]))
    assert np.isnan(threshold.f1(0.9))
    assert threshold.f1(0.5) == 0


def test_probabilities_are_of_the_same_predictions() -> None:
    rows = rows_of(np.array([[0.6, 0.4]]), [[0]])
    with pytest.raises(UsageError, match="topk_log_probs_BK"):
        Threshold().update(replace(rows, topk_log_probs_BK=None))
    with pytest.raises(ShapeError, match="topk_log_probs_BK"):
        replace(rows, topk_log_probs_BK=np.zeros((1, 3)))

import re

import numpy as np
import pytest
from calibration_rows import known
from scipy.special import log_softmax, softmax

from widemax.errors import ShapeError, UsageError
from widemax.evaluation.calibration import PriorShift

C, D = 12, 6
UNIFORM = np.full(C, 1 / C)


def centers(num_classes: int) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(num_classes, D)) * 2.0


def shifted_prior(num_classes: int) -> np.ndarray:
    return np.random.default_rng(8).dirichlet(np.full(num_classes, 0.7))


def rows_of(seed: int, num_rows: int, old: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exact log-posteriors under the old prior of normal clouds that occur with the new one, and labels."""
    generator = np.random.default_rng(seed)
    means = centers(old.size)
    labels = generator.choice(old.size, num_rows, p=new)
    features = means[labels] + generator.normal(size=(num_rows, D))
    log_likelihood = features @ means.T - (means**2).sum(1) / 2
    return log_softmax(log_likelihood + np.log(old), axis=1), labels


def nll_after(shift: PriorShift, log_probs: np.ndarray, labels: np.ndarray) -> float:
    rows = known(log_probs, log_probs.shape[1])
    return float(-shift.apply(rows).log_probs[rows.ids_BK == labels[:, None]].mean())


def test_known_priors_give_the_posterior_of_bayes() -> None:
    old, new = shifted_prior(C)[::-1], shifted_prior(C)
    log_probs, _ = rows_of(0, 50, old, new)
    truth, _ = rows_of(0, 50, new, new)
    rows = known(log_probs, C)
    got = PriorShift(old, new).apply(rows)
    assert got.normalizer == "exact"
    np.testing.assert_allclose(got.log_probs, np.take_along_axis(truth, rows.ids_BK, 1), atol=1e-10)


def test_dividing_the_wrong_way_is_worse_than_nothing() -> None:
    new = shifted_prior(C)
    log_probs, labels = rows_of(1, 2000, UNIFORM, new)
    right, wrong, none = (
        nll_after(PriorShift(*priors), log_probs, labels)
        for priors in ((UNIFORM, new), (new, UNIFORM), (UNIFORM, UNIFORM))
    )
    assert right < none - 0.05 < none + 0.05 < wrong


@pytest.mark.parametrize("k", [C, 4])
def test_recovers_the_prior_of_unlabeled_rows(k: int) -> None:
    new = shifted_prior(C)
    log_probs, labels = rows_of(2, 5000, UNIFORM, new)
    found = PriorShift.fit(known(log_probs, k), old_prior=UNIFORM)
    distance, before = np.abs(found.new_prior - new).sum() / 2, np.abs(UNIFORM - new).sum() / 2
    assert before > 0.3
    assert distance < 0.03
    assert found.new_prior.sum() == pytest.approx(1)
    # The mean of the uncorrected posteriors lies between the two priors: one step is not enough.
    one_step = PriorShift.fit(known(log_probs, k), old_prior=UNIFORM, max_iterations=1)
    assert np.abs(one_step.new_prior - new).sum() / 2 > 3 * distance
    assert nll_after(found, log_probs, labels) < nll_after(PriorShift(UNIFORM, new), log_probs, labels) + 0.01


def test_is_the_plain_algorithm_when_every_class_is_listed() -> None:
    old = shifted_prior(C)[::-1]
    log_probs, _ = rows_of(3, 300, old, shifted_prior(C))
    new = old
    for _ in range(5):
        new = softmax(log_probs + np.log(new / old), axis=1).mean(0)
    found = PriorShift.fit(known(log_probs, C), old_prior=old, max_iterations=5, tolerance=0.0)
    np.testing.assert_allclose(found.new_prior, new, rtol=1e-10)


def test_no_step_lowers_the_likelihood() -> None:
    log_probs, _ = rows_of(4, 200, UNIFORM, shifted_prior(C))
    values = []
    for steps in (1, 2, 4, 8, 100):
        new = PriorShift.fit(known(log_probs, C), old_prior=UNIFORM, max_iterations=steps).new_prior
        values.append(np.log(np.exp(log_probs) @ (new / UNIFORM)).mean())
    assert values == sorted(values)
    assert values[-1] > values[0]


def test_spreading_the_tail_equally_would_drift_further_from_a_prior_that_did_not_change() -> None:
    num_classes, k = 300, 10
    logits = np.random.default_rng(5).normal(size=(3000, num_classes)) * 2
    log_probs = log_softmax(logits - np.log(np.arange(1, num_classes + 1)), axis=1)
    old = np.exp(log_probs).mean(0)
    rows, new = known(log_probs, k), old
    listed = np.exp(rows.logits_BK)
    for _ in range(5):
        posterior = np.tile(np.exp(rows.log_tail)[:, None] / (num_classes - k), (1, num_classes))
        np.put_along_axis(posterior, rows.ids_BK, listed, 1)
        posterior *= new / old
        new = (posterior / posterior.sum(1, keepdims=True)).mean(0)
    found = PriorShift.fit(rows, old_prior=old, max_iterations=5)
    assert np.abs(found.new_prior - old).sum() < 0.6 * np.abs(new - old).sum()
    # All classes listed, it does not move.
    whole = PriorShift.fit(known(log_probs, num_classes), old_prior=old, max_iterations=5)
    np.testing.assert_allclose(whole.new_prior, old)


def test_short_lists_give_probabilities_that_sum_to_one() -> None:
    new = np.where(np.arange(C) < 6, 1 / 6, 0.0)
    log_probs, labels = rows_of(6, 40, UNIFORM, UNIFORM)
    got = PriorShift(UNIFORM, new).apply(known(log_probs, 3, labels))
    assert got.normalizer == "estimated"
    np.testing.assert_allclose(np.exp(got.log_probs).sum(1) + np.exp(got.log_tail), 1)
    listed = known(log_probs, 3).ids_BK
    assert (np.exp(got.log_probs)[listed >= 6] == 0).all()


def test_refuses_what_is_no_prior() -> None:
    rows = known(rows_of(7, 5, UNIFORM, UNIFORM)[0], 3)
    with pytest.raises(ShapeError, match=re.escape("got shapes (12,) and (3,)")):
        PriorShift(UNIFORM, np.full(3, 1 / 3))
    with pytest.raises(UsageError, match=re.escape("new_prior must be shares that sum to 1; they sum to 12")):
        PriorShift(UNIFORM, np.ones(C))
    with pytest.raises(UsageError, match="old_prior must be above 0 for every class"):
        PriorShift(np.eye(C)[0], UNIFORM)
    with pytest.raises(ShapeError, match="one share for each of the 12 classes; got 2"):
        PriorShift(np.full(2, 0.5), np.full(2, 0.5)).apply(rows)
    with pytest.raises(UsageError, match="at least one row"):
        PriorShift.fit(known(np.zeros((0, C)), 3), old_prior=UNIFORM)

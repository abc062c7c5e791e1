"""Temperature scaling without the matrix of logits, against the exact fit."""

import numpy as np
import pytest
from calibration_rows import draw_labels, drawn, known, mean_nll
from scipy.special import log_softmax, logsumexp

from widemax.errors import UsageError
from widemax.evaluation import fit_temperature
from widemax.evaluation.calibration import KnownLogits, Temperature


def exact_fit(logits: np.ndarray, labels: np.ndarray) -> float:
    return fit_temperature(lambda T: mean_nll(logits / T, labels), num_rows=len(labels))


@pytest.mark.parametrize("true_temperature", [0.5, 2.0])
def test_agrees_with_the_exact_fit_when_all_classes_are_listed(true_temperature: float) -> None:
    logits, labels = drawn(0, 1000, 12)
    logits = logits * true_temperature
    found = Temperature.fit(known(logits, 12, labels))
    assert found.normalizer == "exact"
    assert found.temperature == pytest.approx(exact_fit(logits, labels), rel=1e-6)
    assert found.temperature == pytest.approx(true_temperature, rel=0.1)


@pytest.mark.parametrize("true_temperature", [0.7, 1.5])
def test_is_near_the_exact_fit_from_a_tenth_of_the_classes(true_temperature: float) -> None:
    logits, labels = drawn(1, 2000, 300, scale=3.0)
    logits = logits * true_temperature
    exact = exact_fit(logits, labels)
    found = Temperature.fit(known(logits, 30, labels))
    assert found.normalizer == "estimated"
    assert found.temperature == pytest.approx(exact, rel=0.03)
    assert mean_nll(logits / found.temperature, labels) < mean_nll(logits / exact, labels) + 1e-3

    # The tail as one class is the wrong twin: its mass does not grow with the temperature as it should.
    rows = known(logits, 30)
    label_logits = logits[np.arange(len(labels)), labels]

    def as_one_class(T: float) -> float:
        log_partition = np.logaddexp(logsumexp(rows.logits_BK / T, axis=1), rows.log_tail / T)
        return float((log_partition - label_logits / T).mean())

    assert abs(fit_temperature(as_one_class, num_rows=len(labels)) / exact - 1) > 0.06


def test_the_nll_is_within_its_bounds() -> None:
    logits, labels = drawn(2, 500, 100)
    rows = known(logits, 10, labels)
    for T in (0.5, 1.0, 3.0):
        lower, upper = (bound.mean() for bound in rows.log_partition_bounds(T))
        label_term = logits[np.arange(500), labels].mean() / T
        assert lower - 1e-9 <= mean_nll(logits / T, labels) + label_term <= upper + 1e-9


def test_apply_gives_probabilities_that_sum_to_one() -> None:
    logits, labels = drawn(3, 50, 40)
    scaled = Temperature(2.0).apply(known(logits, 10, labels))
    assert scaled.normalizer == "estimated"
    total = np.exp(scaled.log_probs).sum(1) + np.exp(scaled.log_tail)
    np.testing.assert_allclose(total, 1)
    unlabeled = Temperature(2.0).apply(known(logits, 10))
    np.testing.assert_array_equal(scaled.log_probs, unlabeled.log_probs)

    rows = known(logits, 40)
    everything = Temperature(2.0).apply(rows)
    truth = np.take_along_axis(log_softmax(logits / 2, axis=1), rows.ids_BK, 1)
    np.testing.assert_allclose(everything.log_probs, truth)
    assert (everything.log_tail == -np.inf).all()


def test_unseen_labels_are_left_out_and_no_labels_refused() -> None:
    logits, labels = drawn(4, 400, 10)
    seen = np.arange(400) % 3 > 0
    rows = known(logits, 4, labels)
    mixed = KnownLogits(
        rows.ids_BK, rows.logits_BK, rows.log_partition_B, 10, np.where(seen, labels, -1), rows.label_logits_B
    )
    expected = Temperature.fit(known(logits[seen], 4, labels[seen]))
    assert Temperature.fit(mixed).temperature == expected.temperature
    with pytest.raises(UsageError, match="labels_B"):
        Temperature.fit(known(logits, 4))


def test_lists_too_short_to_tell_never_make_the_nll_worse() -> None:
    logits, _ = drawn(5, 300, 6000, scale=3.0)
    labels = draw_labels(logits / 1.5, np.random.default_rng(6))
    rows = known(logits, 10, labels)
    found = Temperature.fit(rows).temperature
    assert 1.05 < found < 1.5
    assert mean_nll(logits / found, labels) < mean_nll(logits, labels) - 0.1
    # The estimate alone is the wrong twin: it would flatten far too much.
    label_logits = logits[np.arange(300), labels]
    alone = fit_temperature(
        lambda T: float((rows.log_partition_at(T) - label_logits / T).mean()), num_rows=300
    )
    assert mean_nll(logits / alone, labels) > mean_nll(logits, labels)


def test_a_label_outside_the_list_narrows_the_bounds() -> None:
    logits, labels = drawn(7, 300, 60, scale=3.0)
    short = known(logits, 6, labels)
    assert 0.05 < (short.atom_ids_BA[:, -1] >= 0).mean() < 0.5
    width, without = (
        np.subtract(*rows.log_partition_bounds(2.0)[::-1]) for rows in (short, short.without_labels())
    )
    outside = short.atom_ids_BA[:, -1] >= 0
    assert (width[outside] < without[outside]).mean() > 0.9
    np.testing.assert_array_equal(width[~outside], without[~outside])

import re

import numpy as np
import pytest
from calibration_rows import drawn, known
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from widemax.errors import LabelError, ShapeError, UsageError
from widemax.evaluation.calibration import KnownLogits

SLACK = 1e-12


def test_tail_and_log_odds_are_those_of_the_matrix() -> None:
    logits, labels = drawn(0, 200, 50)
    rows = known(logits, 5)
    tail = np.sort(logits, axis=1)[:, :-5]
    np.testing.assert_allclose(rows.log_tail, logsumexp(tail, axis=1))
    assert (rows.num_tail_B == 45).all()
    others = np.sort(logits, axis=1)[:, :-1]
    np.testing.assert_allclose(rows.top_log_odds_B, logits.max(1) - logsumexp(others, axis=1))

    with_labels = known(logits, 5, labels)
    outside = ~(rows.ids_BK == labels[:, None]).any(1)
    assert 0.1 < outside.mean() < 0.9
    assert (with_labels.num_tail_B == 45 - outside).all()
    rest = np.where(np.arange(50) == labels[:, None], -np.inf, logits)
    np.put_along_axis(rest, rows.ids_BK, -np.inf, 1)
    np.testing.assert_allclose(with_labels.log_tail, logsumexp(rest, axis=1))


@given(
    seed=st.integers(0, 2**31),
    k=st.integers(1, 30),
    scale=st.floats(0.01, 8),
    temperature=st.floats(0.05, 20),
    labeled=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_bounds_hold_the_truth_and_the_estimate(
    seed: int, k: int, scale: float, temperature: float, labeled: bool, dtype: type
) -> None:
    logits, labels = drawn(seed, 20, 30, scale)
    logits = logits.astype(dtype)
    rows = known(logits, k, labels if labeled else None)
    assert rows.log_partition_B.dtype == dtype
    truth = logsumexp(logits.astype(np.float64) / temperature, axis=1)
    lower, upper = rows.log_partition_bounds(temperature)
    slack = SLACK * (1 + np.abs(truth))
    for value in (truth, rows.log_partition_at(temperature)):
        assert (lower <= value + slack).all()
        assert (value <= upper + slack).all()


def test_the_tail_as_one_class_lies_outside_the_bounds() -> None:
    logits, _ = drawn(1, 50, 100)
    rows = known(logits, 10)
    lower, _ = rows.log_partition_bounds(2.0)
    as_one = np.logaddexp(logsumexp(rows.logits_BK / 2, axis=1), rows.log_tail / 2)
    assert (as_one < lower - 0.01).mean() > 0.9


@pytest.mark.parametrize("temperature", [0.4, 2.5])
def test_both_bounds_are_reached(temperature: float) -> None:
    head = [3.0, 2.0, 1.0]
    equal = np.array([head + [-0.5] * 6])
    packed = np.array([[*head, 1.0, 1.0, 0.3, -np.inf, -np.inf, -np.inf]])
    for logits, concave_end in ((equal, 1), (packed, 0)):
        rows = known(logits, 3)
        bounds = rows.log_partition_bounds(temperature)
        reached, other = (concave_end, 1 - concave_end) if temperature > 1 else (1 - concave_end, concave_end)
        truth = logsumexp(logits / temperature, axis=1)
        np.testing.assert_allclose(bounds[reached], truth, rtol=1e-12)
        assert abs(bounds[other] - truth) > 0.001


@pytest.mark.parametrize(("k", "temperature"), [(20, 3.0), (19, 0.3), (4, 1.0)])
def test_nothing_is_estimated_when_all_is_known(k: int, temperature: float) -> None:
    logits, _ = drawn(2, 30, 20)
    rows = known(logits, k)
    assert rows.normalizer == ("estimated" if k == 4 else "exact")
    truth = logsumexp(logits / temperature, axis=1)
    for value in (rows.log_partition_at(temperature), *rows.log_partition_bounds(temperature)):
        np.testing.assert_allclose(value, truth, rtol=1e-10)


def test_estimate_gets_better_with_longer_lists() -> None:
    logits, _ = drawn(3, 300, 1000)
    truth = logsumexp(logits / 2, axis=1)
    errors, widths = [], []
    for k in (1, 10, 100, 500):
        rows = known(logits, k)
        errors.append(np.abs(rows.log_partition_at(2.0) - truth).mean())
        lower, upper = rows.log_partition_bounds(2.0)
        widths.append((upper - lower).mean())
    assert errors == sorted(errors, reverse=True)
    assert widths == sorted(widths, reverse=True)
    assert errors[-1] < 0.05 * errors[0]


def test_rounding_in_the_log_partition_leaves_an_empty_or_a_bounded_tail() -> None:
    logits = np.array([[30.0, 0.0], [30.0, 0.0]])
    rounded = np.array([30.0 - 1e-6, 30.0 + 1e-6])
    rows = KnownLogits(np.array([[0, 1], [0, 1]]), logits, rounded, num_classes=12)
    # Ten classes of at most logit 0 hold at most 10, though 1e-6 of exp(30) is ten million.
    np.testing.assert_array_equal(rows.log_tail, [-np.inf, np.log(10)])
    lower, upper = rows.log_partition_bounds(2.0)
    assert np.isfinite([lower, upper]).all()
    assert rows.top_log_odds_B == pytest.approx([30.0, 30 - np.log(11)])


def test_rows_with_unseen_labels_are_left_out_of_a_fit() -> None:
    logits, labels = drawn(4, 6, 8)
    rows = known(logits, 3, labels)
    unseen = np.array([0, 4])
    labels[unseen] = -1
    left = rows.held_out()
    np.testing.assert_array_equal(left.log_partition_B, np.delete(rows.log_partition_B, unseen))
    assert left.labels_B is not None
    assert (left.labels_B >= 0).all()


def test_refuses_what_does_not_fit_together() -> None:
    logits, labels = drawn(5, 4, 6)
    good = known(logits, 3, labels)
    with pytest.raises(ShapeError, match=re.escape("ids_BK must list from 1 to 2 classes a row")):
        KnownLogits(good.ids_BK, good.logits_BK, good.log_partition_B, 2)
    with pytest.raises(ShapeError, match=re.escape("log_partition_B must be of shape (4,); got (3,)")):
        KnownLogits(good.ids_BK, good.logits_BK, good.log_partition_B[:3], 6)
    with pytest.raises(UsageError, match="must come together"):
        KnownLogits(good.ids_BK, good.logits_BK, good.log_partition_B, 6, labels)
    with pytest.raises(UsageError, match="must be finite"):
        KnownLogits(good.ids_BK, np.full((4, 3), -np.inf), good.log_partition_B, 6)
    with pytest.raises(LabelError, match=re.escape("labels_B must lie in [-1, 6); got 9 at row 2")):
        known_with(good, np.array([0, 1, 9, 2])).held_out()
    for labels_or_none in (None, np.full(4, -1)):
        with pytest.raises(UsageError, match="must hold a label that training saw"):
            known_with(good, labels_or_none).held_out()


def known_with(rows: KnownLogits, labels: np.ndarray | None) -> KnownLogits:
    label_logits = None if labels is None else rows.label_logits_B
    return KnownLogits(rows.ids_BK, rows.logits_BK, rows.log_partition_B, 6, labels, label_logits)

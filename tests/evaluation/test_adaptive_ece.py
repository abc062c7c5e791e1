import math

import numpy as np
import pytest
from evaluation_rows import one_label_rows, random_probs, slice_one

from widemax.evaluation import OneLabelRows
from widemax.evaluation.metrics import TrainingCounts
from widemax.evaluation.metrics.adaptive_ece import AdaptiveCalibrationError
from widemax.evaluation.metrics.ece import ExpectedCalibrationError

B, C = 450, 12
TRAINING = TrainingCounts(np.ones(C, np.int64), C)


def measured(*chunks: OneLabelRows) -> float:
    metric = AdaptiveCalibrationError(TRAINING)
    for rows in chunks:
        metric.update(rows)
    return metric.compute()


def random_rows() -> OneLabelRows:
    probs, generator = random_probs(0, B, C), np.random.default_rng(1)
    labels = [generator.choice(C, p=p) if generator.random() < 0.9 else -1 for p in probs]
    return one_label_rows(probs, labels)


def two_class_rows(confidence: np.ndarray, right: np.ndarray) -> OneLabelRows:
    return one_label_rows(np.column_stack([confidence, 1 - confidence]), np.where(right, 0, 1).tolist())


def test_agrees_with_a_loop_over_thirty_rows_at_a_time() -> None:
    rows = random_rows()
    order = np.argsort(rows.confidence_B)
    gap = (rows.ranks_B == 1) - rows.confidence_B
    expected = sum(abs(gap[order[start : start + 30]].sum()) for start in range(0, B, 30)) / B
    assert measured(rows) == pytest.approx(expected)
    # Bins of equal width measure something else.
    equal_width = ExpectedCalibrationError(TRAINING)
    equal_width.update(rows)
    assert abs(equal_width.compute() - expected) > 1e-3


def test_neither_chunks_nor_order_matter() -> None:
    rows = random_rows()
    assert measured(slice_one(rows, 0, 7), slice_one(rows, 7, 7), slice_one(rows, 7, B)) == measured(rows)
    # Few distinct confidences: rows that tie must not be told apart by their place.
    generator = np.random.default_rng(2)
    confidence, right = generator.choice([0.6, 0.7, 0.9], 100), generator.random(100) < 0.5
    shuffled = generator.permutation(100)
    forward = measured(two_class_rows(confidence, right))
    assert measured(two_class_rows(confidence[shuffled], right[shuffled])) == pytest.approx(
        forward, rel=1e-12
    )
    expected = sum(abs((right - confidence)[confidence == value].sum()) for value in (0.6, 0.7, 0.9)) / 100
    assert forward == pytest.approx(expected)


def test_sees_errors_that_cancel_in_one_wide_bin() -> None:
    # All confidences lie in (14/15, 1]: the lower half is always right, the upper half too often wrong.
    confidence = np.linspace(0.94, 0.999, 300)
    right = np.where(np.arange(300) < 150, True, np.arange(300) % 16 > 0)
    rows = two_class_rows(confidence, right)
    equal_width = ExpectedCalibrationError(TRAINING)
    equal_width.update(rows)
    assert equal_width.compute() < 0.003
    assert measured(rows) > 0.03


def test_no_rows_give_nan() -> None:
    assert math.isnan(measured())
    assert measured(slice_one(random_rows(), 3, 4)) > 0

import numpy as np
import pytest
from evaluation_rows import one_label_rows, random_probs
from sklearn.metrics import brier_score_loss

from widemax.evaluation import evaluate_rows

B, C = 300, 20


def brier(probs: np.ndarray, labels: np.ndarray) -> float:
    """The definition, with every probability; an unseen label is one more class, of probability 0."""
    probs = np.column_stack([probs, np.zeros(B)])
    one_hot = np.where((labels % (C + 1))[:, None] == np.arange(C + 1), 1.0, 0.0)
    return float(((probs - one_hot) ** 2).sum(1).mean())


def test_agrees_with_scikit_learn_on_whether_the_best_class_is_right() -> None:
    probs = random_probs(0, B, C)
    labels = np.random.default_rng(1).integers(-1, C, B)
    labels[::2] = probs[::2].argmax(1)
    got = evaluate_rows(
        "one",
        [one_label_rows(probs, labels.tolist())],
        class_counts=np.ones(C, np.int64),
        num_rows_train=C,
    )["top_label_brier"]
    right = (labels == probs.argmax(1)).astype(int)
    assert got == pytest.approx(brier_score_loss(right, probs.max(1)))
    # Over all classes it is another number.
    assert abs(brier(probs, labels) - got) > 0.05


def test_over_all_classes_agrees_with_the_definition() -> None:
    probs = random_probs(2, B, C)
    labels = np.random.default_rng(3).integers(-1, C, B)
    got = evaluate_rows(
        "one",
        [one_label_rows(probs, labels.tolist())],
        class_counts=np.ones(C, np.int64),
        num_rows_train=C,
    )["brier"]
    assert got == pytest.approx(brier(probs, labels))


def test_by_hand_and_an_unseen_label_counts_as_wrong() -> None:
    rows = one_label_rows(np.array([[0.75, 0.25], [0.75, 0.25], [0.5, 0.5]]), [0, 1, -1])
    got = evaluate_rows("one", [rows], class_counts=np.ones(2, np.int64), num_rows_train=2)
    assert got["top_label_brier"] == pytest.approx((0.25**2 + 0.75**2 + 0.5**2) / 3)

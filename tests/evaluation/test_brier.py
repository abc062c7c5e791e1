import numpy as np
import pytest
from evaluation_rows import one_label_rows, random_probs
from sklearn.metrics import brier_score_loss

from widemax.evaluation import evaluate_rows

B, C = 300, 20


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
    one_hot = np.where(labels[:, None] == np.arange(C), 1.0, 0.0)
    assert abs(((probs - one_hot) ** 2).sum(1).mean() - got) > 0.05


def test_by_hand_and_an_unseen_label_counts_as_wrong() -> None:
    rows = one_label_rows(np.array([[0.75, 0.25], [0.75, 0.25], [0.5, 0.5]]), [0, 1, -1])
    got = evaluate_rows("one", [rows], class_counts=np.ones(2, np.int64), num_rows_train=2)
    assert got["top_label_brier"] == pytest.approx((0.25**2 + 0.75**2 + 0.5**2) / 3)

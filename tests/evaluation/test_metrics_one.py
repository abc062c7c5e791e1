"""Metrics of rows with one label, against scikit-learn."""

import numpy as np
import pytest
from evaluation_rows import one_label_rows, random_probs
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    label_ranking_average_precision_score,
    log_loss,
    top_k_accuracy_score,
)

from widemax.evaluation import Measures, OneLabelRows, evaluate_rows
from widemax.evaluation.metrics import macro_f1

B, C = 400, 30


def evaluate(rows: OneLabelRows, num_classes: int = C) -> dict[str, float]:
    return evaluate_rows(
        "one", [rows], class_counts=np.ones(num_classes, np.int64), num_rows_train=num_classes
    )


@pytest.fixture(scope="module")
def probs() -> np.ndarray:
    return random_probs(0, B, C)


@pytest.fixture(scope="module")
def labels(probs: np.ndarray) -> np.ndarray:
    # The last five classes never occur as a label, though they are predicted.
    generator = np.random.default_rng(1)
    confused = np.array([generator.choice(C, p=p) for p in probs])
    return np.where(confused < C - 5, confused, 0)


def test_agrees_with_scikit_learn(probs: np.ndarray, labels: np.ndarray) -> None:
    got = evaluate(one_label_rows(probs, labels.tolist()))
    predicted, classes = probs.argmax(1), np.arange(C)
    assert got["nll"] == pytest.approx(log_loss(labels, probs, labels=classes))
    assert got["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert got["top5"] == pytest.approx(top_k_accuracy_score(labels, probs, k=5, labels=classes))
    assert got["top10"] == pytest.approx(top_k_accuracy_score(labels, probs, k=10, labels=classes))
    assert got["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    one_hot = np.eye(C, dtype=int)[labels]
    assert got["mean_reciprocal_rank"] == pytest.approx(label_ranking_average_precision_score(one_hot, probs))
    assert got["unseen_labels"] == 0
    assert 0.1 < got["accuracy"] < got["top5"] < got["top10"] < 1


def test_macro_f1_of_chunks_holds_what_was_met_alone(
    probs: np.ndarray, labels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(macro_f1, "FRESH_KEYS", 50)
    # So many counts have no room; these are one number.
    counts = np.broadcast_to(np.int64(1), 10**13)
    measures = Measures("one", class_counts=counts, num_rows_train=1)
    for start in range(0, B, 7):
        measures.update(one_label_rows(probs[start : start + 7], labels[start : start + 7].tolist()))
    assert measures.compute()["macro_f1"] == pytest.approx(f1_score(labels, probs.argmax(1), average="macro"))


def test_unseen_labels_are_misses_without_nll(probs: np.ndarray, labels: np.ndarray) -> None:
    unseen = np.arange(B) % 4 == 0
    known = evaluate(one_label_rows(probs[~unseen], labels[~unseen].tolist()))
    got = evaluate(one_label_rows(probs, np.where(unseen, -1, labels).tolist()))
    assert got["unseen_labels"] == unseen.sum()
    assert got["nll"] == pytest.approx(known["nll"])
    for name in ("accuracy", "top5", "top10", "mean_reciprocal_rank"):
        assert got[name] == pytest.approx(known[name] * 0.75), name


def test_macro_f1_counts_an_unseen_label_against_the_prediction_only(
    probs: np.ndarray, labels: np.ndarray
) -> None:
    labels = np.where(np.arange(B) % 4 == 0, -1, labels)
    predicted = probs.argmax(1)
    occurring = np.union1d(labels[labels >= 0], predicted)
    expected = f1_score(labels, predicted, labels=occurring, average="macro")
    got = evaluate(one_label_rows(probs, labels.tolist()))["macro_f1"]
    assert got == pytest.approx(expected)
    # Were the unseen labels a class of their own, the mean would be lower.
    assert got > f1_score(labels, predicted, average="macro")


def test_ece_agrees_with_a_loop_over_bins(probs: np.ndarray, labels: np.ndarray) -> None:
    labels = np.where(np.arange(B) % 4 == 0, -1, labels)
    confidence, right = probs.max(1), probs.argmax(1) == labels
    expected = 0.0
    for m in range(15):
        inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    got = evaluate(one_label_rows(probs, labels.tolist()))["ece"]
    assert got == pytest.approx(expected)
    assert got > 0.01


def test_by_hand() -> None:
    probs = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.25, 0.5, 0.25]])
    got = evaluate(one_label_rows(probs, [1, 2, -1, 2]), num_classes=3)
    assert got["nll"] == pytest.approx(-np.log(0.3 * 0.7 * 0.25) / 3)
    assert got["accuracy"] == 0.25
    # Ties are broken by class id: class 2 comes after class 0 at the same probability.
    assert got["mean_reciprocal_rank"] == pytest.approx((1 / 2 + 1 + 0 + 1 / 3) / 4)
    # Class 0: predicted twice, never right. Class 1: one label, one wrong prediction. Class 2: 2·1 / (2 + 1).
    assert got["macro_f1"] == pytest.approx((0 + 0 + 2 / 3) / 3)


def test_certainty_may_exceed_one_by_rounding() -> None:
    rows = OneLabelRows(
        labels_B=np.array([0, 0]),
        ranks_B=np.array([1, 1]),
        log_probs_B=np.array([1e-7, 0.0]),
        topk_ids_BK=np.array([[0], [0]]),
        topk_log_probs_BK=np.array([[1e-7], [-np.inf]]),
        square_sums_B=np.array([1.0, 0.0]),
    )
    assert evaluate(rows, num_classes=1)["ece"] == pytest.approx(0.5, abs=1e-6)

"""Metrics of rows with several labels, against scikit-learn and plain loops."""

import math
from typing import Any

import numpy as np
import pytest
from evaluation_rows import random_label_lists, ranking, several_label_rows
from sklearn.metrics import ndcg_score

from widemax.classes import inverse_propensity
from widemax.evaluation import evaluate_rows

B, C, NUM_TRAIN = 300, 40, 5000
COUNTS = np.maximum(1, 2000 // np.arange(1, C + 1) ** 2)


def data(fewest: int = 1) -> tuple[np.ndarray, list[list[int]]]:
    labels = random_label_lists(1, B, C, fewest=fewest)
    scores = np.random.default_rng(0).random((B, C))
    for row, ids in enumerate(labels):
        scores[row, [i for i in ids if i >= 0]] += 0.4
    return scores, labels


def evaluate(scores: np.ndarray, labels: list[list[int]], task: str = "several") -> dict[str, float]:
    chunk = several_label_rows(scores, labels)
    return evaluate_rows(task, [chunk], class_counts=COUNTS, num_rows_train=NUM_TRAIN)


def relevance_with_unseen(scores: np.ndarray, labels: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Unseen labels as extra columns that score below every class."""
    relevance = np.zeros((len(labels), C + 8))
    for row, ids in enumerate(labels):
        extra = C
        for label in ids:
            relevance[row, label if label >= 0 else extra] = 1
            extra += label < 0
    return relevance, np.hstack([scores, -1 - np.arange(8) * np.ones((len(labels), 1))])


@pytest.mark.parametrize(("task", "k"), [("several", 5), ("next", 10), ("next", 20)])
def test_ndcg_agrees_with_scikit_learn(task: str, k: int) -> None:
    scores, labels = data()
    expected = ndcg_score(*relevance_with_unseen(scores, labels), k=k)
    assert evaluate(scores, labels, task)[f"ndcg@{k}"] == pytest.approx(expected)
    assert 0.1 < expected < 0.9


def test_precision_and_recall_agree_with_set_intersections() -> None:
    scores, labels = data(fewest=0)
    best = ranking(scores)
    got, following = evaluate(scores, labels), evaluate(scores, labels, "next")

    def hits(row: int, k: int) -> int:
        return len(set(best[row, :k].tolist()) & set(labels[row]))

    for k in (1, 3, 5):
        assert got[f"p@{k}"] == pytest.approx(np.mean([hits(b, k) / k for b in range(B)]))
    labeled = [b for b in range(B) if labels[b]]
    assert len(labeled) < B
    assert got["r@10"] == pytest.approx(np.mean([hits(b, 10) / len(labels[b]) for b in labeled]))
    assert following["recall@20"] == pytest.approx(np.mean([hits(b, 20) / len(labels[b]) for b in labeled]))
    assert following["hr@10"] == pytest.approx(np.mean([hits(b, 10) > 0 for b in labeled]))
    reciprocal = [
        max(1 / (best[b].tolist().index(y) + 1) if y >= 0 else 0 for y in labels[b]) for b in labeled
    ]
    assert following["mrr"] == pytest.approx(np.mean(reciprocal))
    num_unseen = sum(y < 0 for ids in labels for y in ids)
    assert got["unseen_labels"] == following["unseen_labels"] == num_unseen > 0


def worth(label: int) -> float:
    c = (math.log(NUM_TRAIN) - 1) * 2.5**0.55
    count = int(COUNTS[label]) if label >= 0 else 0
    return 1 + c * math.exp(-0.55 * math.log(count + 1.5))


@pytest.mark.parametrize("k", [1, 5])
def test_psp_agrees_with_a_loop(k: int) -> None:
    scores, labels = data(fewest=0)
    reached = attainable = 0.0
    for best, ids in zip(ranking(scores), labels, strict=True):
        reached += sum(worth(y) for y in best[:k].tolist() if y in ids)
        attainable += sum(sorted(map(worth, ids), reverse=True)[:k])
    got = evaluate(scores, labels)[f"psp@{k}"]
    assert got == pytest.approx(reached / attainable)
    assert 0.1 < got < 0.9


def test_perfect_predictions_of_known_labels_score_one() -> None:
    labels = random_label_lists(3, B, C, unseen_share=0.0)
    scores = np.random.default_rng(0).random((B, C))
    for row, ids in enumerate(labels):
        # The rarer label first: only this order attains the best propensity-scored precision.
        scores[row, ids] += 1 + np.array(ids)
    got = {**evaluate(scores, labels), **evaluate(scores, labels, "next")}
    for name in (
        "p@1",
        "psp@1",
        "psp@5",
        "ndcg@5",
        "ndcg@10",
        "ndcg@20",
        "r@10",
        "recall@20",
        "hr@10",
        "mrr",
    ):
        assert got[name] == pytest.approx(1.0), name


def test_by_hand() -> None:
    scores = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.4, 0.3, 0.2]])
    rows = several_label_rows(scores, [[0, 2], [2, -1]])
    got = evaluate_rows("several", [rows], class_counts=np.array([8, 4, 2, 1]), num_rows_train=15)
    assert got["p@1"] == 0.5
    assert got["p@3"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert got["p@5"] == pytest.approx((2 / 4 + 1 / 4) / 2)  # there are four classes
    ideal = 1 + 1 / math.log2(3)
    assert got["ndcg@5"] == pytest.approx(((1 + 1 / 2) / ideal + (1 / math.log2(3)) / ideal) / 2)
    assert got["r@10"] == pytest.approx((1 + 0.5) / 2)


def test_inverse_propensity_falls_with_the_count_and_never_below_one() -> None:
    values = inverse_propensity(np.arange(1000), 10_000)
    assert (np.diff(values) < 0).all()
    assert values[-1] > 1
    for num_rows in (0, 1, 2):
        assert inverse_propensity(np.array([0, 1]), num_rows).tolist() == [1, 1]


@pytest.mark.parametrize("task", ["several", "next"])
def test_without_labels_only_what_is_of_predictions_has_a_value(task: str) -> None:
    got: dict[str, Any] = evaluate(np.random.default_rng(0).random((3, C)), [[], [], []], task)
    valued = {name for name, value in got.items() if not math.isnan(value)}
    of_predictions = {"several": {"p@1", "p@3", "p@5"}, "next": {"coverage@20", "novelty@20"}}
    assert valued - {"unseen_labels", "excluded_labels"} == of_predictions[task]

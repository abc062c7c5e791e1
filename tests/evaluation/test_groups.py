"""Metrics of groups are the metrics of their rows and labels alone."""

import numpy as np
import pytest
from evaluation_rows import random_label_lists, random_probs, several_label_rows

from widemax.evaluation import Groups, evaluate_rows

B, C = 200, 60
COUNTS = np.maximum(1, 600 // np.arange(1, C + 1) ** 2)


def test_groups_are_evaluated_as_if_they_were_all() -> None:
    rng = np.random.default_rng(0)
    probs, labels, lengths = random_probs(0, B, C), random_label_lists(1, B, C), rng.integers(0, 130, B)
    groups = Groups(COUNTS)
    for part in (slice(0, 70), slice(70, B)):
        groups.update(several_label_rows(probs[part], labels[part]), lengths[part])
    found = groups.compute()
    spans = {"0": (0, 1), "1–4": (1, 5), "5–19": (5, 20), "20–99": (20, 100), "100 or more": (100, 1000)}
    assert [group["history"] for group in found["by_history"]] == list(spans)
    thirds = np.minimum(3 * (np.cumsum(COUNTS) - COUNTS) // COUNTS.sum(), 2)
    wanted = [
        [ids if low <= length < high else [] for ids, length in zip(labels, lengths, strict=True)]
        for low, high in spans.values()
    ]
    wanted += [[[i for i in ids if i >= 0 and thirds[i] == third] for ids in labels] for third in range(3)]
    for group, own in zip([*found["by_history"], *found["by_popularity"]], wanted, strict=True):
        # Ranks are among all classes, whichever labels are asked for.
        kept = [row for row, ids in enumerate(own) if ids]
        chunk = several_label_rows(probs[kept], [own[row] for row in kept])
        metrics = evaluate_rows("next", [chunk], class_counts=COUNTS, num_rows_train=1)
        assert group["labels"] == sum(map(len, own))
        assert group["recall@20"] == pytest.approx(metrics["recall@20"])
        assert group["ndcg@10"] == pytest.approx(metrics["ndcg@10"])
    assert [group["popularity"] for group in found["by_popularity"]] == [
        "most popular",
        "middle",
        "least popular",
    ]


def test_without_histories_there_are_groups_of_items_alone() -> None:
    groups = Groups(COUNTS)
    groups.update(several_label_rows(random_probs(0, 5, C), [[0]] * 5), None)
    assert groups.compute()["by_history"] == []
    assert [group["labels"] for group in groups.compute()["by_popularity"]] == [5]


def test_coverage_and_novelty_by_loops() -> None:
    probs = random_probs(3, 7, C)
    chunk = several_label_rows(probs, [[0]] * 7)
    values = evaluate_rows("next", [chunk], class_counts=COUNTS, num_rows_train=1)
    best = [np.argsort(-row, kind="stable")[:20].tolist() for row in probs]
    assert values["coverage@20"] == len({item for row in best for item in row}) / C
    bits = [-np.log2(COUNTS[item] / COUNTS.sum()) for row in best for item in row]
    assert values["novelty@20"] == pytest.approx(np.mean(bits))

"""Metrics for people: the few that matter, in words, beside what the baseline reaches."""

import numpy as np
import pytest
from evaluation_rows import one_label_rows, random_label_lists, random_probs, several_label_rows

from widemax.evaluation import evaluate_rows
from widemax.evaluation.headlines import called, in_words, metric_lines, rounded_epochs
from widemax.task import Task

COUNTS = np.ones(30, np.int64)


def metrics_of(task: Task) -> dict[str, float]:
    probs = random_probs(0, 50, 30)
    rows = (
        one_label_rows(probs, np.random.default_rng(1).integers(0, 30, 50).tolist())
        if task is Task.ONE
        else several_label_rows(probs, random_label_lists(2, 50, 30))
    )
    return evaluate_rows(task, [rows], class_counts=COUNTS, num_rows_train=30)


@pytest.mark.parametrize("task", Task)
def test_the_few_come_first_and_every_metric_after_them(task: Task) -> None:
    metrics = metrics_of(task) | {"unseen_labels": 0, "excluded_labels": 0}
    few, every = (list(metric_lines(task, metrics, {}, every=every)) for every in (False, True))
    assert 3 <= len(few) <= 5
    assert [line.split("  ")[0] for line in every[: len(few)]] == [line.split("  ")[0] for line in few]
    assert len(every) == len(metrics)
    assert "seen" not in "".join(few)
    some = list(metric_lines(task, metrics | {"unseen_labels": 3}, {}))
    assert some[-1].split() == ["labels", "never", "seen", "3"]


def test_a_metric_stands_beside_its_baseline() -> None:
    lines = metric_lines(Task.ONE, {"accuracy": 0.5, "nll": None}, {"accuracy": 0.25, "nll": 1.0})
    assert list(lines) == [
        "accuracy                    50.00%  (most frequent class: 25.00%)",
        "negative log-likelihood  undefined  (most frequent class: 1.0000 nats)",
    ]


def test_every_metric_has_a_name_in_words() -> None:
    for task in Task:
        for metric in metrics_of(task):
            words = called(metric)
            assert words == "accuracy" or (words != metric and "_" not in words)
            assert in_words(metric, float("nan")) == "undefined"


@pytest.mark.parametrize("count", [0.001, 0.0345, 0.5, 1.0, 2.999, 30.0, 1e4])
def test_epochs_are_never_none_nor_many_digits(count: float) -> None:
    text = rounded_epochs(count)
    assert float(text) == pytest.approx(count, abs=0.006)
    assert float(text) > 0
    assert len(text) <= 6

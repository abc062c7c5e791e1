import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from evaluation_rows import (
    one_label_rows,
    random_label_lists,
    random_probs,
    several_label_rows,
    slice_one,
    slice_several,
)
from hypothesis import given
from hypothesis import strategies as st

from widemax.errors import UsageError
from widemax.evaluation import evaluate_rows
from widemax.evaluation.metrics import metrics

CONTRACT = {
    "one": "nll accuracy top5 top10 mean_reciprocal_rank macro_f1 ece adaptive_ece "
    "brier top_label_brier unseen_labels",
    "several": "p@1 p@3 p@5 ndcg@5 r@10 psp@1 psp@5 unseen_labels",
    "next": "hr@10 ndcg@10 recall@20 ndcg@20 mrr coverage@20 novelty@20 unseen_labels excluded_labels",
}
B, C = 60, 25
COUNTS = np.arange(C, 0, -1)


def rows_of(task: str) -> tuple[Any, Callable[..., Any]]:
    probs = random_probs(0, B, C)
    if task == "one":
        labels = np.random.default_rng(1).integers(-1, C, B).tolist()
        return one_label_rows(probs, labels), slice_one
    return several_label_rows(probs, random_label_lists(2, B, C, fewest=0)), slice_several


def evaluate(task: str, chunks: list[Any]) -> dict[str, float]:
    return evaluate_rows(task, chunks, class_counts=COUNTS, num_rows_train=1000)


@pytest.mark.parametrize("task", CONTRACT)
def test_gives_the_fields_of_the_contract_as_plain_numbers(task: str) -> None:
    got = evaluate(task, [rows_of(task)[0]])
    assert set(got) == set(CONTRACT[task].split())
    assert all(type(value) in (int, float) for value in got.values())


@pytest.mark.parametrize("task", CONTRACT)
@given(cuts=st.lists(st.integers(0, B), max_size=6))
def test_chunks_of_any_sizes_give_the_same_numbers(task: str, cuts: list[int]) -> None:
    rows, part = rows_of(task)
    edges = [0, *sorted(cuts), B]
    chunks = [part(rows, start, stop) for start, stop in pairwise(edges)]
    assert evaluate(task, chunks) == pytest.approx(evaluate(task, [rows]), rel=1e-12)


@pytest.mark.parametrize("task", CONTRACT)
def test_no_rows_give_nan_and_no_unseen_labels(task: str) -> None:
    got = evaluate(task, [])
    assert got.pop("unseen_labels") == got.pop("excluded_labels", 0) == 0
    assert all(math.isnan(value) for value in got.values())


def test_refuses_an_unknown_task_and_rows_of_the_other_kind() -> None:
    with pytest.raises(UsageError, match="did you mean 'several'"):
        evaluate("severl", [])
    with pytest.raises(UsageError, match="must be SeveralLabelRows; got OneLabelRows"):
        evaluate("next", [rows_of("one")[0]])


@pytest.mark.parametrize("name", metrics.names())
def test_every_metric_says_what_it_is_and_for_which_tasks(name: str) -> None:
    assert metrics[name].__doc__
    assert metrics[name].tasks <= set(CONTRACT)
    assert metrics[name].tasks

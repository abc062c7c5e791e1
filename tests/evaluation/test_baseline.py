"""The baseline against a model whose table of probabilities is the class frequencies, worked out in full."""

import numpy as np
import pytest
from evaluation_rows import one_label_rows, random_label_lists, several_label_rows

from widemax.evaluation import Baseline, evaluate_rows

B, C = 80, 30
COUNTS = np.random.default_rng(0).integers(1, 50, C)
SHARES_BC = np.tile(COUNTS / COUNTS.sum(), (B, 1))


def metrics_of(task, rows):
    return evaluate_rows(task, [rows], class_counts=COUNTS, num_rows_train=int(COUNTS.sum()))


def test_one_label():
    labels = np.random.default_rng(1).integers(-1, C, B).tolist()
    expected = one_label_rows(SHARES_BC, labels)
    others = one_label_rows(np.random.default_rng(2).dirichlet(np.ones(C), B), labels)
    assert metrics_of("one", Baseline(COUNTS).one(others)) == pytest.approx(metrics_of("one", expected))


@pytest.mark.parametrize("task", ["several", "next"])
def test_several_labels(task):
    lists = random_label_lists(3, B, C)
    expected = several_label_rows(SHARES_BC, lists)
    others = several_label_rows(np.random.default_rng(2).random((B, C)), lists)
    found = Baseline(COUNTS).several(others)
    np.testing.assert_array_equal(found.topk_ids_BK, expected.topk_ids_BK)
    np.testing.assert_array_equal(found.ranks_P, expected.ranks_P)


def test_what_rows_have_seen_is_passed_over():
    generator = np.random.default_rng(4)
    lists = [generator.choice(C, 3, replace=False).tolist() for _ in range(B)]
    seen_BC = generator.random((B, C)) < generator.random((B, 1)) * 0.8
    for row, labels in enumerate(lists):
        seen_BC[row, labels] = False
    expected = several_label_rows(np.where(seen_BC, -1.0, SHARES_BC), lists)
    others = several_label_rows(generator.random((B, C)), lists)
    rows_Q, ids_Q = np.nonzero(seen_BC)
    twice = np.append(rows_Q, rows_Q[:9]), np.append(ids_Q, ids_Q[:9])
    found = Baseline(COUNTS).several(others, twice)
    np.testing.assert_array_equal(found.ranks_P, expected.ranks_P)
    for row, (left, right) in enumerate(zip(found.topk_ids_BK, expected.topk_ids_BK, strict=True)):
        allowed = int((~seen_BC[row]).sum())
        assert left[:allowed].tolist() == right[:allowed].tolist()

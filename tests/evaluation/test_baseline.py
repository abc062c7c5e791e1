"""The baseline against a model whose table of probabilities is the class frequencies, worked out in full."""

import numpy as np
import pytest
from evaluation_rows import one_label_rows, random_label_lists, several_label_rows

from widemax.evaluation import Baseline, evaluate_rows

B, C = 80, 30
COUNTS = np.random.default_rng(0).integers(1, 50, C)


@pytest.fixture(params=["in any order", "as a vocabulary has them"])
def counts(request):
    return COUNTS if request.param == "in any order" else -np.sort(-COUNTS)


@pytest.fixture(name="shares_BC")
def shares(counts):
    return np.tile(counts / counts.sum(), (B, 1))


def test_one_label(counts, shares_BC):
    labels = np.random.default_rng(1).integers(-1, C, B).tolist()
    expected = one_label_rows(shares_BC, labels)
    others = one_label_rows(np.random.default_rng(2).dirichlet(np.ones(C), B), labels)
    found, wanted = (
        evaluate_rows("one", [rows], class_counts=counts, num_rows_train=int(counts.sum()))
        for rows in (Baseline(counts).one(others), expected)
    )
    assert found == pytest.approx(wanted)


def test_classes_without_rows_share_one_row_with_all():
    counts = np.array([6, 0, 3])
    shares = np.tile((counts + 1 / 3) / 10, (3, 1))
    others = one_label_rows(np.full((3, 3), 1 / 3), [0, 1, 2])
    found, wanted = (
        evaluate_rows("one", [rows], class_counts=counts, num_rows_train=9)
        for rows in (Baseline(counts).one(others), one_label_rows(shares, [0, 1, 2]))
    )
    assert found == pytest.approx(wanted)
    assert np.isfinite(found["nll"])


def test_several_labels(counts, shares_BC):
    lists = random_label_lists(3, B, C)
    expected = several_label_rows(shares_BC, lists)
    others = several_label_rows(np.random.default_rng(2).random((B, C)), lists)
    found = Baseline(counts).several(others)
    np.testing.assert_array_equal(found.topk_ids_BK, expected.topk_ids_BK)
    np.testing.assert_array_equal(found.ranks_P, expected.ranks_P)


def test_what_rows_have_seen_is_passed_over(counts, shares_BC):
    generator = np.random.default_rng(4)
    lists = [generator.choice(C, 3, replace=False).tolist() for _ in range(B)]
    seen_BC = generator.random((B, C)) < generator.random((B, 1)) * 0.8
    for row, labels in enumerate(lists):
        seen_BC[row, labels] = False
    expected = several_label_rows(np.where(seen_BC, -1.0, shares_BC), lists)
    others = several_label_rows(generator.random((B, C)), lists)
    rows_Q, ids_Q = np.nonzero(seen_BC)
    twice = np.append(rows_Q, rows_Q[:9]), np.append(ids_Q, ids_Q[:9])
    found = Baseline(counts).several(others, twice)
    np.testing.assert_array_equal(found.ranks_P, expected.ranks_P)
    for row, (left, right) in enumerate(zip(found.topk_ids_BK, expected.topk_ids_BK, strict=True)):
        allowed = int((~seen_BC[row]).sum())
        assert left[:allowed].tolist() == right[:allowed].tolist()

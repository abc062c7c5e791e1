"""The largest values of each row, with ties by position."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from widemax.kernels import Pairs, ranking, topk_by_id
from widemax.kernels.ranking import count_larger


def brute_force(values_BN, k):
    return np.argsort(-values_BN, axis=1, kind="stable")[:, :k]


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 5), st.integers(1, 12), st.integers(1, 4), st.integers(0, 10**6), st.data())
def test_equals_a_stable_sort(num_rows, num_values, num_levels, seed, data):
    k = data.draw(st.integers(0, num_values))
    # Few levels make many ties.
    values = np.random.default_rng(seed).integers(0, num_levels, (num_rows, num_values)).astype(np.float32)
    values[values == 0] = -np.inf
    found, positions = topk_by_id(torch.from_numpy(values), k)
    expected = brute_force(values, k)
    np.testing.assert_array_equal(positions, expected)
    np.testing.assert_array_equal(found, np.take_along_axis(values, expected, 1))


def test_ties_at_the_last_place_are_resolved_in_small_portions(monkeypatch):
    monkeypatch.setattr(ranking, "_TIE_ELEMENTS", 64)
    values = np.random.default_rng(0).integers(0, 3, (50, 40)).astype(np.float64)
    np.testing.assert_array_equal(topk_by_id(torch.from_numpy(values), 7)[1], brute_force(values, 7))


def test_plain_topk_would_not_do():
    values = torch.from_numpy(np.random.default_rng(1).integers(0, 4, (20, 300)).astype(np.float32))
    expected = brute_force(values.numpy(), 20)
    np.testing.assert_array_equal(topk_by_id(values, 20)[1], expected)
    assert (values.topk(20).indices.numpy() != expected).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_keeps_the_dtype(dtype):
    assert topk_by_id(torch.ones(1, 3, dtype=dtype), 2)[0].dtype == dtype


def counted_by_sorting(values_BN, rows, ids):
    order_BN = brute_force(values_BN, values_BN.shape[1])
    return [
        0 if label < 0 else order_BN[row].tolist().index(label) for row, label in zip(rows, ids, strict=True)
    ]


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(0, 10**6))
def test_counts_the_classes_before_a_label(num_rows, num_blocks, width, num_levels, seed):
    generator = np.random.default_rng(seed)
    values = generator.integers(0, num_levels, (num_rows, num_blocks * width)).astype(np.float32)
    rows = np.sort(generator.integers(0, num_rows, 6))
    ids = generator.integers(-1, num_blocks * width, 6)
    logits = torch.from_numpy(values).view(num_rows, num_blocks, width)
    known = np.where(ids < 0, np.nan, values[rows, ids]).astype(np.float32)
    labels = Pairs(torch.from_numpy(rows), torch.from_numpy(ids))
    expected = counted_by_sorting(values, rows.tolist(), ids.tolist())
    whole = count_larger(logits, logits.amax(2), labels, torch.from_numpy(known))
    assert whole.tolist() == expected
    # Block by block, as tiles are counted.
    parts = [
        count_larger(
            logits[:, [block]], logits[:, [block]].amax(2), labels, torch.from_numpy(known), first_block=block
        )
        for block in range(num_blocks)
    ]
    assert sum(parts).tolist() == expected


def test_blocks_are_looked_into_in_small_portions(monkeypatch):
    monkeypatch.setattr(ranking, "_COUNTED_BLOCKS", 3)
    values = np.random.default_rng(0).integers(0, 3, (7, 40)).astype(np.float32)
    labels = Pairs(torch.arange(7), torch.arange(7) * 5)
    logits = torch.from_numpy(values).view(7, 10, 4)
    counts = count_larger(logits, logits.amax(2), labels, logits.flatten(1)[labels.rows_P, labels.ids_P])
    assert counts.tolist() == counted_by_sorting(values, *(part.tolist() for part in labels))


def test_counting_larger_logits_alone_would_not_do():
    logits = torch.zeros(1, 2, 2)
    labels = Pairs(torch.tensor([0]), torch.tensor([3]))
    assert int((logits > 0.0).sum()) == 0
    assert count_larger(logits, logits.amax(2), labels, torch.tensor([0.0])).tolist() == [3]

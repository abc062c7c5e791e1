"""The largest values of each row, with ties by position."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from widemax.kernels import Pairs, budget, topk_by_id
from widemax.kernels.ranking import BestSoFar, Window, count_larger


@pytest.fixture(autouse=True, scope="module", params=[0, budget.FEW_ELEMENTS])
def few(request):
    """Small matrices as themselves, and as large ones are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget, "FEW_ELEMENTS", request.param)
        yield


def brute_force(values_BN, k):
    return np.argsort(-values_BN, axis=1, kind="stable")[:, :k]


def some_values(num_rows, num_values, num_levels, seed):
    # Few levels make many ties.
    values = np.random.default_rng(seed).integers(0, num_levels, (num_rows, num_values)).astype(np.float32)
    values[values == 0] = -np.inf
    return values


@given(st.integers(0, 5), st.integers(1, 12), st.integers(1, 4), st.integers(0, 10**6), st.data())
def test_equals_a_stable_sort(num_rows, num_values, num_levels, seed, data):
    k = data.draw(st.integers(0, num_values))
    values = some_values(num_rows, num_values, num_levels, seed)
    found, positions = topk_by_id(torch.from_numpy(values), k)
    expected = brute_force(values, k)
    np.testing.assert_array_equal(positions, expected)
    np.testing.assert_array_equal(found, np.take_along_axis(values, expected, 1))


def test_ties_at_the_last_place_are_resolved_in_small_portions(monkeypatch):
    monkeypatch.setattr(budget, "CHUNK_ELEMENTS", 64)
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


def window(values, *, block, tiles=1, first_id=0):
    """Whole columns [B, N] as the tiles of a window."""
    logits_BN = torch.from_numpy(values)
    logits_TBV = torch.stack(logits_BN.chunk(tiles, 1))
    return Window(logits_TBV, logits_BN.unflatten(1, (-1, block)).amax(2), first_id)


def windows(values, *, block, tiles):
    """The columns window by window, each of ``tiles`` tiles of two blocks."""
    width = 2 * block * tiles
    return [
        window(values[:, first : first + width], block=block, tiles=tiles, first_id=first)
        for first in range(0, values.shape[1], width)
    ]


SHAPES = st.tuples(
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 5)
)


def test_a_window_takes_blocks_of_rows():
    values = np.arange(24, dtype=np.float32).reshape(2, 12)
    taken = window(values, block=2, tiles=3).take(torch.tensor([1, 0, 1]), torch.tensor([5, 0, 2]))
    assert taken.tolist() == [[22, 23], [0, 1], [16, 17]]


def counted_by_sorting(values_BN, labels):
    order_BN = brute_force(values_BN, values_BN.shape[1])
    pairs = zip(labels.rows_P.tolist(), labels.ids_P.tolist(), strict=True)
    return [0 if label < 0 else order_BN[row].tolist().index(label) for row, label in pairs]


def labels_of(values_BN, seed):
    """A few labels in the order of their rows, some unknown, and their logits."""
    generator = np.random.default_rng(seed)
    rows = np.sort(generator.integers(0, len(values_BN), 6))
    ids = generator.integers(-1, values_BN.shape[1], 6)
    logits = np.where(ids < 0, np.nan, values_BN[rows, ids]).astype(np.float32)
    return Pairs(torch.from_numpy(rows), torch.from_numpy(ids)), torch.from_numpy(logits)


@given(SHAPES, st.integers(0, 10**6))
def test_counts_the_classes_before_a_label(shape, seed):
    num_rows, block, tiles, num_windows, num_levels = shape
    values = np.maximum(some_values(num_rows, 2 * block * tiles * num_windows, num_levels, seed), 0)
    labels, label_logits = labels_of(values, seed)
    counts = [count_larger(part, labels, label_logits) for part in windows(values, block=block, tiles=tiles)]
    assert sum(counts).tolist() == counted_by_sorting(values, labels)


def test_blocks_are_looked_into_in_small_portions(monkeypatch):
    monkeypatch.setattr(budget, "COUNTED_BLOCKS", 3)
    values = np.random.default_rng(0).integers(0, 3, (7, 40)).astype(np.float32)
    labels, label_logits = labels_of(values, 0)
    assert count_larger(window(values, block=4), labels, label_logits).tolist() == counted_by_sorting(
        values, labels
    )


def test_counting_larger_logits_alone_would_not_do():
    logits = np.zeros((1, 4), dtype=np.float32)
    labels = Pairs(torch.tensor([0]), torch.tensor([3]))
    assert int((logits > 0.0).sum()) == 0
    assert count_larger(window(logits, block=2), labels, torch.tensor([0.0])).tolist() == [3]


def best_of(parts, num_rows, k):
    best = BestSoFar(torch.empty(num_rows, 0), k=k)
    for part in parts:
        best.merge(part)
    return best


@given(SHAPES, st.integers(0, 10**6), st.data())
def test_the_best_so_far_are_those_of_a_stable_sort(shape, seed, data):
    num_rows, block, tiles, num_windows, num_levels = shape
    values = some_values(num_rows, 2 * block * tiles * num_windows, num_levels, seed)
    k = data.draw(st.integers(0, values.shape[1]))
    best = best_of(windows(values, block=block, tiles=tiles), num_rows, k)
    expected = brute_force(values, k)
    np.testing.assert_array_equal(best.ids_BK, expected)
    np.testing.assert_array_equal(best.logits_BK, np.take_along_axis(values, expected, 1))


def test_windows_out_of_order_would_not_do():
    values = some_values(3, 40, 3, seed=0)
    parts = windows(values, block=2, tiles=1)
    expected = brute_force(values, 5)
    np.testing.assert_array_equal(best_of(parts, 3, 5).ids_BK, expected)
    assert (best_of(parts[::-1], 3, 5).ids_BK.numpy() != expected).any()

"""Counting ids row by row against Python's counters."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from widemax.encoders import lists
from widemax.encoders.lists import Lists, count_rows

MAX_ID = (1 << 31) - 1
ids_strategy = st.lists(st.lists(st.one_of(st.integers(0, 9), st.just(MAX_ID)), max_size=9), max_size=5)


def lists_of(rows, dtype):
    offsets = np.cumsum([0, *map(len, rows)])
    return Lists(offsets, np.array([item for row in rows for item in row], dtype=dtype))


def rows_of(laid):
    return [laid.items_P[a:b].tolist() for a, b in pairwise(laid.offsets_N1.tolist())]


def counts_of(bag):
    return [
        dict(zip(bag.ids_P[a:b].tolist(), bag.values_P[a:b].tolist(), strict=True))
        for a, b in pairwise(bag.offsets_B1.tolist())
    ]


def check(rows, ids):
    bag = count_rows(lists_of(rows, np.int64), lists_of(ids, np.uint32))
    expected = [Counter(item for number in row for item in ids[number]) for row in rows]
    assert counts_of(bag) == expected
    assert [list(row) for row in counts_of(bag)] == [sorted(row) for row in expected]
    assert (bag.ids_P.dtype, bag.values_P.dtype) == (np.int32, np.float32)


@pytest.mark.parametrize("few", [0, lists.FEW_ITEMS])
@given(ids=ids_strategy, data=st.data())
def test_counts_like_a_counter(few, ids, data):
    numbers = st.lists(st.integers(0, len(ids) - 1), max_size=6) if ids else st.just([])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists, "FEW_ITEMS", few)
        check(data.draw(st.lists(numbers, max_size=8)), ids)


@pytest.mark.parametrize("group", [1, 20, 1 << 13])
@pytest.mark.parametrize("items", [1, 50, 1 << 17])
def test_slices_and_groups_do_not_show(monkeypatch, items, group):
    monkeypatch.setattr(lists, "FEW_ITEMS", 0)
    monkeypatch.setattr(lists, "SLICE_ITEMS", items)
    monkeypatch.setattr(lists, "GROUP_ITEMS", group)
    generator = np.random.default_rng(0)
    ids = [generator.integers(0, 30, generator.integers(0, 40)).tolist() for _ in range(20)]
    rows = [generator.integers(0, 20, size).tolist() for size in (3, 0, 0, 12, 1, 300, 2, 0, 7, 7)]
    check(rows, ids)


def test_rows_of_one_length_are_not_filled_up(monkeypatch):
    monkeypatch.setattr(lists, "FEW_ITEMS", 0)
    check([[0], [1]], [[5, 5, 4], [7, 8, 7]])


def test_filling_up_is_bounded():
    lengths = np.sort(np.random.default_rng(0).pareto(1, 3000).astype(np.int64))[::-1]
    groups = list(lists.groups_of(lengths))
    assert sum(num_rows for num_rows, _ in groups) == len(lengths)
    assert all(num_rows * width <= lists.GROUP_ITEMS or num_rows == 1 for num_rows, width in groups)
    padded = sum(num_rows * width for num_rows, width in groups)
    assert padded <= lengths.sum() + lists.MAX_FILLERS * len(lengths)
    # All rows in one group would take far more.
    assert lengths[0] * len(lengths) > 10 * padded


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=5), st.data())
def test_take_and_join(ids, data):
    numbers = st.lists(st.integers(0, len(ids) - 1), max_size=6)
    rows = data.draw(st.lists(numbers, max_size=4))
    laid = lists_of(ids, np.uint64)
    picked = data.draw(numbers)
    assert rows_of(laid.take(np.array(picked, dtype=np.int64))) == [ids[number] for number in picked]
    expected = [[item for number in row for item in ids[number]] for row in rows]
    assert rows_of(laid.joined(lists_of(rows, np.int64))) == expected

"""Gathering, joining and scaling ragged rows against Python lists."""

import functools
import itertools
import operator

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from widemax.encoders import features
from widemax.encoders.features import (
    Ragged,
    RaggedTensor,
    beside,
    concatenate,
    interleaved,
    list_offsets,
    num_rows,
    take,
    take_spans,
    to_tensors,
)
from widemax.errors import ShapeError

Rows = list[list[int]]
rows_strategy = st.lists(st.lists(st.integers(0, 99), max_size=5), max_size=8)


def ragged(rows: Rows) -> Ragged:
    flat = [number for row in rows for number in row]
    offsets = np.cumsum([0, *map(len, rows)])
    return Ragged(offsets, np.array(flat, dtype=np.int32), np.array(flat, dtype=np.float32) / 2)


def rows(bag: Ragged) -> Rows:
    bounds = bag.offsets_B1.tolist()
    np.testing.assert_array_equal(bag.values_P * 2, bag.ids_P)
    return [bag.ids_P[a:b].tolist() for a, b in itertools.pairwise(bounds)]


@given(rows_strategy.filter(bool), st.data())
def test_take(lists, data):
    picked = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=10))
    taken = take({"bag": ragged(lists), "x": np.arange(len(lists))}, np.array(picked, dtype=np.int64))
    assert rows(taken["bag"]) == [lists[row] for row in picked]
    assert taken["x"].tolist() == picked


@given(st.lists(rows_strategy, min_size=1, max_size=4))
def test_concatenate(pieces):
    joined = concatenate([{"bag": ragged(piece), "x": np.arange(len(piece))} for piece in pieces])
    assert rows(joined["bag"]) == [row for piece in pieces for row in piece]
    assert joined["x"].tolist() == [number for piece in pieces for number in range(len(piece))]


@given(
    st.lists(
        st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=5, max_size=5), min_size=1, max_size=3
    )
)
def test_beside(parts):
    assert rows(beside([ragged(part) for part in parts])) == [
        functools.reduce(operator.iadd, row, []) for row in zip(*parts, strict=True)
    ]


@given(rows_strategy)
def test_where_keeps_pairs_in_place(lists):
    bag = ragged(lists)
    expected = [[number for number in row if number % 2] for row in lists]
    assert rows(bag.where(bag.ids_P % 2 == 1)) == expected
    tensor = to_tensors({"bag": bag})["bag"]
    kept = tensor.where(tensor.ids % 2 == 1)
    assert rows(Ragged(*(part.numpy() for part in kept))) == expected


def test_normalized():
    bag = Ragged(np.array([0, 2, 2, 3]), np.array([1, 2, 3]), np.array([3, 4, 0], dtype=np.float32))
    np.testing.assert_allclose(bag.normalized().values_P, [0.6, 0.8, 0.0], rtol=1e-6)


def test_num_rows_refuses_different_lengths():
    assert num_rows({"bag": ragged([[1], []]), "x": np.zeros((2, 3))}) == 2
    with pytest.raises(ShapeError, match="same number of rows"):
        num_rows({"bag": ragged([[1]]), "x": np.zeros((2, 3))})
    with pytest.raises(ShapeError):
        num_rows({})


def test_tensors_share_memory_and_index_in_64_bits():
    dense = np.zeros((2, 3), dtype=np.float32)
    tensors = to_tensors({"bag": ragged([[1], [2, 3]]), "x": dense})
    assert isinstance(tensors["bag"], RaggedTensor)
    assert tensors["bag"].ids.dtype == tensors["bag"].offsets.dtype == torch.int64
    tensors["x"][0, 0] = 5
    assert dense[0, 0] == 5


def test_list_offsets_of_slices_and_nulls():
    lists = pa.array([[1, 2], None, [], [3]], pa.large_list(pa.int64()))
    assert list_offsets(lists).tolist() == [0, 2, 2, 2, 3]
    assert list_offsets(lists.slice(1)).tolist() == [0, 0, 0, 1]


@given(rows_strategy, st.data())
def test_slice(lists, data):
    start = data.draw(st.integers(0, len(lists)))
    stop = data.draw(st.integers(start, len(lists)))
    assert rows(ragged(lists).slice(start, stop)) == lists[start:stop]


@given(st.integers(1, 3), st.integers(0, 4), st.data())
def test_interleaved(num_parts, num_rows, data):
    row = st.lists(st.integers(0, 99), max_size=5)
    parts = [data.draw(st.lists(row, min_size=num_rows, max_size=num_rows)) for _ in range(num_parts)]
    found = rows(interleaved([ragged(part) for part in parts]))
    assert found == [part[row] for row in range(num_rows) for part in parts]


@given(rows_strategy, st.sampled_from([np.int32, np.uint64, np.float32]), st.data())
def test_take_spans(lists, dtype, data):
    numbers = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=10)) if lists else []
    offsets = np.cumsum([0, *map(len, lists)])
    items = np.array([number for row in lists for number in row], dtype=dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "FEW_ITEMS", data.draw(st.sampled_from([-1, features.FEW_ITEMS])))
        starts, found = take_spans(offsets, items, np.array(numbers, dtype=np.int64))
    assert [found[a:b].tolist() for a, b in itertools.pairwise(starts)] == [lists[n] for n in numbers]
    assert found.dtype == dtype
    found += 1  # what is taken can be written to

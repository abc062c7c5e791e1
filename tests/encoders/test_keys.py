"""Key look-up against a dictionary."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from widemax.encoders.features import Ragged
from widemax.encoders.keys import KeyIndex, KeySet

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)


@pytest.mark.parametrize("keys", [INT64, st.integers(0, 50)], ids=["searched", "tabled"])
@given(data=st.data())
def test_find(keys, data):
    known = sorted(data.draw(st.sets(keys, max_size=20)))
    queries = data.draw(
        st.lists(st.one_of(keys, INT64, *([st.sampled_from(known)] if known else [])), max_size=20)
    )
    positions = {key: position for position, key in enumerate(known)}
    index = KeyIndex(np.array(known, dtype=np.int64))
    found = index.find(np.array(queries, dtype=np.int64))
    assert found.dtype == np.int64
    assert found.tolist() == [positions.get(query, -1) for query in queries]


def test_find_keeps_the_shape_and_takes_32_bits():
    index = KeyIndex(np.array([4, 6]))
    assert index.find(np.array([[4, 5], [6, -1]], dtype=np.int32)).tolist() == [[0, -1], [1, -1]]


def test_look_up_drops_unknown_ids():
    bag = Ragged(np.array([0, 2, 3]), np.array([9, 4, 9]), np.array([1, 2, 3], dtype=np.float32))
    known = KeyIndex(np.array([4])).look_up(bag)
    assert (known.offsets_B1.tolist(), known.ids_P.tolist(), known.values_P.tolist()) == (
        [0, 1, 1],
        [0],
        [2.0],
    )


@given(st.lists(st.lists(INT64, max_size=20), max_size=8))
def test_key_set(chunks):
    seen = KeySet()
    for chunk in chunks:
        seen.update(np.array(chunk, dtype=np.int64))
    assert seen.sorted().tolist() == sorted({key for chunk in chunks for key in chunk})


def test_key_set_of_a_long_stream():
    seen, generator = KeySet(), np.random.default_rng(0)
    chunks = [generator.integers(0, 200_000, 50_000) for _ in range(10)]
    for chunk in chunks:
        seen.update(chunk)
    np.testing.assert_array_equal(seen.sorted(), np.unique(np.concatenate(chunks)))

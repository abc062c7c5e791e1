"""Hashes against a slow Python form, and against values frozen for all time."""

import numpy as np
import pyarrow as pa
import pytest
from encoders_oracle import MODULUS, slow_hash, slow_mix
from hypothesis import given
from hypothesis import strategies as st

from widemax.encoders.hashing import hash_spans, mix, salt, stable_keys
from widemax.encoders.ngrams import count_ngrams


@given(st.lists(st.integers(0, MODULUS - 1), min_size=1))
def test_mix_is_the_finisher_of_splitmix64(keys):
    assert mix(np.array(keys, dtype=np.uint64)).tolist() == [slow_mix(key) for key in keys]


def test_mix_gives_the_published_stream_of_splitmix64():
    # The reference generator with seed 1234567 adds the golden ratio before each finish.
    states = np.array([(1234567 + 0x9E3779B97F4A7C15 * n) % MODULUS for n in (1, 2)], dtype=np.uint64)
    assert mix(states).tolist() == [6457827717110365317, 3203168211198807973]


@given(st.lists(st.integers(0, 0x10FFFF), max_size=40), st.data())
@pytest.mark.parametrize("dtype", [np.uint32, np.int64])
def test_spans_hash_as_alone(dtype, codes, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(codes)), min_size=2, max_size=6)))
    starts, ends = np.array(cuts[:-1]), np.array(cuts[1:])
    hashes = hash_spans(np.array(codes, dtype=dtype), starts, ends)
    assert hashes.tolist() == [slow_hash(codes[a:b]) for a, b in zip(starts, ends, strict=True)]


def test_string_keys_hash_their_utf8():
    keys = stable_keys(pa.array(["straße", ""]), salt=5).view(np.uint64)
    assert keys.tolist() == [slow_mix(slow_hash(list(text.encode())) ^ 5) for text in ("straße", "")]


def test_integer_keys_never_collide_and_do_not_depend_on_width():
    wide = stable_keys(pa.array(np.arange(-50_000, 50_000)), salt=3)
    assert len(np.unique(wide)) == 100_000
    narrow = stable_keys(pa.array(np.arange(-100, 100, dtype=np.int16)), salt=3)
    np.testing.assert_array_equal(narrow, wide[49_900:50_100])


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1.5, None, -2.0]),
        pa.array([True, False, None]),
        pa.array(["a", None, "b"]).dictionary_encode(),
        pa.array([0, 86_400, None], pa.timestamp("s")),
        pa.array([2**63 + 5, None, 1], pa.uint64()),
    ],
    ids=lambda values: str(values.type),
)
def test_any_scalar_has_a_key_and_null_its_own(values):
    keys = stable_keys(values, salt=1)
    assert len(set(keys.tolist())) == 3
    np.testing.assert_array_equal(keys[1:], stable_keys(values.slice(1), salt=1))


def test_null_differs_from_the_empty_string_and_from_zero():
    assert stable_keys(pa.array(["", None]), salt=1)[0] != stable_keys(pa.array(["", None]), salt=1)[1]
    assert stable_keys(pa.array([0, None]), salt=1)[0] != stable_keys(pa.array([0, None]), salt=1)[1]


def test_no_values():
    assert stable_keys(pa.array([], pa.large_string()), salt=1).tolist() == []


def test_salts_differ_with_the_split_into_words():
    assert len({salt("ab"), salt("a", "b"), salt("b", "a"), salt("")}) == 4


FROZEN = """\
17628102392806476645 -5644690451075967866 -1 -4773897698168607101
11827 872779 1123878 1512953 1738930 3145536 3943431
29484 81506 232937 246440 269463 526344 789876 828890 984724 1131035 1344440 1518254 \
1845203 1894328 1898978 2000488 2243223 2396080 2579779 3051801 3291038 3522876 4144500
"""


def test_ids_are_the_same_in_every_process_and_release():
    """What was written down came from another process, and ``hash`` differs from one to the next."""
    texts = pa.array(["Straße 東京 x"])
    features = count_ngrams(texts, column="text", word_ngrams=2, char_ngrams=(2, 3), buckets=1 << 22)
    lines = [
        [salt("title"), *stable_keys(pa.array(["red", None]), salt=7), *stable_keys(pa.array([42]), salt=7)],
        features["words"].ids_P,
        features["chars"].ids_P,
    ]
    assert "".join(" ".join(map(str, numbers)) + "\n" for numbers in lines) == FROZEN

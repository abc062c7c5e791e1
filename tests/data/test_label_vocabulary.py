"""The vocabulary against collections.Counter, for labels of any type."""

from collections import Counter
from datetime import date
from itertools import pairwise, permutations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from widemax.data import labels as labels_module
from widemax.data.labels import LabelCounter, LabelVocabulary, distinct
from widemax.errors import DataError, LabelError

LABELS = {
    "string": st.text(max_size=3),
    "int": st.integers(-(2**63), 2**63 - 1),
    "small int": st.integers(-3, 3),  # hash(-1) == hash(-2)
    "bool": st.booleans(),
    "date": st.dates(),
    "float": st.floats(allow_nan=False, allow_infinity=False),  # of which −0 equals 0
}


@pytest.mark.parametrize("kind", LABELS)
@given(data=st.data())
def test_frequent_first_ties_by_value_and_round_trip(kind, data):
    batches = data.draw(st.lists(st.lists(LABELS[kind], min_size=1, max_size=10), min_size=1, max_size=4))
    arrays = [pa.array(batch) for batch in batches]
    vocabulary = LabelVocabulary.build(arrays)
    counts = Counter(label for batch in batches for label in batch)
    by_value = sorted(counts, key=lambda label: label.encode() if isinstance(label, str) else label)
    expected = sorted(by_value, key=lambda label: -counts[label])
    assert vocabulary.decode(np.arange(len(vocabulary))) == expected
    assert vocabulary.counts.tolist() == [counts[label] for label in expected]
    for batch, array in zip(batches, arrays, strict=True):
        ids = vocabulary.encode(array)
        assert ids.dtype == np.int64
        assert vocabulary.decode(ids) == batch
    restored = LabelVocabulary.from_table(vocabulary.to_table())
    assert restored.labels.equals(vocabulary.labels)
    np.testing.assert_array_equal(restored.counts, vocabulary.counts)
    assert LabelVocabulary.build(arrays[::-1]).labels.equals(vocabulary.labels)


def test_the_table_has_the_columns_of_the_contract():
    table = LabelVocabulary.build([pa.array(["a", "b", "b"])]).to_table()
    assert table.schema == pa.schema(
        [("class_id", pa.int64()), ("label", pa.string()), ("count", pa.int64())]
    )
    assert table.to_pylist()[0] == {"class_id": 0, "label": "b", "count": 2}


def test_labels_are_compared_as_they_are():
    vocabulary = LabelVocabulary.build([pa.array(["\u00e9", "e\u0301", "E\u0301"])])
    assert len(vocabulary) == 3
    assert sorted(vocabulary.encode(pa.array(["\u00e9", "e\u0301", "E\u0301"]))) == [0, 1, 2]


def test_unseen_and_null_labels_are_minus_one():
    vocabulary = LabelVocabulary.build([pa.array([5, 0, 5])])
    assert vocabulary.encode(pa.array([5, None, 0, 7, -(2**63)])).tolist() == [0, -1, 1, -1, -1]
    assert vocabulary.encode(pa.array([0, 5], pa.int8())).tolist() == [1, 0]
    assert vocabulary.encode(pa.array([], pa.int64())).tolist() == []
    with pytest.raises(LabelError, match="must be of type int64 as in training, got string"):
        vocabulary.encode(pa.array(["x"]))


def test_labels_that_share_a_key_are_told_apart(monkeypatch):
    monkeypatch.setattr(labels_module, "label_keys", lambda labels: np.zeros(len(labels), np.int64))
    vocabulary = LabelVocabulary.build([pa.array(["a", "b", "c"])])
    assert vocabulary.encode(pa.array(["c", "x", "a", None, "b"])).tolist() == [2, -1, 0, -1, 1]


def test_a_missing_label_or_a_change_of_type_is_refused():
    counter = LabelCounter()
    with pytest.raises(LabelError, match="a label is missing"):
        counter.update(pa.array(["a", None]))
    with pytest.raises(LabelError, match="there is no label to count"):
        counter.finish()
    counter.update(pa.array(["a"]))
    with pytest.raises(LabelError, match="labels must stay of one type; got int64 after string"):
        counter.update(pa.array([1]))


@pytest.mark.parametrize("kind", LABELS)
@given(data=st.data())
def test_merging_now_and_then_in_parts_changes_nothing(kind, data):
    batches = data.draw(st.lists(st.lists(LABELS[kind], min_size=1, max_size=30), min_size=2, max_size=20))
    with pytest.MonkeyPatch.context() as patch:
        for name, few in {"KEYS_AT_ONCE": 3, "FRESH_BYTES": 40, "PART_BYTES": 100, "SAMPLES": 2}.items():
            patch.setattr(labels_module, name, few)
        vocabulary = LabelVocabulary.build(pa.array(batch) for batch in batches)
    expected = LabelVocabulary.build([pa.array([label for batch in batches for label in batch])])
    assert vocabulary.labels.equals(expected.labels)
    assert vocabulary.counts.tolist() == expected.counts.tolist()


def test_a_merge_sorts_a_part_at_a_time(monkeypatch):
    sizes, sort = [], labels_module.pc.sort_indices

    def counted(labels, **options):
        sizes.append(len(labels))
        return sort(labels, **options)

    monkeypatch.setattr(labels_module.pc, "sort_indices", counted)
    for name, few in {"KEYS_AT_ONCE": 1000, "FRESH_BYTES": 8000, "PART_BYTES": 16_000}.items():
        monkeypatch.setattr(labels_module, name, few)
    draws = np.random.default_rng(0).zipf(1.3, 20_000) % 5000
    counter = LabelCounter()
    for start in range(0, len(draws), 100):
        counter.update(pa.array(draws[start : start + 100]))
    vocabulary = counter.finish()
    found = zip(vocabulary.labels.to_pylist(), vocabulary.counts.tolist(), strict=True)
    assert dict(found) == Counter(draws.tolist())
    assert max(sizes) < 2000  # labels, of 16 bytes with their counts
    np.testing.assert_array_equal(vocabulary.labels.to_numpy()[vocabulary.encode(pa.array(draws))], draws)


def test_strings_that_have_no_room_in_one_array_become_large_ones(monkeypatch):
    monkeypatch.setattr(labels_module, "STRING_BYTES", 20)
    few, many = (LabelVocabulary.build([pa.array(labels)]) for labels in (["a"], ["a" * 9, "b" * 9, "c" * 9]))
    assert (few.labels.type, many.labels.type) == (pa.string(), pa.large_string())
    assert many.encode(pa.array(["c" * 9, "d", "a" * 9])).tolist() == [2, -1, 0]


@given(st.lists(st.lists(st.sampled_from("abcdxy"), max_size=6), min_size=1, max_size=8), st.booleans())
def test_several_labels_a_row_count_once_a_row(rows, sliced):
    array = pa.array(rows, pa.list_(pa.string()))
    if sliced:
        array = pa.array([["a", "d"], *rows], pa.list_(pa.string()))[1:]
    unique = [list(dict.fromkeys(row)) for row in rows]
    flat, offsets = distinct(array)
    assert [flat.to_pylist()[a:b] for a, b in pairwise(offsets)] == unique
    vocabulary = LabelVocabulary.build([pa.array([["a", "b"], ["c", "c", "d", "a"]])])
    assert dict(zip(vocabulary.labels.to_pylist(), vocabulary.counts.tolist(), strict=True)) == {
        **dict.fromkeys("bcd", 1),
        "a": 2,
    }
    ids, offsets = vocabulary.encode_lists(array)
    known = {label: class_id for class_id, label in enumerate(vocabulary.labels.to_pylist())}
    assert ids.tolist() == [known.get(label, -1) for row in unique for label in row]
    assert offsets.tolist() == np.cumsum([0, *map(len, unique)]).tolist()


def test_zeros_of_both_signs_are_one_label_of_a_row():
    rows = pa.array([[0.0, -0.0, 2.5], [-0.0]])
    vocabulary = LabelVocabulary.build([rows])
    assert (vocabulary.labels.to_pylist(), vocabulary.counts.tolist()) == ([0.0, 2.5], [2, 1])
    assert [part.tolist() for part in vocabulary.encode_lists(rows)] == [[0, 1, 0], [0, 2, 3]]


def test_decode_refuses_ids_outside_the_classes():
    vocabulary = LabelVocabulary.build([pa.array([date(2024, 1, 1)])])
    assert vocabulary.decode(np.array([0, 0])) == [date(2024, 1, 1)] * 2
    with pytest.raises(LabelError, match=r"class ids must lie in \[0, 1\); got -1"):
        vocabulary.decode(np.array([0, -1]))


@pytest.mark.parametrize(
    ("class_ids", "labels"), [([1, 0], ["a", "b"]), ([0, 1], ["a", "a"]), ([0, 1], ["a", None])]
)
def test_a_damaged_table_is_refused(class_ids, labels):
    table = pa.table({"class_id": class_ids, "label": labels, "count": [1, 1]})
    with pytest.raises(DataError, match="the file is damaged"):
        LabelVocabulary.from_table(table)


@pytest.mark.slow
def test_a_million_string_labels():
    labels = pa.array([f"label {n:07d}" for n in range(1_000_000)])
    vocabulary = LabelVocabulary.build([labels])
    np.testing.assert_array_equal(vocabulary.encode(labels), np.arange(1_000_000))


def test_labels_that_differ_in_case_spaces_or_form_alone_are_said():
    labels = ["Red", "red ", "r ed", "ＲＥＤ", "blue", "Straße", "e\u0301", "é", "ink"]
    vocabulary = LabelVocabulary.build([pa.array(labels)])
    assert set(vocabulary.alike()) == {"Red", "red ", "r ed", "ＲＥＤ", "e\u0301", "é"}
    [sentence] = vocabulary.warnings()
    assert sentence.startswith("6 labels differ from another only in case, spaces or Unicode form")
    twins = LabelVocabulary.build([pa.array(["e\u0301", "é", "ink"])])
    assert r"such as 'e\u0301' and '\xe9'" in twins.warnings()[0]  # which look the same
    for others in (["Red", "blue"], [1, 2], [True, False]):
        assert LabelVocabulary.build([pa.array(others)]).warnings() == []


@pytest.mark.parametrize("separator", [";", " | ", ","])
def test_labels_that_look_like_lists_of_labels_are_said(separator):
    topics = ["animals", "food", "tools", "dark music"]
    lists = LabelVocabulary.build(
        [pa.array([separator.join(pair) for pair in permutations(topics, 2)] + topics)]
    )
    [sentence] = lists.warnings()
    assert f"give --label-separator {separator.strip()!r}" in sentence
    for names in (lists.labels.to_pylist()[:9], [f"Town {n}, State {n % 9}" for n in range(99)]):
        assert LabelVocabulary.build([pa.array(names)]).warnings() == []

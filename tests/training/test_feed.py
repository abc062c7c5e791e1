"""Rows on disk are the rows of the files, in any order and whatever the sizes of blocks and chunks."""

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from widemax.data import Dataset, LabelVocabulary, infer_schema
from widemax.data.formats.base import BlockFormat
from widemax.encoders import FeatureStore, Ragged, RaggedTensor, encoders, to_tensors
from widemax.errors import DataError
from widemax.heads import SeveralLabels
from widemax.training import feed as feed_module
from widemax.training.feed import (
    EncodedRows,
    Feed,
    HistoryFeed,
    chunks_of,
    encode_labels,
    hold_out,
    in_threads,
    lists_taken_apart,
    read_encoded,
    read_training,
)

WORDS = ("ash", "elm", "fir", "oak", "yew", "box", "gum")
ROWS = 57


def table() -> dict[str, list[Any]]:
    """A text, a number, a history, one label and several labels a row; some rows lack a part."""
    words = random.Random(3)
    return {
        "text": [" ".join(words.choices(WORDS, k=words.randint(0, 6))) for _ in range(ROWS)],
        "number": [words.choice([None, words.random()]) for _ in range(ROWS)],
        "history": [words.sample(WORDS, words.randint(0, 4)) for _ in range(ROWS)],
        "one": [words.choice(WORDS) for _ in range(ROWS)],
        "several": [words.sample(WORDS, words.randint(1, 3)) for _ in range(ROWS)],
    }


def dataset_of(
    tmp_path: Path, target: str, inputs: tuple[str, ...] = ("text", "number", "history")
) -> Dataset:
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table(table()), path)
    kinds = {"text": "text", "number": "number", "history": "ids"}
    schema = infer_schema([path], inputs=inputs, target=target, kinds={name: kinds[name] for name in inputs})
    return Dataset([path], schema)


def read(
    tmp_path: Path, target: str, inputs: tuple[str, ...] = ("text", "number", "history")
) -> tuple[Feed, LabelVocabulary, Any, Dataset]:
    dataset = dataset_of(tmp_path, target, inputs)
    encoder = encoders["mixed"]([(column.name, column.kind) for column in dataset.schema.inputs], dim=4)
    feed, vocabulary = read_training(dataset, encoder, tmp_path / "scratch", seed=0, fitted=False)
    return feed, vocabulary, encoder, dataset


def label_lists(vocabulary: LabelVocabulary, labels: Any) -> list[list[Any]]:
    """Labels of each row, decoded, by slicing offsets; None for -1."""
    decoded = [None if i < 0 else vocabulary.decode(np.array([i]))[0] for i in labels.ids_P.tolist()]
    offsets = labels.offsets_B1.tolist()
    return [decoded[start:stop] for start, stop in pairwise(offsets)]


def assert_same_features(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    for name, entry in ours.items():
        other = theirs[name]
        pairs = zip(entry, other, strict=True) if isinstance(entry, RaggedTensor) else [(entry, other)]
        assert all(torch.equal(one, two) for one, two in pairs), name


@pytest.mark.parametrize("chunk_rows", [1, 10, 8192])
def test_rows_taken_in_any_order_are_the_rows_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_rows: int
) -> None:
    monkeypatch.setattr(feed_module, "CHUNK_ROWS", chunk_rows)
    feed, vocabulary, encoder, dataset = read(tmp_path, "one")
    order = np.random.default_rng(0).permutation(ROWS)[:20]
    order[3] = order[4]  # a row may be asked for twice
    rows = feed.take(order)
    raw = table()
    assert vocabulary.decode(rows.labels.numpy()) == [raw["one"][row] for row in order]
    assert rows.seen is not None
    seen = label_lists(vocabulary, rows.seen)
    assert [sorted(items) for items in seen] == [sorted(raw["history"][row]) for row in order]
    (batch,) = dataset.batches(ROWS)
    alone = {name: column.take(pa.array(order)) for name, column in batch.columns.items()}
    assert_same_features(rows.features, to_tensors(encoder.encode(alone)))


def test_several_labels_are_those_of_the_file(tmp_path: Path) -> None:
    feed, vocabulary, _, _ = read(tmp_path, "several")
    order = np.array([56, 0, 31, 31])
    labels = feed.take(order).labels
    assert isinstance(labels, SeveralLabels)
    expected = [sorted(table()["several"][row]) for row in order]
    assert [sorted(row) for row in label_lists(vocabulary, labels)] == expected


def test_batches_are_all_rows_in_order(tmp_path: Path) -> None:
    feed, vocabulary, _, _ = read(tmp_path, "one", ("text",))
    batches: list[EncodedRows] = list(feed.batches(20))
    assert [len(batch.labels) for batch in batches] == [20, 20, 17]
    labels = np.concatenate([batch.labels.numpy() for batch in batches])
    assert vocabulary.decode(labels) == table()["one"]
    assert all(batch.seen is None for batch in batches)


def test_other_files_are_read_with_what_training_learned(tmp_path: Path) -> None:
    _, vocabulary, encoder, dataset = read(tmp_path, "one")
    other = tmp_path / "other.parquet"
    rows = {"text": ["oak baobab"], "number": [1.0], "history": [["oak", "baobab"]], "one": ["baobab"]}
    pq.write_table(pa.table(rows), other)
    valid = read_encoded(Dataset([other], dataset.schema), encoder, vocabulary, tmp_path / "valid")
    row = valid.take(np.array([0]))
    assert row.labels.tolist() == [-1]
    assert label_lists(vocabulary, row.seen) == [["oak"]]
    assert list(tmp_path.glob("*.arrow")) == []


def test_scratch_holds_only_what_training_reads(tmp_path: Path) -> None:
    read(tmp_path, "one")
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["train"]


def test_labels_in_histories_is_a_share_of_classes(tmp_path: Path) -> None:
    feed, vocabulary, _, _ = read(tmp_path, "one")
    assert feed.labels_in_histories(len(vocabulary)) == 1.0
    assert feed.labels_in_histories(2 * len(vocabulary)) == 0.5


def test_without_histories_no_label_is_in_them(tmp_path: Path) -> None:
    feed, vocabulary, _, _ = read(tmp_path, "one", ("text",))
    assert feed.labels_in_histories(len(vocabulary)) == 0.0


def test_the_labels_of_whole_histories_are_their_own_items(tmp_path: Path) -> None:
    writer = FeatureStore.create(tmp_path / "store")
    offsets_B1, items_P = np.array([0, 3, 4]), np.array([2, 0, 1, 2])
    writer.append({"seen": Ragged(offsets_B1, items_P, np.ones(4, np.float32))})
    classes_F = np.array([10, 11, 12])
    feed = HistoryFeed(
        *(writer.finish(), torch.empty(0, dtype=torch.int64), None, np.arange(2)), classes_F=classes_F
    )
    rows = feed.take(np.array([1, 0]))
    assert rows.every_position
    assert rows.labels.tolist() == [12, 12, 10, 11]
    assert rows.features["seen"].offsets.tolist() == [0, 0, 2]
    assert rows.features["seen"].ids.tolist() == [2, 0]
    last = replace(feed, every_position=False).take(np.array([1, 0]))
    assert not last.every_position
    assert last.labels.tolist() == [12, 11]
    assert last.seen.ids_P.tolist() == [12, 10]
    assert last.seen.offsets_B1.tolist() == [0, 0, 2]


def test_unseen_labels_are_minus_one() -> None:
    vocabulary = LabelVocabulary(pa.array(["a", "b"]), np.array([2, 1]))
    assert encode_labels(vocabulary, pa.array(["b", "z", "a"]), several=False).tolist() == [1, -1, 0]
    several = encode_labels(vocabulary, pa.array([["z", "b"], []]), several=True)
    assert label_lists(vocabulary, several) == [[None, "b"], []]


@pytest.mark.parametrize("block_bytes", [64, 500, 1 << 22])
def test_the_size_of_a_block_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    path = tmp_path / "rows.jsonl"
    columns = table()
    with path.open("w", encoding="utf-8") as file:
        for values in zip(*columns.values(), strict=True):
            file.write(json.dumps(dict(zip(columns, values, strict=True))) + "\n")
    feeds = []
    for size in (1 << 22, block_bytes):
        monkeypatch.setattr(BlockFormat.__init__, "__kwdefaults__", {"block_bytes": size})
        schema = infer_schema([path], inputs=["text"], target="one", kinds={"text": "text"})
        encoder = encoders["text"]([("text", "text")], dim=4)
        scratch = tmp_path / f"scratch-{len(feeds)}"
        feeds.append(read_training(Dataset([path], schema), encoder, scratch, seed=0, fitted=False)[0])
    whole, blocks = (feed.take(np.arange(ROWS)) for feed in feeds)
    assert_same_features(whole.features, blocks.features)
    assert torch.equal(whole.labels, blocks.labels)


def test_fewer_rows_are_featurized_together_where_they_are_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = dataset_of(tmp_path, "one", ("text",))
    assert [len(batch) for batch in chunks_of(dataset)] == [ROWS]
    (whole,) = dataset.batches()
    monkeypatch.setattr(feed_module, "CHUNK_BYTES", whole.columns["text"].nbytes // 3)
    chunks = list(chunks_of(dataset))
    assert len(chunks) == 3
    assert np.concatenate([chunk.rows_B for chunk in chunks]).tolist() == list(range(ROWS))


@pytest.mark.parametrize(("fraction", "max_rows", "num_valid"), [(0.2, 99, 11), (0.2, 5, 5), (0.001, 9, 0)])
def test_held_out_rows_are_disjoint_and_seeded(
    tmp_path: Path, fraction: float, max_rows: int, num_valid: int
) -> None:
    feed, _, _, _ = read(tmp_path, "one", ("number",))
    train, valid = hold_out(feed, fraction, max_rows, seed=4)
    assert (len(train), len(valid)) == (ROWS - num_valid, num_valid)
    assert sorted([*train.rows_N, *valid.rows_N]) == list(range(ROWS))
    again = hold_out(feed, fraction, max_rows, seed=4)
    np.testing.assert_array_equal(again[0].rows_N, train.rows_N)
    np.testing.assert_array_equal(again[1].rows_N, valid.rows_N)
    if num_valid:
        assert set(hold_out(feed, fraction, max_rows, seed=5)[1].rows_N) != set(valid.rows_N)


def test_rows_of_one_text_with_labels_that_differ_are_one_list() -> None:
    keys, labels = [7, 5, 7, 9, 5, 8, 9, 7], [0, 1, 2, 3, 1, 0, 0, 1]
    first = lists_taken_apart(np.array(keys), np.array(labels))
    assert first is not None
    together: dict[int, list[int]] = {}
    for row, of in enumerate(first.tolist()):
        together.setdefault(of, []).append(row)
    # The text 5 comes with the same label twice: it may come again.
    assert sorted(together.values()) == [[0, 2, 7], [1], [3, 6], [4], [5]]
    assert all(of in rows for of, rows in together.items())
    assert lists_taken_apart(np.array([4, 2, 3]), np.array([1, 1, 1])) is None


def feed_of_lists(tmp_path: Path, text_of_row: list[Any], labels: list[str], *, kind: str = "text") -> Feed:
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "lists.parquet"
    pq.write_table(pa.table({"x": text_of_row, "y": labels}), path)
    dataset = Dataset([path], infer_schema([path], inputs=["x"], target="y", kinds={"x": kind}))
    encoder = encoders["mixed"]([("x", kind)], dim=4)
    return read_training(dataset, encoder, tmp_path / "lists", seed=0, fitted=False)[0]


@pytest.mark.parametrize("seed", range(4))
def test_all_rows_of_a_list_taken_apart_are_held_out_or_none(tmp_path: Path, seed: int) -> None:
    of_row = np.random.default_rng(seed).integers(0, 60, 200)
    labels = [f"word {row}" for row in range(200)]
    feed = feed_of_lists(tmp_path, [f"text {of}" for of in of_row], labels)
    train, valid = hold_out(feed, 0.2, 99, seed=seed)
    assert sorted([*train.rows_N, *valid.rows_N]) == list(range(200))
    assert not {*of_row[train.rows_N]} & {*of_row[valid.rows_N]}
    assert 40 - np.bincount(of_row).max() < len(valid) <= 40
    np.testing.assert_array_equal(hold_out(feed, 0.2, 99, seed=seed)[1].rows_N, valid.rows_N)
    alone = hold_out(replace(feed, first_N=None), 0.2, 99, seed=seed)
    assert {*of_row[alone[0].rows_N]} & {*of_row[alone[1].rows_N]}


def test_longer_lists_than_half_of_what_is_held_out_are_no_obstacle(tmp_path: Path) -> None:
    feed = feed_of_lists(
        tmp_path, ["the same text"] * 50 + ["another"] * 50, [f"word {n}" for n in range(100)]
    )
    assert len(hold_out(feed, 0.2, 99, seed=0)[1]) == 20


def test_rows_of_one_name_are_held_out_one_by_one(tmp_path: Path) -> None:
    names = [f"user {row % 20}" for row in range(100)]  # without its rows in training, nothing is known of it
    labels = [f"item {row}" for row in range(100)]
    assert feed_of_lists(tmp_path, names, labels, kind="category").first_N is None
    assert feed_of_lists(tmp_path, names, labels).first_N is not None


def test_something_must_be_left_to_train_on(tmp_path: Path) -> None:
    feed, _, _, _ = read(tmp_path, "one", ("text",))
    with pytest.raises(DataError, match="no rows are left for training"):
        hold_out(feed, 0.999, 10_000, seed=0)


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("num_items", [0, 2, 40])
def test_threads_keep_the_order_and_look_only_a_little_ahead(
    monkeypatch: pytest.MonkeyPatch, num_threads: int, num_items: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: num_threads)
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(num_items):
            taken.append(item)
            yield item

    for place, (item, square) in enumerate(in_threads(lambda x: x * x, items())):
        assert (item, square) == (place, place * place)
        assert len(taken) <= place + num_threads + 1
    assert len(taken) == num_items


def test_an_error_in_a_thread_is_raised_in_its_turn() -> None:
    results = in_threads(lambda x: 1 // x, [2, 1, 0, 1])
    assert [next(results), next(results)] == [(2, 0), (1, 1)]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_batches_taken_ahead_are_in_order_and_an_error_in_one_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed, _, _, _ = read(tmp_path, "one")
    monkeypatch.setattr(feed_module, "ROWS_AHEAD", 3)
    ahead = feed.ahead(np.array(positions) for positions in ([3, 1], [2], [0, 1, 2, 3], [ROWS + 5]))
    for positions in ([3, 1], [2], [0, 1, 2, 3]):
        taken, expected = next(ahead), feed.take(np.array(positions))
        assert torch.equal(taken.labels, expected.labels)
        assert_same_features(taken.features, expected.features)
    with pytest.raises(IndexError):
        next(ahead)


@pytest.mark.parametrize("index_rows", [1, 7])
def test_the_number_of_threads_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index_rows: int
) -> None:
    one, _, _, _ = read(tmp_path / "one", "several")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(feed_module, "CHUNK_ROWS", 5)
    monkeypatch.setattr(feed_module, "INDEX_ROWS", index_rows)
    four, _, _, _ = read(tmp_path / "four", "several")
    ours, theirs = (feed.take(np.arange(ROWS)) for feed in (one, four))
    assert_same_features(ours.features, theirs.features)
    assert torch.equal(ours.labels.ids_P, theirs.labels.ids_P)


def test_without_a_good_row_the_first_bad_one_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("x,y\n1,a\n2,b\n", encoding="utf-8")
    schema = infer_schema([path], target="y")
    path.write_text("x,y\n1,\n2\n", encoding="utf-8")
    told = r"rows\.csv: no usable rows.*; the first bad one is .*rows\.csv:2: the label is missing"
    encoder = encoders["table"]([("x", "number")])
    (tmp_path / "scratch").mkdir()
    for fitted in (False, True):
        with pytest.raises(DataError, match=told):
            read_training(
                Dataset([path], schema, drop_bad=True), encoder, tmp_path / "scratch", seed=0, fitted=fitted
            )
    vocabulary = LabelVocabulary(pa.array(["a"]), np.array([1]))
    with pytest.raises(DataError, match=told):
        read_encoded(Dataset([path], schema, drop_bad=True), encoder, vocabulary, tmp_path / "valid")
    with pytest.raises(DataError, match=told):
        Dataset([path], schema, drop_bad=True).sample(3, seed=0)


@pytest.mark.parametrize("most", [1, 3])
def test_labels_that_stand_in_what_their_row_has_seen(most: int) -> None:
    generator = np.random.default_rng(0)
    lists = [
        [generator.choice(7, generator.integers(low, high + 1), replace=False).tolist() for _ in range(50)]
        for low, high in ((1, most), (0, 5))
    ]
    lists[0][3] = [-1]
    labels, seen = (
        SeveralLabels(
            torch.tensor([item for row in rows for item in row]),
            torch.tensor([0, *np.cumsum([len(row) for row in rows])]),
        )
        for rows in lists
    )
    expected = [label in row for labels_of, row in zip(*lists, strict=True) for label in labels_of]
    assert feed_module.stand_in(labels, seen, 7).tolist() == expected
    if most == 1:
        assert feed_module.stand_in(labels.ids_P, seen, 7).tolist() == expected

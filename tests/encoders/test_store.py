"""Features survive the disk, whatever the chunks."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from widemax.encoders.features import Features, Ragged, concatenate, num_rows, take, to_tensors
from widemax.encoders.store import FeatureStore
from widemax.errors import ShapeError


def chunk(seed: int, *, rows: int, largest: int = 1000) -> Features:
    generator = np.random.default_rng(seed)
    offsets = np.concatenate(([0], np.cumsum(generator.integers(0, 5, rows))))
    ids = generator.integers(-largest, largest, offsets[-1])
    values = generator.normal(size=offsets[-1]).astype(np.float32)
    return {"a/b:c": Ragged(offsets, ids, values), "dense": generator.normal(size=(rows, 2))}


def assert_equal(ours: Features, theirs: Features) -> None:
    assert ours.keys() == theirs.keys()
    assert num_rows(ours) == num_rows(theirs)
    for name, entry in ours.items():
        other = theirs[name]
        if isinstance(entry, Ragged):
            np.testing.assert_array_equal(entry.offsets_B1, other.offsets_B1)
            np.testing.assert_array_equal(entry.ids_P, other.ids_P)
            np.testing.assert_array_equal(entry.values_P, other.values_P)
        else:
            np.testing.assert_array_equal(entry, other)


def store_of(folder, chunks):
    writer = FeatureStore.create(folder)
    for features in chunks:
        writer.append(features)
    return writer.finish()


def test_round_trip_of_several_chunks(tmp_path):
    chunks = [chunk(seed, rows=rows) for seed, rows in enumerate([7, 1, 0, 30])]
    whole = concatenate(chunks)
    store = store_of(tmp_path / "new" / "folder", chunks)
    assert len(store) == 38
    order = np.random.default_rng(0).permutation(38)
    assert_equal(store.take(order), take(whole, order))
    assert_equal(concatenate(list(store.chunks(9))), whole)
    assert [num_rows(features) for features in store.chunks(9)] == [9, 9, 9, 9, 2]
    assert_equal(FeatureStore.open(tmp_path / "new" / "folder").take(order), take(whole, order))


def test_several_stores_are_read_as_one(tmp_path):
    chunks = [chunk(seed, rows=rows, largest=10 ** (seed * 4)) for seed, rows in enumerate([7, 0, 30, 2])]
    folders = [tmp_path / str(number) for number in range(5)]
    for folder, features in zip(folders, [*([each] for each in chunks), []], strict=True):
        store_of(folder, features)
    store, whole = FeatureStore.open(*folders), concatenate(chunks)
    assert len(store) == 39
    for rows in (np.random.default_rng(0).permutation(39), [38, 3], [8, 7, 8], []):
        assert_equal(store.take(rows), take(whole, rows))
    assert_equal(concatenate(list(store.chunks(9))), whole)


def test_ids_take_the_narrowest_type_that_holds_them(tmp_path):
    small, large = chunk(1, rows=50), chunk(2, rows=50, largest=1 << 40)
    narrow = store_of(tmp_path / "narrow", [small, small])
    assert narrow.take([0])["a/b:c"].ids_P.dtype == np.int32
    widened = store_of(tmp_path / "wide", [small, large, small])
    assert widened.take([0])["a/b:c"].ids_P.dtype == np.int64
    assert_equal(widened.take(np.arange(150)), concatenate([small, large, small]))


def test_what_is_read_can_be_written_to(tmp_path):
    store = store_of(tmp_path, [chunk(1, rows=5)])
    for features in (store.take([1, 2]), next(store.chunks())):
        features["dense"][0] = 0
        to_tensors(features)  # torch warns about arrays that cannot be written to, and warnings are errors


def test_nothing_appended(tmp_path):
    store = FeatureStore.create(tmp_path).finish()
    assert len(store) == 0
    assert list(store.chunks()) == []


def test_only_empty_rows(tmp_path):
    empty = {"bag": Ragged(np.zeros(4, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))}
    store = store_of(tmp_path, [empty])
    assert_equal(store.take([2, 0]), take(empty, [2, 0]))


def test_refuses_other_entries_and_shapes(tmp_path):
    writer = FeatureStore.create(tmp_path)
    writer.append({"x": np.zeros((2, 3))})
    with pytest.raises(ShapeError, match="entries"):
        writer.append({"y": np.zeros((2, 3))})
    with pytest.raises(ShapeError, match="shape"):
        writer.append({"x": np.zeros((2, 4))})


def test_layout_is_plain_json(tmp_path):
    store_of(tmp_path, [chunk(1, rows=3)])
    assert json.loads((tmp_path / "layout.json").read_text())["dense"]["dense"]["shape"] == [3, 2]


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="Linux tells which pages are in memory")
def test_rows_that_were_read_leave_the_memory_of_the_process(tmp_path: Path) -> None:
    writer = FeatureStore.create(tmp_path)
    for _ in range(8):
        writer.append({"x": np.ones((256, 1024), np.float32)})
    store = writer.finish()

    def resident_kib() -> int:
        maps = Path("/proc/self/smaps").read_text().split(str(tmp_path))[1:]
        return sum(int(re.search(r"Rss: +([0-9]+)", each)[1]) for each in maps)

    for _ in store.chunks(256):
        pass
    assert resident_kib() < 2048
    for start in range(0, 2048, 256):
        store.take(np.arange(start, start + 256))
    assert resident_kib() < 2048

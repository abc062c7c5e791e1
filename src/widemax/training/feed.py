"""Files become encoded rows on disk once; training then reads them in any order, however large they are."""

import shutil
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from widemax.artifact.tables import seen_labels
from widemax.data import STORED_BYTES, Batch, Dataset, LabelCounter, LabelVocabulary, Schema, row_keys
from widemax.distributed import ALONE, World
from widemax.encoders import Encoder, Features, FeatureStore, Ragged, RaggedTensor, to_tensors
from widemax.encoders.features import moved
from widemax.encoders.keys import distinct
from widemax.errors import DataError
from widemax.heads import Labels, SeveralLabels
from widemax.storage import saving

# Rows featurized together, which share the work on the words they have in common, and about how many bytes:
# several such chunks are in memory at once, and a long text has 10,000 n-grams.
CHUNK_ROWS = 1024
CHUNK_BYTES = 1 << 19
# Rows whose ids are looked up together: few enough for a processor's cache.
INDEX_ROWS = 256
# Rows taken ahead at a time: threads that call each other at each small step wait for one another.
ROWS_AHEAD = 256
# More would wait for the one thread that writes, and hold more chunks in memory.
MAX_THREADS = 4

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class EncodedRows:
    """B encoded rows with their labels (−1: never seen in training) and the classes already seen by each.

    The labels are of every position of the rows where that is so: of the start and of each item.
    """

    features: dict[str, Tensor | RaggedTensor]
    labels: Labels
    seen: SeveralLabels | None
    every_position: bool = False

    def to(self, device: torch.device) -> "EncodedRows":
        """What a step computes with, on a device."""
        if device.type == "cpu":  # where rows are encoded
            return self
        return replace(self, features=moved(self.features, device), labels=self.labels.to(device))


@dataclass(frozen=True)
class Feed:
    """Encoded rows of which ``rows_N`` are used, with their labels.

    Args:
        store: features of all rows read.
        labels: of all rows: int64 [rows], or several a row.
        seen: classes already in each row's history, or None.
        rows_N: the rows of the store that belong to this feed.
        row_keys: the distinct keys of all training rows read, by which they are found again.
        first_N: for each row of the store a row of those it is held out with; None: each alone.
    """

    store: FeatureStore
    labels: Labels
    seen: SeveralLabels | None
    rows_N: np.ndarray
    row_keys: Any = None
    first_N: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.rows_N)

    def labels_in_histories(self, num_classes: int) -> float:
        """The share of classes that occur in the histories."""
        return 0.0 if self.seen is None else len(np.unique(self.seen.ids_P.numpy())) / num_classes

    def labels_in_own_rows(self, num_classes: int) -> float:
        """The share of labels that stand in the history of their own row."""
        if self.seen is None or not len(self.seen):
            return 0.0
        return float(stand_in(self.labels, self.seen, num_classes).double().mean())

    def first(self, num_rows: int) -> "Feed":
        """Its first rows alone."""
        return replace(self, rows_N=self.rows_N[:num_rows])

    def chunks(self) -> Iterator[Features]:
        """The features of all rows, some at a time."""
        for start in range(0, len(self), CHUNK_ROWS):
            yield self.store.take(self.rows_N[start : start + CHUNK_ROWS])

    def take(self, positions_B: np.ndarray) -> EncodedRows:
        """The rows at these positions of the feed."""
        rows_B = self.rows_N[positions_B]
        ids_B = torch.from_numpy(rows_B)
        labels = self.labels.take(ids_B) if isinstance(self.labels, SeveralLabels) else self.labels[ids_B]
        seen = None if self.seen is None else self.seen.take(ids_B)
        return EncodedRows(to_tensors(self.store.take(rows_B)), labels, seen)

    def batches(self, batch_size: int) -> Iterator[EncodedRows]:
        """All rows in order."""
        starts = range(0, len(self), batch_size)
        return self.ahead(np.arange(start, min(start + batch_size, len(self))) for start in starts)

    def ahead(self, positions: Iterable[np.ndarray]) -> Generator[EncodedRows, None, None]:
        """The rows at each of these positions; a thread takes the next ones while these are worked on."""

        def take_all(several: list[np.ndarray]) -> list[EncodedRows]:
            return [*map(self.take, several)]

        taken = in_threads(take_all, _together(positions), num_threads=1)
        return (rows for _, several in taken for rows in several)


def _together(positions: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Positions of few rows, several at a time."""
    several: list[np.ndarray] = []
    for each in positions:
        several.append(each)
        if sum(map(len, several)) >= ROWS_AHEAD:
            yield several
            several = []
    if several:
        yield several


@dataclass(frozen=True)
class HistoryFeed(Feed):
    """Rows that are whole histories, whose own items are the labels.

    Args:
        classes_F: the class of each item of the encoder.
        every_position: whether each item is the label of a position, or the last one that of the row.
    """

    classes_F: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    every_position: bool = True

    def take(self, positions_B: np.ndarray) -> EncodedRows:
        ((name, items),) = self.store.take(self.rows_N[positions_B]).items()
        assert isinstance(items, Ragged)
        is_last_P = np.zeros(len(items.ids_P), bool)
        is_last_P[items.offsets_B1[1:] - 1] = True
        before, classes_P = items.where(~is_last_P), self.classes_F[items.ids_P]
        features = to_tensors({name: before})
        if self.every_position:
            return EncodedRows(features, torch.from_numpy(classes_P), None, every_position=True)
        seen = SeveralLabels(torch.from_numpy(classes_P[~is_last_P]), torch.from_numpy(before.offsets_B1))
        return EncodedRows(features, torch.from_numpy(classes_P[is_last_P]), seen)


class TargetSpool:
    """The target and history columns of a dataset, kept on disk until the label vocabulary is known.

    With them the keys of rows, where they are given.
    """

    def __init__(self, path: Path, schema: Schema) -> None:
        self.path = path
        self.several = schema.several
        self.columns = [column.name for column in schema.inputs if column.kind == "ids"]
        self._writer: pa.RecordBatchFileWriter | None = None

    def append(self, batch: Batch, *keys: pa.Array) -> None:
        arrays = [batch.labels, *(batch.columns[name] for name in self.columns), *keys]
        record = pa.record_batch(arrays, names=list(map(str, range(len(arrays)))))
        with saving(str(self.path), num_bytes=record.nbytes):
            if self._writer is None:
                self._writer = pa.ipc.new_file(self.path, record.schema)
            self._writer.write_batch(record)

    def close(self) -> None:
        """End what is written."""
        if self._writer is not None:
            with saving(str(self.path)):
                self._writer.close()

    def records(self) -> Iterator[list[pa.Array]]:
        """Labels, histories, and keys where they were given, of some rows at a time."""
        with pa.memory_map(str(self.path)) as source:
            reader = pa.ipc.open_file(source)
            for index in range(reader.num_record_batches):
                yield reader.get_batch(index).columns


def encode_spools(
    spools: Sequence[TargetSpool], vocabulary: LabelVocabulary, world: World = ALONE
) -> tuple[Labels, SeveralLabels | None]:
    """Class ids of every row's labels, one spool after the other, and of its histories when there are any.

    Of several processes the first one finds them; all have the same file mapped.
    """
    several, names = spools[0].several, spools[0].columns
    labels: list[Any] = []
    seen: list[SeveralLabels] = []
    for column, *others in world.in_step(_records(spools) if world.is_first else ()):
        labels.append(encode_labels(vocabulary, column, several=several))
        if names:
            seen.append(seen_labels(vocabulary, others[: len(names)]))
    folder = spools[0].path.parent.with_name("targets")
    if world.is_first:
        joined: Labels = SeveralLabels.concatenate(labels) if several else torch.cat(labels)
        joined_seen = SeveralLabels.concatenate(seen) if seen else None
        if world.size == 1:
            return joined, joined_seen
        with saving(str(folder)):
            folder.mkdir()
        for name, part in (("labels", joined), ("seen", joined_seen)):
            if isinstance(part, SeveralLabels):
                _write_numbers(folder / name, part.ids_P.numpy())
                _write_numbers(folder / f"{name} from", part.offsets_B1.numpy())
            elif part is not None:
                _write_numbers(folder / name, part.numpy())
    world.wait()
    tensors = {path.name: torch.from_numpy(_mapped_numbers(path)) for path in folder.iterdir()}
    several_of = {
        name: SeveralLabels(tensors[name], tensors[f"{name} from"])
        for name in ("labels", "seen")
        if f"{name} from" in tensors
    }
    return several_of.get("labels", tensors["labels"]), several_of.get("seen")


def stand_in(labels: Labels, seen: SeveralLabels, num_classes: int) -> Tensor:
    """Whether each label [P] is among what its own row has seen."""
    (rows_P, ids_P), (rows_Q, ids_Q) = SeveralLabels.of(labels).pairs(), seen.pairs()
    if torch.equal(rows_P, torch.arange(len(labels))):  # one label a row is found without sorting
        stands_P = torch.zeros(len(rows_P), dtype=torch.bool)
        stands_P[rows_Q[ids_Q == ids_P[rows_Q]]] = True
    else:
        stands_P = torch.isin(rows_P * num_classes + ids_P, rows_Q * num_classes + ids_Q)
    return stands_P & (ids_P >= 0)


def encode_labels(vocabulary: LabelVocabulary, labels: pa.Array, *, several: bool) -> Labels:
    """Class ids of raw labels, −1 where the vocabulary does not hold the label."""
    if several:
        ids_P, offsets_B1 = vocabulary.encode_lists(labels)
        return SeveralLabels(torch.from_numpy(ids_P), torch.from_numpy(offsets_B1))
    return torch.from_numpy(vocabulary.encode(labels))


def in_threads(
    work: Callable[[T], U], items: Iterable[T], *, num_threads: int | None = None
) -> Iterator[tuple[T, U]]:
    """Each item with what ``work`` makes of it, in order; threads work a few items ahead."""
    num_threads = num_threads or min(MAX_THREADS, torch.get_num_threads())
    with ThreadPoolExecutor(num_threads) as pool:
        ahead: deque[tuple[T, Future[U]]] = deque()
        for item in items:
            ahead.append((item, pool.submit(work, item)))
            if len(ahead) > num_threads:
                done, result = ahead.popleft()
                yield done, result.result()
        for done, result in ahead:
            yield done, result.result()


def chunks_of(dataset: Dataset) -> Iterator[Batch]:
    """The rows that are featurized together, fewer where they are long."""
    for batch in dataset.batches(CHUNK_ROWS):
        num_bytes = sum(column.nbytes for column in batch.columns.values())
        size = max(1, len(batch) // max(1, num_bytes // CHUNK_BYTES))
        for start in range(0, len(batch), size):
            yield batch.take(slice(start, start + size))


def read_training(
    dataset: Dataset,
    encoder: Encoder,
    folder: Path,
    *,
    seed: int,
    fitted: bool,
    width: Callable[[LabelVocabulary, int], int] | None = None,
    more: Iterable[Features] = (),
    world: World = ALONE,
) -> tuple[Feed, LabelVocabulary]:
    """Read the training files once: hash features, count labels, let the encoder learn, encode.

    Of several processes each reads and encodes a part of the rows into the folder of the first, which counts
    the labels. All take rows, classes and labels from there, in files that they have mapped.

    Args:
        dataset: the rows, of several processes the part of this one; learns of the bad rows of all.
        encoder: not yet fitted, or with ``fitted=True`` restored from a checkpoint.
        folder: scratch space; grows with the encoded rows.
        width: from the classes and the number of rows to what an encoder that can is narrowed to.
        more: what the encoder learns from beside the rows.
        world: the processes.

    Raises:
        DataError: no usable rows.
    """
    shared = Path(world.tell(str(folder.resolve()))) / "train"
    raw = [shared / f"raw-{rank}" for rank in range(world.size)]
    encoded = [shared / f"encoded-{rank}" for rank in range(world.size)]
    spools = [TargetSpool(part / "targets.arrow", dataset.schema) for part in raw]
    vocabulary: LabelVocabulary | None = None

    def own_features() -> Iterator[Features]:
        writer, spool = FeatureStore.create(raw[world.rank]), spools[world.rank]
        batches = in_threads(lambda batch: encoder.featurize(batch.columns), chunks_of(dataset))
        for batch, features in world.in_step(batches):
            spool.append(batch, row_keys(batch.columns, num_bytes=STORED_BYTES))
            writer.append(features)
            yield features
        writer.finish()
        spool.close()

    def raw_features() -> Iterator[Features]:
        nonlocal vocabulary
        if world.size == 1:
            yield from own_features()
        else:
            for _ in own_features():
                pass
        dataset.num_bad_rows = sum(num_bad for (num_bad,) in world.counts(dataset.num_bad_rows))
        spools[:] = [spool for spool in spools if len(FeatureStore.open(spool.path.parent))]
        if not spools:
            raise dataset.without_rows()
        store = FeatureStore.open(*raw)
        if world.size > 1:
            yield from store.chunks(CHUNK_ROWS)
        vocabulary = _counted(spools, shared, world)
        if width is not None:
            encoder.narrow(width(vocabulary, len(store)))

    if fitted:
        for _ in raw_features():
            pass
    else:
        encoder.fit(chain(raw_features(), more), generator=torch.Generator().manual_seed(seed))
    assert vocabulary is not None  # the last of the features has been read
    writer = FeatureStore.create(encoded[world.rank])
    chunks = FeatureStore.open(raw[world.rank]).chunks(INDEX_ROWS)
    for _, indexed in world.in_step(in_threads(encoder.index, chunks)):
        writer.append(indexed)
    writer.finish()
    labels, seen = encode_spools(spools, vocabulary, world)
    distinct_keys = first_N = None
    if world.is_first:  # which saves them
        keys_N = np.concatenate([keys_B.view(pa.int64()).to_numpy() for *_, keys_B in _records(spools)])
        if isinstance(labels, Tensor) and any(column.kind == "text" for column in dataset.schema.inputs):
            first_N = lists_taken_apart(keys_N, labels.numpy())
        distinct_keys = pa.array(distinct(keys_N)).view(pa.binary(STORED_BYTES))
        del keys_N
        if world.size > 1 and first_N is not None:
            _write_numbers(shared / "first", first_N)
    world.wait()
    if world.size > 1 and (shared / "first").exists():
        first_N = _mapped_numbers(shared / "first")
    shutil.rmtree(raw[world.rank])
    pa.default_memory_pool().release_unused()  # as much again as what is kept of the rows
    store = FeatureStore.open(*encoded)
    if world.size > 1:  # let go of the keys by which the first has found labels
        vocabulary = LabelVocabulary(vocabulary.labels, vocabulary.counts)
    return Feed(store, labels, seen, np.arange(len(store)), distinct_keys, first_N), vocabulary


def _records(spools: Iterable[TargetSpool]) -> Iterator[list[pa.Array]]:
    return chain.from_iterable(spool.records() for spool in spools)


def _counted(spools: Sequence[TargetSpool], folder: Path, world: World) -> LabelVocabulary:
    """The classes, which the first process counts; of several each has the same files mapped."""
    counter = LabelCounter()
    for labels, *_ in world.in_step(_records(spools) if world.is_first else ()):
        counter.update(labels)
    if world.size == 1:
        return counter.finish()
    path, counts = folder / "classes.arrow", folder / "counts"
    if world.is_first:
        vocabulary = counter.finish()
        _write_numbers(counts, vocabulary.counts)
        with saving(str(path)):
            record = pa.record_batch([vocabulary.labels], names=["label"])
            with pa.ipc.new_file(path, record.schema) as file:
                file.write_batch(record)
    world.wait()
    with pa.memory_map(str(path)) as source:
        (labels,) = pa.ipc.open_file(source).get_batch(0).columns
    return LabelVocabulary(labels, _mapped_numbers(counts))


def _write_numbers(path: Path, numbers: np.ndarray) -> None:
    """Write int64 for all processes to map."""
    with saving(str(path), num_bytes=numbers.nbytes):
        path.write_bytes(numbers.data)


def _mapped_numbers(path: Path) -> np.ndarray:
    """The int64 of a file, none of them in memory of this process alone."""
    if not path.stat().st_size:  # which cannot be mapped
        return np.empty(0, np.int64)
    return np.asarray(np.memmap(path, np.int64, "r+"))


def read_encoded(dataset: Dataset, encoder: Encoder, vocabulary: LabelVocabulary, folder: Path) -> Feed:
    """Read files with an encoder and a vocabulary that are already there.

    Raises:
        DataError: no usable rows.
    """
    writer = FeatureStore.create(folder)
    spool = TargetSpool(folder.with_suffix(".arrow"), dataset.schema)
    for batch, features in in_threads(lambda batch: encoder.encode(batch.columns), chunks_of(dataset)):
        writer.append(features)
        spool.append(batch)
    store = writer.finish()
    if not len(store):
        raise dataset.without_rows(" to validate on")
    spool.close()
    labels, seen = encode_spools([spool], vocabulary)
    spool.path.unlink()
    return Feed(store, labels, seen, np.arange(len(store)))


def lists_taken_apart(keys_N: np.ndarray, labels_N: np.ndarray) -> np.ndarray | None:
    """Which rows are one input with several labels, a row each: for every row one of those, or itself.

    No two of them have the same label: what comes with the same label again comes again in rows to come too.

    Args:
        keys_N: of the inputs of each row.
        labels_N: their classes.

    Returns:
        [N] row numbers, None where all rows are alone.
    """
    order_N = np.lexsort((labels_N, keys_N))
    is_same_N = np.append(False, np.diff(keys_N[order_N]) == 0)
    if not is_same_N.any():
        return None
    is_again_N = is_same_N & np.append(False, np.diff(labels_N[order_N]) == 0)
    inputs_N = np.cumsum(~is_same_N) - 1
    is_list_N = np.bincount(inputs_N, is_again_N)[inputs_N] == 0
    first_N = np.empty_like(order_N)
    first_N[order_N] = np.where(is_list_N, order_N[~is_same_N][inputs_N], order_N)
    return first_N


def hold_out(feed: Feed, fraction: float, max_rows: int, *, seed: int) -> tuple[Feed, Feed]:
    """Split off a seeded random part for validation, at most ``max_rows`` rows of it.

    Rows that are to be held out together are, and so it may be fewer: not those of which there are more than
    half as many as asked for, since without them little would be held out.
    """
    num_valid = min(max_rows, round(fraction * len(feed)))
    shuffled_N = np.random.default_rng(seed).permutation(feed.rows_N)
    if feed.first_N is not None:
        are_few_N = 2 * np.bincount(feed.first_N, minlength=len(feed))[feed.first_N] <= num_valid
        first_N = np.where(are_few_N, feed.first_N, feed.rows_N)
        place_N = np.argsort(shuffled_N)
        shuffled_N = shuffled_N[np.argsort(place_N[first_N[shuffled_N]], kind="stable")]
        groups_N = first_N[shuffled_N]
        while 0 < num_valid < len(feed) and groups_N[num_valid] == groups_N[num_valid - 1]:
            num_valid -= 1
    valid_N, train_N = shuffled_N[:num_valid], np.sort(shuffled_N[num_valid:])
    if not len(train_N):
        raise DataError("no rows are left for training; lower data.valid_fraction or give more data.")
    return replace(feed, rows_N=train_N), replace(feed, rows_N=valid_N)

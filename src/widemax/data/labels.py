"""The label vocabulary: class id ↔ label, in one pass, for labels of any type.

Letters: B rows, P labels of all rows, C classes.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, Self
from unicodedata import normalize

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from widemax.data.convert import is_list, is_string, plain, ragged
from widemax.errors import DataError, LabelError

KEYS_AT_ONCE = 1 << 20
FRESH_BYTES = 1 << 21  # of labels that are counted together
PART_BYTES = 1 << 25  # of counts that are merged together
SAMPLES = 64  # for each part, of the labels among which its bounds are chosen
STRING_BYTES = 2**31 - 1  # that an array of plain strings has room for
FEW_IDS = 32  # of which each label alone is had sooner than all of them by one call
_SEPARATORS = (";", "|", ",")
_MANY = 10  # fewer labels with a separator prove nothing


class LabelCounter:
    """Counts in how many rows each label occurs, in memory that grows with the classes and not with the rows.

    Example:
        >>> counter = LabelCounter()
        >>> counter.update(pa.array(["tea", "ink", "tea"]))
        >>> counter.finish().labels.to_pylist()
        ['tea', 'ink']
    """

    def __init__(self) -> None:
        self._kind: Any = None
        self._fresh: list[Any] = []
        self._fresh_bytes = 0
        self._runs: list[Any] = []  # each sorted, with every label once
        self._num_classes = 0

    def update(self, labels: Any) -> None:
        """Counts one batch: an array of labels [B], or of lists of labels.

        Raises:
            LabelError: a label is null, or of another type than before.
        """
        labels = plain(labels)
        flat = distinct(labels)[0] if is_list(labels.type) else _one_zero(labels)
        if flat.null_count:
            raise LabelError("a label is missing (null), but every row must have its label; drop such rows.")
        if not len(flat):
            return
        self._kind = self._kind or flat.type
        if flat.type != self._kind:
            raise LabelError(f"labels must stay of one type; got {flat.type} after {self._kind}.")
        self._fresh.append(flat)
        self._fresh_bytes += flat.nbytes
        if self._fresh_bytes >= FRESH_BYTES:
            self._count()

    def _count(self) -> None:
        """Counts what is fresh, all at once: small tables of each batch would scatter the memory."""
        counts = pc.value_counts(pa.chunked_array(self._fresh, self._kind))
        self._fresh, self._fresh_bytes = [], 0
        run = pa.table({"label": counts.field("values"), "count": counts.field("counts")})
        self._runs.append(run.take(pc.sort_indices(run["label"])))
        # Merging only when the rows have doubled keeps the total cost linear.
        if sum(map(len, self._runs)) > 2 * self._num_classes + KEYS_AT_ONCE:
            self._runs = [_merged(self._runs)]
            self._num_classes = len(self._runs[0])

    def finish(self) -> "LabelVocabulary":
        """The vocabulary: most frequent class first, ties in the order of the labels.

        Raises:
            LabelError: no label was counted.
        """
        if self._fresh:
            self._count()
        if not self._runs:
            raise LabelError(
                "there is no label to count; the data must have at least one row with its label."
            )
        table, self._runs = _merged(self._runs), []
        labels, counts_C = table["label"], table["count"].to_numpy()
        if pa.types.is_string(self._kind) and labels.nbytes > STRING_BYTES:
            labels = labels.cast(pa.large_string())
        labels = labels.combine_chunks()
        del table
        order_C = np.argsort(-counts_C, kind="stable")
        return LabelVocabulary(labels.take(pa.array(order_C)), counts_C[order_C].astype(np.int64, copy=False))


def _merged(runs: Sequence[Any]) -> Any:
    """Each label once with the sum of its counts, in order, of sorted tables; a part after the other.

    Sorting takes half the memory and time of hashing many labels, and its memory is that of a part.
    """
    num_parts = -(-sum(run.nbytes for run in runs) // PART_BYTES)
    every = max(1, sum(map(len, runs)) // (num_parts * SAMPLES))
    sample = pa.concat_tables([run.take(np.arange(0, len(run), every)) for run in runs])["label"].sort()
    pivots = [sample[len(sample) * part // num_parts] for part in range(1, num_parts)]
    bounds = [[0, *(_place(run["label"], pivot) for pivot in pivots), len(run)] for run in runs]
    parts = (
        [run[start:stop] for run, (start, stop) in zip(runs, places, strict=True) if start < stop]
        for places in zip(*map(pairwise, bounds), strict=True)
    )
    return pa.concat_tables([_summed(pa.concat_tables(part)) for part in parts if part])


def _place(labels: Any, pivot: Any) -> int:
    """How many sorted labels come before a label."""
    return bisect_left(range(len(labels)), True, key=lambda at: not pc.less(labels[at], pivot).as_py())


def _summed(counts: Any) -> Any:
    """Each label once, in order."""
    order = pc.sort_indices(counts["label"])
    runs = pc.run_end_encode(counts["label"].take(order).combine_chunks())
    starts = np.append(0, runs.run_ends.to_numpy()[:-1])
    sums = np.add.reduceat(counts["count"].to_numpy()[order.to_numpy()], starts)
    return pa.table({"label": runs.values, "count": sums})


class LabelVocabulary:
    """The classes of a model: class id 0 is the most frequent label.

    Labels are compared as they are: no case folding and no Unicode normalization.

    Args:
        labels: Arrow array [C], one distinct label a class.
        counts: int64 [C], in how many training rows the label occurs.
        last_times: float64 [C], when each was last taken, where labels are items of events with times.

    Example:
        >>> vocabulary = LabelVocabulary.build([pa.array([7, 9, 9])])
        >>> vocabulary.encode(pa.array([7, 9, 8])), vocabulary.decode(np.array([0, 1]))
        (array([ 1,  0, -1]), [9, 7])
    """

    def __init__(self, labels: Any, counts: np.ndarray, last_times: np.ndarray | None = None) -> None:
        self.labels = labels
        self.counts = counts
        self.last_times = last_times

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def build(cls, arrays: Iterable[Any]) -> "LabelVocabulary":
        """The vocabulary of a stream of label arrays, or of Batches."""
        counter = LabelCounter()
        for array in arrays:
            counter.update(getattr(array, "labels", array))
        return counter.finish()

    def extended(self, labels: Any) -> Self:
        """With the labels [N] that it lacks as its last classes, which no row has.

        Example:
            >>> LabelVocabulary.build([pa.array([7, 9, 9])]).extended(pa.array([8, 7])).labels.to_pylist()
            [9, 7, 8]
        """
        new = labels.filter(pa.array(self.encode(labels) < 0)).cast(self.labels.type)
        last_times = self.last_times
        if last_times is not None:  # what was never taken is as old as anything
            last_times = np.append(last_times, np.full(len(new), last_times.min()))
        counts = np.append(self.counts, np.zeros(len(new), int))
        return type(self)(pa.concat_arrays([self.labels, new]), counts, last_times)

    def with_last_times(self, items: Any, times: np.ndarray) -> "LabelVocabulary":
        """The same with the times of its labels among these items; those never taken are as old as any."""
        ids_N = self.encode(items)
        last_times_C = np.full(len(self), times.min())
        last_times_C[ids_N[ids_N >= 0]] = times[ids_N >= 0]
        return LabelVocabulary(self.labels, self.counts, last_times_C)

    def encode(self, labels: Any) -> np.ndarray:
        """The class ids [B], int64; −1 for a null or a label never seen.

        Labels are found by binary search among sorted 64-bit keys (16 bytes a class), then compared, because
        ``pyarrow.compute.index_in`` would hash all C labels again for every batch.

        Raises:
            LabelError: the labels are of a type that cannot be compared with the vocabulary's.
        """
        labels = plain(labels)
        try:
            labels = labels.cast(self.labels.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise LabelError(
                f"labels must be of type {self.labels.type} as in training, got {labels.type}: {error}"
            ) from error
        keys_C, class_ids_C = self._sorted_keys
        keys_B = label_keys(labels)
        positions_B = np.searchsorted(keys_C, keys_B)
        found_B = np.full(len(labels), -1, np.int64)
        pending = np.arange(len(labels))
        while len(pending):  # a second round happens only where two labels share a key
            pending = pending[positions_B[pending] < len(keys_C)]
            pending = pending[keys_C[positions_B[pending]] == keys_B[pending]]
            candidates = class_ids_C[positions_B[pending]]
            same = pc.equal(self.labels.take(pa.array(candidates)), labels.take(pa.array(pending)))
            same_B = pc.fill_null(same, False).to_numpy(zero_copy_only=False)
            found_B[pending[same_B]] = candidates[same_B]
            pending = pending[~same_B]
            positions_B[pending] += 1
        return found_B

    def encode_lists(self, labels: Any) -> tuple[np.ndarray, np.ndarray]:
        """The class ids of rows with several labels, a label repeated within a row taken once.

        Returns:
            ids_P int64, −1 for a label never seen, and offsets_B1 int64: row b holds
            ``ids_P[offsets_B1[b]:offsets_B1[b + 1]]``.
        """
        flat, offsets_B1 = distinct(plain(labels))
        return self.encode(flat), offsets_B1

    def decode(self, class_ids: np.ndarray) -> list[Any]:
        """The labels of class ids, as they were given.

        Raises:
            LabelError: an id lies outside the classes.
        """
        class_ids = np.asarray(class_ids, np.int64).reshape(-1)
        wrong = class_ids[(class_ids < 0) | (class_ids >= len(self))]
        if len(wrong):
            raise LabelError(f"class ids must lie in [0, {len(self)}); got {wrong[0]}.")
        if len(class_ids) <= FEW_IDS:
            return [self.labels[class_id].as_py() for class_id in class_ids.tolist()]
        decoded: list[Any] = self.labels.take(pa.array(class_ids)).to_pylist()
        return decoded

    def alike(self) -> list[Any]:
        """The labels that differ from another only in case, spaces or Unicode form, such ones side by side.

        Example:
            >>> LabelVocabulary.build([pa.array(["Red", "blue", "red ", "ink"])]).alike()
            ['Red', 'red ']
        """
        if not is_string(self.labels.type):
            return []
        bare = pc.replace_substring_regex(pc.utf8_normalize(self.labels, form="NFKC"), r"\s+", "")
        codes_C = pc.utf8_lower(bare).dictionary_encode().indices.to_numpy()
        places_C = np.argsort(codes_C, kind="stable")
        several_C = np.bincount(codes_C)[codes_C[places_C]] > 1
        alike: list[Any] = self.labels.take(pa.array(places_C[several_C])).to_pylist()
        return alike

    def warnings(self) -> list[str]:
        """Sentences on labels that are :meth:`alike`, and on those that look like lists of labels."""
        sentences = []
        if alike := self.alike():
            first, second = alike[:2]
            # Forms of one character look the same.
            show = ascii if normalize("NFC", first) == normalize("NFC", second) else repr
            sentences.append(
                f"{len(alike):,} labels differ from another only in case, spaces or Unicode form, such as "
                f"{show(first)} and {show(second)}; they are classes of their own"
            )
        if separator := self._separator():
            sentences.append(
                f"many labels are a few parts with {separator!r} between them, and are classes of their own; "
                f"where rows have several labels, give --label-separator {separator!r}"
            )
        return sentences

    def _separator(self) -> str | None:
        """What cuts at least a tenth of the labels into parts that are less than half as many as they."""
        if not is_string(self.labels.type):
            return None
        for separator in _SEPARATORS:
            cut = self.labels.filter(pc.match_substring(self.labels, separator))
            if len(cut) >= max(_MANY, len(self) / 10):
                parts = pc.list_flatten(pc.split_pattern(cut, separator))
                if pc.count_distinct(pc.utf8_trim_whitespace(parts)).as_py() < len(cut) / 2:
                    return separator
        return None

    def to_table(self) -> Any:
        """A pyarrow table (class_id int64, label, count int64), with last_time double where it is known."""
        table = pa.table(
            {"class_id": np.arange(len(self)), "label": self.labels, "count": self.counts.astype(np.int64)}
        )
        return table if self.last_times is None else table.append_column("last_time", [self.last_times])

    @classmethod
    def from_table(cls, table: Any) -> Self:
        """The inverse of :meth:`to_table`.

        Raises:
            DataError: the columns are others, the class ids are not 0 … C − 1 in order, a label is missing or
                occurs twice, a count is missing or below 0, or a time is none.
        """
        ids, labels, counts = (plain(table[name]) for name in ("class_id", "label", "count"))
        if ids.type != pa.int64() or not ids.equals(pa.array(np.arange(len(table)))):
            raise DataError(
                "the class ids of a label table must be 0, 1, 2, … in order; the file is damaged."
            )
        if labels.null_count or pc.count_distinct(labels).as_py() != len(labels):
            raise DataError("every label of a label table must be there once; the file is damaged.")
        if counts.type != pa.int64() or counts.null_count or (pc.min(counts).as_py() or 0) < 0:
            raise DataError("every label of a label table must have its count; the file is damaged.")
        last_times = None
        if "last_time" in table.column_names:
            last_times = np.array(table["last_time"])
            if last_times.dtype != np.float64 or not np.isfinite(last_times).all():
                raise DataError("every item of a label table must have its time; the file is damaged.")
        return cls(labels, np.array(counts), last_times)

    @cached_property
    def _sorted_keys(self) -> tuple[np.ndarray, np.ndarray]:
        starts = range(0, len(self), KEYS_AT_ONCE)
        keys_C = np.concatenate([label_keys(self.labels[at : at + KEYS_AT_ONCE]) for at in starts])
        class_ids_C = np.argsort(keys_C, kind="stable")
        return keys_C[class_ids_C], class_ids_C


def distinct(labels: Any) -> tuple[Any, np.ndarray]:
    """The labels [P] of rows of lists, each once a row in its order, and the offsets [B + 1]."""
    lengths_B, flat = ragged(labels)
    flat = _one_zero(flat)
    rows_P = np.repeat(np.arange(len(lengths_B)), lengths_B)
    encoded = flat.dictionary_encode()
    codes_P = pc.fill_null(encoded.indices, len(encoded.dictionary)).to_numpy(zero_copy_only=False)
    pair_P = rows_P * (len(encoded.dictionary) + 1) + codes_P
    first = np.sort(np.unique(pair_P, return_index=True)[1])
    counts_B = np.bincount(rows_P[first], minlength=len(lengths_B))
    return flat.take(pa.array(first)), np.append(0, np.cumsum(counts_B)).astype(np.int64)


def _one_zero(labels: Any) -> Any:
    """The same labels with 0 in place of −0, which equals it."""
    return pc.add(labels, pa.scalar(0.0, labels.type)) if pa.types.is_floating(labels.type) else labels


def label_keys(labels: Any) -> np.ndarray:
    """A 64-bit key a label; equal labels have equal keys, and integers are their own."""
    if pa.types.is_signed_integer(labels.type):
        filled = pc.fill_null(labels, 0)
        return np.asarray(filled.to_numpy(zero_copy_only=False), np.int64)
    return np.fromiter(map(hash, labels.to_pylist()), np.int64, len(labels))

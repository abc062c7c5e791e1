"""One or several files, or frames in memory, as a stream of batches in canonical Arrow types."""

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from widemax.data.convert import Reasons, convert
from widemax.data.formats import Chunk, Format, Reading, Source, format_of
from widemax.data.schema import Schema
from widemax.data.target import convert_labels
from widemax.errors import BadRowError, DataError, did_you_mean
from widemax.options import AtLeast1, checked

SHOWN_BAD_ROWS = 20
BadRow = tuple[int, int, str]  # its number in the data set, its position in the file, and what is wrong


@dataclass(frozen=True)
class Batch:
    """Rows of a data set.

    Args:
        columns: input name → Arrow array [B] in the canonical type of its kind.
        labels: Arrow array [B] of labels or lists of labels (null: a label that training cannot have seen);
            None without a target.
        rows_B: int64, where each row stands in the data set, from 0; bad rows are counted.
        positions_B: int64, where each row stands in its file, in the units of the format.
        given: input name → Arrow array [B] as the file gives it; empty where batches are put together.
    """

    columns: dict[str, Any]
    labels: Any | None
    rows_B: np.ndarray
    positions_B: np.ndarray
    given: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def take(self, rows: np.ndarray | slice) -> "Batch":
        """The rows at these positions, in this order."""
        positions = None if isinstance(rows, slice) else pa.array(rows)

        def some(values: Any) -> Any:
            return values[rows] if positions is None else values.take(positions)

        return Batch(
            {name: some(values) for name, values in self.columns.items()},
            None if self.labels is None else some(self.labels),
            self.rows_B[rows],
            self.positions_B[rows],
            {name: some(values) for name, values in self.given.items()},
        )

    @staticmethod
    def concatenate(parts: "Sequence[Batch]") -> "Batch":
        """The rows of all parts, one part after the other."""
        labels = [part.labels for part in parts if part.labels is not None]
        return Batch(
            {name: pa.concat_arrays([part.columns[name] for part in parts]) for name in parts[0].columns},
            pa.concat_arrays(labels) if labels else None,
            np.concatenate([part.rows_B for part in parts]),
            np.concatenate([part.positions_B for part in parts]),
        )


@checked
class Dataset:
    """Files or frames read as a stream of batches, in their order, in bounded memory.

    Args:
        sources: the files or frames, one after the other, as :func:`~widemax.data.resolve` gives them.
        schema: the columns to read.
        format: name of a format, to overrule the files' endings; or all that they do not say themselves.
        drop_bad: count and drop bad rows instead of raising at the first.
        on_bad: called with each bad row's number in the data set and what is wrong, in their order, before
            the batches of the rows read with it.
        part: which part is read, of how many of about as many bytes: files stay whole, but for Parquet, whose
            row groups do, and JSON Lines. The parts one after the other have all rows in their order.

    ``num_bad_rows`` and ``bad_rows`` ("file:line: reason", the first 20) tell of the latest complete pass.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> from widemax.data import infer_schema
        >>> path = Path(mkdtemp()) / "tea.csv"
        >>> _ = path.write_text("text,label\\nGreen tea,drink\\n")
        >>> [batch.labels.to_pylist() for batch in Dataset([path], infer_schema([path])).batches()]
        [['drink']]
    """

    def __init__(
        self,
        sources: Sequence[Source],
        schema: Schema,
        *,
        format: Reading | str | None = None,  # noqa: A002 - the name of the config key
        drop_bad: bool = False,
        on_bad: Callable[[int, str], object] | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.sources, self.schema, self.format = list(sources), schema, format
        self.drop_bad, self.on_bad, self.part = drop_bad, on_bad, part
        self.num_bad_rows = 0
        self.bad_rows: list[str] = []

    @checked
    def batches(self, max_rows: AtLeast1 = 8192) -> Iterator[Batch]:
        """Batches of at most ``max_rows`` rows.

        Raises:
            BadRowError: the first bad row, by file and line, unless ``drop_bad``.
            DataError: a file is damaged, or lacks a column.
        """
        num_bad = 0
        shown: list[str] = []
        for source, form, batch, bad in self._read():
            room = SHOWN_BAD_ROWS - len(shown)
            told = bad if self.on_bad else bad[:room]
            sentences = [f"{form.place(source, position)}: {reason}" for _, position, reason in told]
            if bad and not self.drop_bad:
                named = "name the encoding (--encoding latin-1), " * sentences[0].endswith("not UTF-8")
                raise BadRowError(
                    f"{sentences[0]}. Correct it, {named}or drop such rows: "
                    "--drop-bad, drop_bad=True in Python."
                )
            for (row, *_), sentence in zip(told, sentences, strict=True):
                if self.on_bad:
                    self.on_bad(row, sentence)
            shown += sentences[:room]
            num_bad += len(bad)
            for start in range(0, len(batch), max_rows):
                yield batch.take(slice(start, start + max_rows))
        self.num_bad_rows, self.bad_rows = num_bad, shown

    def _read(self) -> Iterator[tuple[Source, Format, Batch, list[BadRow]]]:
        """The good rows of each chunk in canonical types, and the bad ones."""
        num_rows = 0
        for source, form, piece in self._pieces():
            for chunk in form.chunks(piece, self._names(source, form)):
                yield source, form, *self._convert(source, form, chunk, num_rows)
                num_rows += len(chunk.positions_B) + len(chunk.bad)

    def _pieces(self) -> Iterator[tuple[Source, Format, Any]]:
        """What is read of which source."""
        number, num_parts = self.part
        forms = [(source, format_of(source, self.format)) for source in self.sources]
        if num_parts == 1:
            yield from ((source, form, source) for source, form in forms)
            return
        pieces = [
            (source, form, *piece) for source, form in forms for piece in form.pieces(source, num_parts)
        ]
        total, before = sum(num_bytes for *_, num_bytes in pieces), 0
        for source, form, piece, num_bytes in pieces:
            middle = (2 * before + num_bytes) * num_parts // max(2 * total, 1)
            if min(middle, num_parts - 1) == number:
                yield source, form, piece
            before += num_bytes

    def sample(self, count: int, *, seed: int) -> Batch:
        """``count`` rows drawn at random without replacement in one pass (all, if there are fewer), in order.

        Raises:
            DataError: no usable row, or what :meth:`batches` raises.
        """
        rng = np.random.default_rng(seed)
        kept: Batch | None = None
        keys_K = np.empty(0)
        for batch in self.batches():
            # The rows with the smallest random keys so far.
            keys = np.concatenate([keys_K, rng.random(len(batch))])
            smallest = np.sort(np.argsort(keys, kind="stable")[:count])
            kept = (batch if kept is None else Batch.concatenate([kept, batch])).take(smallest)
            keys_K = keys[smallest]
        if kept is None or not len(kept):
            raise self.without_rows()
        return kept

    def without_rows(self, purpose: str = "") -> DataError:
        """What to raise where the latest pass gave no row, with the reason of the first bad one."""
        first = f"; the first bad one is {self.bad_rows[0]}" if self.bad_rows else ""
        return DataError(f"{', '.join(map(str, self.sources))}: no usable rows{purpose}{first}.")

    def tell(self, numbers: Collection[int]) -> dict[int, tuple[str, dict[str, Any]]]:
        """Where some of the usable rows stand, by their numbers among these from 0, and the inputs they give.

        Reads as far as the last of them.
        """
        told: dict[int, tuple[str, dict[str, Any]]] = {}
        first = 0
        for source, form, batch, _ in self._read():
            for number in numbers:
                if 0 <= (at := number - first) < len(batch):
                    values = {name: column[at].as_py() for name, column in batch.given.items()}
                    told[number] = form.place(source, int(batch.positions_B[at])), values
            first += len(batch)
            if len(told) == len(numbers):
                break
        return told

    def told(self) -> list[str]:
        """Sentences about what was read."""
        return [
            sentence for source in self.sources for sentence in format_of(source, self.format).told(source)
        ]

    def passed_over(self) -> list[str]:
        """A sentence for each folder with images that are not read."""
        sentences = []
        for source in self.sources:
            form = format_of(source, self.format)
            if others := form.passed_over(source):
                sentences.append(
                    f"{len(others):,} images of {source} are passed over, such as {others[0]}: only "
                    f"{', '.join(form.suffixes)} directly in the folder of a class are read"
                )
        return sentences

    def fingerprint(self) -> str:
        """A sha256 over the sizes and contents of the files, and the values of the frames, in their order.

        Names do not matter, but for those of files in a folder, which hold the labels.
        """
        total = hashlib.sha256()
        for source in self.sources:
            for part in format_of(source, self.format).fingerprint(source):
                total.update(part)
        return total.hexdigest()

    def _names(self, source: Source, form: Format) -> list[str]:
        known = dict.fromkeys(form.columns(source))
        names = [column.name for column in self.schema.inputs]
        if self.schema.target is not None and self.schema.target not in names:
            names.append(self.schema.target)
        for name in names:
            if name not in known:
                raise DataError(f"{source} has no column {name!r}; {did_you_mean(name, list(known))}")
        return names

    def _convert(self, source: Source, form: Format, chunk: Chunk, first: int) -> tuple[Batch, list[BadRow]]:
        """The good rows of a chunk in canonical types, and the bad ones."""
        num_before_B = np.searchsorted([at for at, _ in chunk.bad], chunk.positions_B)
        rows_B = first + np.arange(len(chunk.positions_B)) + num_before_B
        columns: dict[str, Any] = {}
        reasons: Reasons = {}
        labels = None
        for column in self.schema.inputs:
            raw = chunk.columns[column.name]
            try:
                columns[column.name], wrong = convert(raw, **column.form)
            except DataError as error:
                raise DataError(f"column {column.name!r} of {source}: {error}") from error
            reasons = {row: f"column {column.name!r} {reason}" for row, reason in wrong.items()} | reasons
        if self.schema.target is not None:
            try:
                labels, wrong = convert_labels(
                    chunk.columns[self.schema.target],
                    type_name=self.schema.target_type,
                    several=self.schema.several,
                    unlabeled_is_empty=form.unlabeled_is_empty,
                    separator=self.schema.label_separator,
                )
            except DataError as error:
                raise DataError(f"target {self.schema.target!r} of {source}: {error}") from error
            reasons = {
                row: f"{reason} in column {self.schema.target!r}" for row, reason in wrong.items()
            } | reasons
        given = {name: chunk.columns[name] for name in columns}
        batch = Batch(columns, labels, rows_B, chunk.positions_B, given)
        if reasons:
            good_B = np.delete(np.arange(len(batch)), list(reasons))
            batch = batch.take(good_B)
        bad = [
            (first + number + int(np.searchsorted(chunk.positions_B, position)), position, reason)
            for number, (position, reason) in enumerate(chunk.bad)
        ]
        bad += [(int(rows_B[row]), int(chunk.positions_B[row]), reason) for row, reason in reasons.items()]
        return batch, sorted(bad)

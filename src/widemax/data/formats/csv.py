"""CSV and TSV with a header line, quoted as RFC 4180 says; the first rows tell the delimiter.

Every cell is a string here: a block knows too little to choose types, so the schema does.
An empty cell is null; a quoted empty cell is an empty string. R stands for records, L for physical lines.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from widemax.data.formats import formats
from widemax.data.formats.base import BLOCK_BYTES, Chunk, distinct_names
from widemax.data.formats.text import TextFormat, blocks, open_text, undecodable
from widemax.errors import DataError, UsageError

_DELIMITERS = (",", ";", "\t", "|")
_SNIFFED_BYTES = 1 << 16


@formats.register("csv")
class Csv(TextFormat):
    """Comma-separated (``.csv``) or tab-separated (``.tsv``) values, with whatever separates them.

    Args:
        delimiter: one character; where none is given, the one of comma, semicolon, tab and bar that cuts the
            first rows into as many cells as the header.
    """

    suffixes = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
    untyped = True

    def __init__(
        self, *, block_bytes: int = BLOCK_BYTES, encoding: str | None = None, delimiter: str | None = None
    ) -> None:
        super().__init__(block_bytes=block_bytes, encoding=encoding)
        self.delimiter = {"\\t": "\t", "tab": "\t"}.get(delimiter or "", delimiter)
        one = self.delimiter is None or (len(self.delimiter) == 1 and self.delimiter.isascii())
        if not one or self.delimiter in ('"', "\r", "\n", "\0"):
            raise UsageError(
                "delimiter must be one ASCII character that is no quote or line end, such as ';' or 'tab'; "
                f"got {delimiter!r}."
            )

    def columns(self, path: Path) -> list[str]:
        delimiter = self._delimiter(path)
        for block in self._blocks(path, delimiter):
            return _header(path, block[: record_ends(block, delimiter)[:1].sum()], delimiter)
        raise DataError(f"{path} is empty, but its first line must name the columns.")

    def chunks(self, path: Path, columns: Sequence[str]) -> Iterator[Chunk]:
        delimiter = self._delimiter(path)
        names: list[str] = []
        line = 1
        for block in self._blocks(path, delimiter):
            while block:
                ends_R = record_ends(block, delimiter)
                if not names:
                    consumed = int(ends_R[:1].sum())
                    names = _header(path, block[:consumed], delimiter)
                elif len(ends_R):
                    consumed = int(ends_R[-1])
                    yield _parse(block[:consumed], ends_R, line, names, columns, delimiter)
                else:  # a quote swallows the rest: give up its line only, the next may be sound
                    consumed = int(_line_ends(block)[0])
                    yield _rejected([(line, "a quote is never closed")], columns)
                line += len(_line_ends(block[:consumed]))
                block = block[consumed:]

    def _blocks(self, path: Path, delimiter: str) -> Iterator[bytes]:
        return blocks(
            path,
            block_bytes=self.block_bytes,
            encoding=self.encoding,
            whole=lambda text: _whole(text, delimiter),
        )

    def _delimiter(self, path: Path) -> str:
        if self.delimiter:
            return self.delimiter
        with open_text(path, self.encoding) as stream:
            text = stream.read(_SNIFFED_BYTES)
        usual = "\t" if path.name.lower().removesuffix(".gz").endswith(".tsv") else ","
        return max((usual, *_DELIMITERS), key=lambda delimiter: _fit(text, delimiter))


def _fit(text: bytes, delimiter: str) -> tuple[float, bool]:
    """The share of the first rows that a delimiter cuts like the header; and whether it cuts the header."""
    rows = csv.reader(io.StringIO(text.decode(errors="replace"), newline=""), delimiter=delimiter)
    try:
        widths = [len(row) for row in rows if row]
    except csv.Error:
        return 0.0, False
    header, *others = widths or [0]
    if len(text) == _SNIFFED_BYTES:  # the last row may be cut
        others = others[:-1]
    return (others.count(header) / max(1, len(others)), True) if header > 1 else (0.0, False)


def _line_ends(text: bytes) -> np.ndarray:
    """Offsets just past each ``\\n``, ``\\r\\n`` or lone ``\\r``."""
    bytes_T = np.frombuffer(text, np.uint8)
    ends_L = np.flatnonzero(bytes_T == ord("\n")) + 1
    if b"\r" in text:
        returns = np.flatnonzero(bytes_T == ord("\r")) + 1
        last = len(text) - 1
        lone = returns[(returns > last) | (bytes_T[np.minimum(returns, last)] != ord("\n"))]
        ends_L = np.union1d(ends_L, lone)
    return ends_L


def record_ends(text: bytes, delimiter: str) -> np.ndarray:
    """The line ends that lie outside quotes; ``text`` starts with a record."""
    ends_L = _line_ends(text)
    if b'"' not in text:
        return ends_L
    starts, stops = _quoted(text, delimiter)
    before_L = np.searchsorted(starts, ends_L - 1) - 1
    return ends_L[ends_L - 1 >= np.append(stops, 0)[before_L]]


def _quoted(text: bytes, delimiter: str) -> tuple[np.ndarray, np.ndarray]:
    """Where quoted parts start and stop; the last may be left open.

    If quotes in turn open at the start of a field and close at its end, or stand next to one another (an
    escape), then they alternate, which arrays tell at once. Otherwise a quote may be a letter: read in order.
    """
    bytes_T = np.frombuffer(text, np.uint8)
    quotes = np.flatnonzero(bytes_T == ord('"'))
    opens, closes = quotes[::2], quotes[1::2]
    edges = np.frombuffer(delimiter.encode() + b"\r\n", np.uint8)
    sound_opens = (opens == 0) | np.isin(bytes_T[opens - 1], edges)
    sound_opens[1:] |= opens[1:] == closes[: len(opens) - 1] + 1
    last = len(text) - 1
    sound_closes = (closes == last) | np.isin(bytes_T[np.minimum(closes + 1, last)], edges)
    sound_closes[: len(opens) - 1] |= opens[1:] == closes[: len(opens) - 1] + 1
    if sound_opens.all() and sound_closes.all():
        return opens, np.append(closes + 1, len(text))[: len(opens)]
    field = rb'(?:\A|(?<=[\r\n%b]))"(?:[^"]++|"")*+(?:"|\Z)' % re.escape(delimiter.encode())
    spans = np.array([match.span() for match in re.finditer(field, text)], np.int64).reshape(-1, 2)
    return spans[:, 0], spans[:, 1]


def _whole(text: bytes, delimiter: str) -> int:
    ends_R = record_ends(text, delimiter)
    if text.endswith(b"\r"):  # perhaps half of a line end
        ends_R = ends_R[ends_R < len(text)]
    return int(ends_R[-1]) if len(ends_R) else 0


def _header(path: Path, record: bytes, delimiter: str) -> list[str]:
    if not record:
        raise DataError(
            f"{path}:1: a quote in the header is never closed; the first line must name the columns."
        )
    reason = undecodable(record)
    if reason:
        raise DataError(f"{path}:1: {reason}; the first line must name the columns in UTF-8.")
    names = next(csv.reader([record.decode().rstrip("\r\n")], delimiter=delimiter), [])
    if not any(names):
        raise DataError(f"{path}:1: the first line is blank, but it must name the columns.")
    names = [name or f"column{number}" for number, name in enumerate(names, 1)]
    return distinct_names(f"{path}:1: the header", names)


def _rejected(bad: Sequence[tuple[int, str]], columns: Sequence[str]) -> Chunk:
    """A chunk without a readable row."""
    nothing = pa.array([], pa.large_string())
    return Chunk(dict.fromkeys(columns, nothing), np.empty(0, np.int64), tuple(bad))


def _parse(
    text: bytes, ends_R: np.ndarray, first_line: int, names: list[str], columns: Sequence[str], delimiter: str
) -> Chunk:
    """Parses whole records; arrow numbers a row of a wrong width among those that are not blank."""
    starts_R = np.append(0, ends_R[:-1])
    lines_R = first_line + np.searchsorted(_line_ends(text), starts_R, side="right")
    lengths_R = ends_R - starts_R
    blank_R = (lengths_R == 1) | ((lengths_R == 2) & (np.frombuffer(text, np.uint8)[starts_R] == ord("\r")))
    bad: list[tuple[int, str]] = []
    if undecodable(text):
        records = [text[start:end] for start, end in zip(starts_R, ends_R, strict=True)]
        reasons = [undecodable(record) for record in records]
        bad = [(int(line), reason) for line, reason in zip(lines_R, reasons, strict=True) if reason]
        text = b"".join(record for record, reason in zip(records, reasons, strict=True) if not reason)
        blank_R |= np.array([reason is not None for reason in reasons])
    lines_B = lines_R[~blank_R]
    if not len(lines_B):  # arrow refuses a text without a record
        return _rejected(bad, columns)
    wrong_width: dict[int, int] = {}

    def skip(row: pa_csv.InvalidRow) -> str:
        wrong_width[row.number - 1] = row.actual_columns
        return "skip"

    table = pa_csv.read_csv(
        pa.BufferReader(text),
        # One thread, or arrow does not number the rows it skips; one block, or records would be split.
        read_options=pa_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(text) + 1),
        parse_options=pa_csv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip
        ),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.large_string()),
            include_columns=columns,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    bad += [
        (int(lines_B[row]), f"the row has {width} columns where the header has {len(names)}")
        for row, width in wrong_width.items()
    ]
    return Chunk(
        {name: table[name].combine_chunks() for name in columns},
        np.delete(lines_B, list(wrong_width)),
        tuple(sorted(bad)),
    )

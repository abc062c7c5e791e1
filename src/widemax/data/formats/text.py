"""Blocks of whole lines, in UTF-8, out of text files of any encoding, zipped or not, however long."""

import codecs
import gzip
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np

from widemax.data.formats.base import BLOCK_BYTES, BlockFormat, readable
from widemax.errors import DataError, UsageError

MAX_RECORD_BYTES = 1 << 28
MAX_LINES_BYTES = 1 << 26  # of a record of several lines; in more a quote was never closed
_MARKS = {  # the longer ones first, since one begins as another
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: None,
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_GZIP_MAGIC = b"\x1f\x8b"
_UNKNOWN = "\udcff"  # stands for what an encoding does not hold, and is no UTF-8 either
codecs.register_error("widemax.unknown", lambda error: (_UNKNOWN, getattr(error, "end", 0)))

Raw = TypeVar("Raw")
Row = TypeVar("Row")


@contextmanager
def open_text(path: Path, encoding: str | None = None) -> Iterator[BinaryIO]:
    """The bytes of a text file as UTF-8: unzipped if it is a gzip file, without a byte order mark.

    Raises:
        DataError: the file is damaged.
    """
    with readable(path, "text"), path.open("rb") as raw:
        zipped = raw.peek(2)[:2] == _GZIP_MAGIC
        yield as_utf8(gzip.GzipFile(fileobj=raw) if zipped else raw, encoding)


def as_utf8(stream: Any, encoding: str | None = None) -> io.BufferedReader:
    """A stream of bytes as UTF-8; a byte order mark says the encoding, and wins over the one given.

    What does not decode becomes bytes that are no UTF-8, so that :func:`undecodable` tells of its line.
    """
    stream = stream if isinstance(stream, io.BufferedReader) else io.BufferedReader(stream)
    head = stream.peek(4)
    mark = next((mark for mark in _MARKS if head.startswith(mark)), None)
    if mark is not None:
        stream.read(len(mark))
        encoding = _MARKS[mark]
    return stream if encoding is None else io.BufferedReader(_Utf8(stream, encoding))


class _Utf8(io.RawIOBase):
    """Bytes of another encoding as UTF-8, as they arrive."""

    def __init__(self, stream: io.BufferedReader, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)("widemax.unknown")
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = self._stream.read1(len(buffer))
            self._rest = self._decoder.decode(piece, not piece).encode("utf-8", "surrogatepass")
            if not piece:
                break
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


def known_encoding(encoding: str | None) -> str | None:
    """The name of an encoding, None for UTF-8.

    Raises:
        UsageError: there is no such encoding of text.
    """
    if encoding is None:
        return None
    try:
        "".encode(encoding)
        name = codecs.lookup(encoding).name
    except (LookupError, UnicodeError, ValueError):
        raise UsageError(
            f"encoding {encoding!r} does not exist; give one that Python knows, such as 'utf-8', 'latin-1', "
            "'cp1252' or 'utf-16'."
        ) from None
    return None if name == "utf-8" else name


def whole_lines(text: bytes) -> int:
    """The length of the part of ``text`` that consists of whole lines."""
    return text.rfind(b"\n") + 1


def blocks(
    path: Path, *, block_bytes: int, encoding: str | None = None, whole: Callable[[bytes], int] = whole_lines
) -> Iterator[bytes]:
    """Blocks that consist of whole records and end in a line end.

    Args:
        path: the file.
        block_bytes: how much to read at a time; a longer record is read whole.
        encoding: of the file, UTF-8 by default.
        whole: gives the length of the part of a text that consists of whole records.

    Raises:
        DataError: a line is longer than 256 MiB, or the file is damaged.
    """
    with open_text(path, encoding) as stream:
        rest = b""
        while piece := stream.read(max(block_bytes, len(rest))):
            rest += piece
            end = whole(rest)
            if not end and len(rest) > MAX_LINES_BYTES:
                end = whole_lines(rest)
                if not end and len(rest) > MAX_RECORD_BYTES:
                    raise DataError(
                        f"{path} has a line longer than {MAX_RECORD_BYTES >> 20} MiB; "
                        "check that its lines end in a newline."
                    )
            if end:
                yield rest[:end]
                rest = rest[end:]
        if rest:
            yield rest if rest.endswith(b"\n") else rest + b"\n"


class Blocks(NamedTuple):
    """Some blocks of a file, counted from 0; to its end without a stop."""

    path: Path
    start: int
    stop: int | None


class TextFormat(BlockFormat):
    """A format of lines of text; a lone carriage return ends a line too."""

    unit = "line"

    def __init__(self, *, block_bytes: int = BLOCK_BYTES, encoding: str | None = None) -> None:
        super().__init__(block_bytes=block_bytes)
        self.encoding = known_encoding(encoding)

    def lines(self, path: "Path | Blocks") -> Iterator[list[tuple[int, bytes]]]:
        """Blocks of (line number, line) pairs, blank lines left out."""
        path, start, stop = path if isinstance(path, Blocks) else (path, 0, None)
        first = 1
        found = blocks(path, block_bytes=self.block_bytes, encoding=self.encoding)
        for at, block in enumerate(islice(found, stop)):
            lines = block.splitlines()
            if at >= start:
                yield [(number, line) for number, line in enumerate(lines, first) if line.strip()]
            first += len(lines)


class LineFormat(TextFormat):
    """A format of one row a line, whose files several processes read in parts."""

    def pieces(self, path: Any, num_parts: int) -> list[tuple[Any, int]]:
        # Finding lines costs little beside parsing them, so that each part may pass over those before it.
        num_bytes = path.stat().st_size
        num_blocks = min(num_parts, max(1, num_bytes // self.block_bytes))
        starts = [num_bytes * number // num_blocks // self.block_bytes for number in range(num_blocks)]
        stops = [*starts[1:], None]
        return [
            (Blocks(path, start, stop), num_bytes // num_blocks)
            for start, stop in zip(starts, stops, strict=True)
        ]


def parsed(
    lines: Iterable[tuple[int, Raw]], parse: Callable[[Raw], Row]
) -> tuple[list[Row], np.ndarray, tuple[tuple[int, str], ...]]:
    """The rows of numbered lines, their numbers [B], and the lines on which ``parse`` raises ValueError."""
    rows: list[Row] = []
    positions: list[int] = []
    bad: list[tuple[int, str]] = []
    for number, line in lines:
        try:
            rows.append(parse(line))
            positions.append(number)
        except ValueError as error:
            bad.append((number, str(error)))
    return rows, np.array(positions, np.int64), tuple(bad)


def undecodable(line: bytes) -> str | None:
    """Why a line is not clean UTF-8 text, or None.

    Example:
        >>> undecodable(b"caf\\xe9")
        'byte 0xe9 after 3 bytes is not UTF-8'
    """
    nul = line.find(b"\0")
    if nul >= 0:
        return f"a NUL byte stands after {nul} bytes"
    try:
        line.decode()
    except UnicodeDecodeError as error:
        if line.startswith(_UNKNOWN.encode("utf-8", "surrogatepass"), error.start):
            return f"after {error.start} bytes stands what its encoding does not hold"
        return f"byte 0x{line[error.start]:02x} after {error.start} bytes is not UTF-8"
    return None


def files_of(paths: Sequence[str | Path], *, wanted: str = "a text") -> list[Path]:
    """Paths of files that exist.

    Raises:
        UsageError: one does not; says what is wanted.
    """
    for path in map(Path, paths):
        if not path.is_file():
            raise UsageError(f"{path} is no file; name {wanted}.")
    return [Path(path) for path in paths]


def text_of(line: bytes, place: str) -> str:
    """A line as text.

    Raises:
        DataError: it is none; says where it stands.
    """
    if wrong := undecodable(line):
        raise DataError(f"{place}: {wrong}. Name the encoding of the text (--encoding).")
    return line.decode()


def numbered_lines(
    paths: Sequence[str | Path], *, encoding: str | None = None, wanted: str = "a text"
) -> Iterator[tuple[str, bytes]]:
    """The places, as path:number, and the lines of text files in UTF-8, one file after another.

    Raises:
        DataError: a file cannot be read.
        UsageError: there is no such file, or no such encoding; says what is wanted.
    """
    encoding = known_encoding(encoding)
    for path in files_of(paths, wanted=wanted):
        with open_text(path, encoding) as file:
            yield from ((f"{path}:{number}", line) for number, line in enumerate(file, start=1))

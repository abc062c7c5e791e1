"""Blocks of whole lines out of text files, plain or gzipped, however long a line is."""

import gzip
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

from widemax.data.formats.base import readable
from widemax.errors import DataError

MAX_RECORD_BYTES = 1 << 28
_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_GZIP_MAGIC = b"\x1f\x8b"

Row = TypeVar("Row")


@contextmanager
def open_text(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a text file: unzipped if it is a gzip file, without a byte order mark.

    Raises:
        DataError: the file is damaged, or is UTF-16.
    """
    with readable(path, "text"), path.open("rb") as raw:
        zipped = raw.peek(2)[:2] == _GZIP_MAGIC
        stream = io.BufferedReader(gzip.GzipFile(fileobj=raw)) if zipped else raw
        head = stream.peek(3)[:3]
        if head[:2] in _UTF16_BOMS:
            raise DataError(f"{path} is UTF-16, but text files must be UTF-8; save it again as UTF-8.")
        if head == _BOM:
            stream.read(3)
        yield stream


def whole_lines(text: bytes) -> int:
    """The length of the part of ``text`` that consists of whole lines."""
    return text.rfind(b"\n") + 1


def blocks(path: Path, *, block_bytes: int, whole: Callable[[bytes], int] = whole_lines) -> Iterator[bytes]:
    """Blocks that consist of whole records and end in a line end.

    Args:
        path: the file.
        block_bytes: how much to read at a time; a longer record is read whole.
        whole: gives the length of the part of a text that consists of whole records.

    Raises:
        DataError: a line is longer than 256 MiB, or the file is damaged.
    """
    with open_text(path) as stream:
        rest = b""
        while piece := stream.read(max(block_bytes, len(rest))):
            rest += piece
            end = whole(rest)
            if not end and len(rest) > MAX_RECORD_BYTES:
                end = whole_lines(rest)
                if not end:
                    raise DataError(
                        f"{path} has a line longer than {MAX_RECORD_BYTES >> 20} MiB; "
                        "check that its lines end in a newline."
                    )
            if end:
                yield rest[:end]
                rest = rest[end:]
        if rest:
            yield rest if rest.endswith(b"\n") else rest + b"\n"


def numbered_lines(path: Path, *, block_bytes: int) -> Iterator[list[tuple[int, bytes]]]:
    """Blocks of (line number, line) pairs, blank lines left out."""
    first = 1
    for block in blocks(path, block_bytes=block_bytes):
        lines = block.split(b"\n")
        lines.pop()
        yield [(number, line) for number, line in enumerate(lines, first) if line.strip()]
        first += len(lines)


def parsed(
    lines: Iterable[tuple[int, bytes]], parse: Callable[[bytes], Row]
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
        return f"byte 0x{line[error.start]:02x} after {error.start} bytes is not UTF-8"
    return None

"""What a format promises: a file as a stream of chunks whose rows know where they stand in the file."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from widemax.errors import DataError, WidemaxError, reason_of
from widemax.storage import check_opened, sha256

CHUNK_ROWS = 65_536
BLOCK_BYTES = 1 << 22


@dataclass(frozen=True)
class Chunk:
    """Some rows of a file, as the file gives them.

    Args:
        columns: name → Arrow array of the readable rows.
        positions_B: int64, the line (text formats) or row (binary formats) of each row, counted from 1.
        bad: (position, reason) of the rows that cannot be read.
    """

    columns: dict[str, Any]
    positions_B: np.ndarray
    bad: tuple[tuple[int, str], ...] = ()


class Format(ABC):
    """A way to store rows in a file; ``path`` is its Path, or the frame that stands for one.

    ``suffixes`` are the file endings it answers to, ``unit`` is what a position counts, ``untyped`` says that
    every cell is a string whose type has to be guessed (CSV), and ``unlabeled_is_empty`` that a row without
    labels has none, where rows can have several.
    """

    suffixes: ClassVar[tuple[str, ...]]
    unit: ClassVar[str] = "row"
    untyped: ClassVar[bool] = False
    unlabeled_is_empty: ClassVar[bool] = False

    @abstractmethod
    def columns(self, path: Any) -> list[str]:
        """The names of the columns, in the order of the file."""

    @abstractmethod
    def chunks(self, path: Any, columns: Sequence[str]) -> Iterator[Chunk]:
        """The named columns, in chunks of bounded size."""

    def pieces(self, path: Any, num_parts: int) -> list[tuple[Any, int]]:
        """What can be read by itself, in the order of the rows, as :meth:`chunks` takes it; and its bytes.

        A format that can be cut anywhere gives one for each of the parts that are asked for.
        """
        is_file = isinstance(path, Path) and path.is_file()
        return [(path, path.stat().st_size if is_file else 1)]

    def files(self, path: Path) -> list[Path]:
        """Every file that the rows come from."""
        return [path]

    def passed_over(self, path: Any) -> list[Path]:
        """Files of the kind it reads that stand where it does not look, or are of a kind it does not know."""
        return []

    def told(self, path: Any) -> list[str]:
        """Sentences about what was read."""
        return []

    def fingerprint(self, path: Any) -> Iterator[bytes]:
        """What differs where the rows do: the size and the hash of each file, and its name in a folder."""
        for file in self.files(path):
            name = f" {file.relative_to(path)}" if path.is_dir() else ""
            yield f"{file.stat().st_size} {sha256(file)}{name}\n".encode()

    def place(self, path: Any, position: int) -> str:
        """How a message names a row: ``file:line``, or ``file:row N`` where the file has no lines."""
        return f"{path}:{position}" if self.unit == "line" else f"{path}:{self.unit} {position}"


class BlockFormat(Format):
    """A format that is read some bytes at a time."""

    def __init__(self, *, block_bytes: int = BLOCK_BYTES) -> None:
        self.block_bytes = block_bytes


def distinct_names(path: Any, names: Sequence[str]) -> list[str]:
    """The names of the columns of a file.

    Raises:
        DataError: one occurs more than once.
    """
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise DataError(f"{path} names {twice} more than once; give each column its own name.")
    return list(names)


def slices(columns: dict[str, Any], num_rows: int, first: int) -> Iterator[Chunk]:
    """Cuts columns already in memory (or mapped) into chunks; ``first`` is the position of the first row."""
    for start in range(0, num_rows, CHUNK_ROWS):
        stop = min(start + CHUNK_ROWS, num_rows)
        yield Chunk(
            {name: values[start:stop] for name, values in columns.items()},
            np.arange(first + start, first + stop),
        )


def sound_columns(batch: Any, columns: Sequence[str]) -> dict[str, Any]:
    """Columns of a record batch, in which a damaged file has offsets out of memory, or texts that are none.

    Raises:
        ArrowInvalid: they have.
    """
    arrays = {name: batch.column(name) for name in columns}
    for array in arrays.values():
        array.validate(full=True)
    return arrays


@contextmanager
def readable(path: Path, noun: str) -> Iterator[None]:
    """Turns what a library says about a damaged file into a sentence that names the file."""
    try:
        yield
    except WidemaxError:
        raise
    except Exception as error:  # libraries raise errors of many types on damaged files
        check_opened(path, error)
        raise DataError(
            f"{path} cannot be read as {noun}: {reason_of(error)}. "
            "Check that the file is complete and of this format."
        ) from error

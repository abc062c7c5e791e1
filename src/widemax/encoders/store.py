"""Features on disk, appended chunk by chunk and read back in any order."""

import json
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from widemax.encoders.features import Array, Features, Ragged, concatenate, num_rows, take
from widemax.errors import ShapeError
from widemax.storage import saving

_LAYOUT = "layout.json"
# Read from mapped files before their pages are let go; a row brings the pages around it into memory too.
_KEPT_BYTES = 1 << 20


def _narrow(ids_P: Array) -> Array:
    bounds = np.iinfo(np.int32)
    fits = not len(ids_P) or (bounds.min <= ids_P.min() and ids_P.max() <= bounds.max)
    return ids_P.astype(np.int32 if fits else np.int64, copy=False)


class _GrowingArray:
    """One array on disk that grows along its first axis and widens its type when it must."""

    def __init__(self, path: Path, first: Array) -> None:
        self.path = path
        self.dtype = first.dtype
        self.shape = (0, *first.shape[1:])
        with saving(str(path)):
            path.write_bytes(b"")

    def append(self, array: Array) -> None:
        if array.shape[1:] != self.shape[1:]:
            raise ShapeError(f"rows must have shape {self.shape[1:]} as those before; got {array.shape[1:]}.")
        dtype = np.promote_types(self.dtype, array.dtype)
        if dtype != self.dtype:
            with saving(str(self.path)):
                self._widen(dtype)
        self._write(array)
        self.shape = (self.shape[0] + len(array), *self.shape[1:])

    def _write(self, array: Array) -> None:
        # Not by tofile: it does not tell when the last bytes find no room.
        with saving(str(self.path), num_bytes=array.nbytes), self.path.open("ab") as file:
            file.write(np.ascontiguousarray(array, dtype=self.dtype).data)

    def _widen(self, dtype: np.dtype[Any]) -> None:
        narrow = self.path.rename(self.path.with_suffix(".narrow"))
        old = _read(narrow, self.dtype, self.shape)
        self.dtype = dtype
        self.path.write_bytes(b"")
        for start in range(0, len(old), 1 << 20):
            self._write(old[start : start + (1 << 20)])
        del old
        narrow.unlink()

    def layout(self) -> dict[str, Any]:
        return {"file": self.path.name, "dtype": self.dtype.str, "shape": self.shape}


def _read(path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> Array:
    if 0 in shape:  # an empty file cannot be mapped
        return np.empty(shape, dtype)
    return np.asarray(np.memmap(path, dtype=dtype, mode="r", shape=shape))


def _slice(rows_of: Array | Ragged, start: int, stop: int) -> Array | Ragged:
    """A copy in memory of consecutive rows."""
    if isinstance(rows_of, Ragged):
        part = rows_of.slice(start, stop)
        return Ragged(part.offsets_B1, part.ids_P.copy(), part.values_P.copy())
    return rows_of[start:stop].copy()


class FeatureWriter:
    """Appends features to files in a folder; see `FeatureStore.create`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entries: dict[str, dict[str, _GrowingArray]] | None = None

    def _parts(self, entry: Array | Ragged) -> dict[str, Array]:
        if not isinstance(entry, Ragged):
            return {"dense": entry}
        return {"lengths": entry.lengths, "ids": _narrow(entry.ids_P), "values": entry.values_P}

    def append(self, features: Features) -> None:
        """Adds rows after those already there.

        Raises:
            ShapeError: the entries differ in name or row shape from those before.
            ResourceError: the disk is full.
        """
        num_rows(features)
        chunk = {name: self._parts(entry) for name, entry in features.items()}
        if self._entries is None:
            self._entries = {
                name: {
                    part: _GrowingArray(self.folder / f"{number}.{part}", array)
                    for part, array in parts.items()
                }
                for number, (name, parts) in enumerate(chunk.items())
            }
        if {name: set(parts) for name, parts in chunk.items()} != {
            name: set(files) for name, files in self._entries.items()
        }:
            raise ShapeError(
                f"every chunk must have the entries {sorted(self._entries)}; got {sorted(chunk)}."
            )
        for name, parts in chunk.items():
            for part, array in parts.items():
                self._entries[name][part].append(array)

    def finish(self) -> "FeatureStore":
        """Describes the files for `FeatureStore.open`, and opens them for reading."""
        entries = self._entries or {}
        layout = {name: {part: f.layout() for part, f in files.items()} for name, files in entries.items()}
        with saving(str(self.folder)):
            (self.folder / _LAYOUT).write_text(json.dumps(layout))
        return FeatureStore.open(self.folder)


class FeatureStore:
    """Features larger than memory: read by row numbers in any order, or in sequence.

    Example:
        >>> from tempfile import mkdtemp
        >>> writer = FeatureStore.create(Path(mkdtemp()))
        >>> writer.append({"x": np.array([[1.0], [2.0]])})
        >>> writer.append({"x": np.array([[3.0]])})
        >>> store = writer.finish()
        >>> len(store), store.take(np.array([2, 0]))["x"].ravel().tolist()
        (3, [3.0, 1.0])
    """

    def __init__(self, parts: Sequence[Features]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *map(num_rows, parts)])
        files: list[Any] = [
            array.base.base for part in parts for array in _arrays(part) if isinstance(array.base, np.memmap)
        ]
        self._mapped = files if hasattr(mmap, "MADV_DONTNEED") else []
        self._read_bytes = 0

    @staticmethod
    def create(folder: Path) -> FeatureWriter:
        """Starts a new store in ``folder``, which is made if need be."""
        with saving(str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
        return FeatureWriter(folder)

    @classmethod
    def open(cls, *folders: Path) -> Self:
        """Opens finished stores, whose rows come one after the other."""
        return cls([part for part in map(_open, folders) if part])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, rows: npt.ArrayLike) -> Features:
        """The given rows in the given order, copied into memory."""
        rows_B = np.asarray(rows, np.int64)
        if len(self._parts) == 1:
            return self._let_go(take(self._parts[0], rows_B))
        parts_B = np.searchsorted(self._starts, rows_B, side="right") - 1
        order_B = np.argsort(parts_B, kind="stable")
        ends = np.cumsum(np.bincount(parts_B, minlength=len(self._parts)))
        pieces = np.split(rows_B[order_B], ends[:-1])
        taken = [
            take(part, rows - start)
            for part, rows, start in zip(self._parts, pieces, self._starts, strict=False)
        ]
        return self._let_go(take(concatenate(taken), np.argsort(order_B)))

    def chunks(self, max_rows: int = 8192) -> Iterator[Features]:
        """All rows in order, at most ``max_rows`` at a time."""
        for part in self._parts:
            end = num_rows(part)
            for start in range(0, end, max_rows):
                stop = min(start + max_rows, end)
                yield self._let_go({name: _slice(found, start, stop) for name, found in part.items()})

    def _let_go(self, features: Features) -> Features:
        """What was read, so that the memory of this process is that of a few rows; the files stay cached."""
        self._read_bytes += sum(array.nbytes for array in _arrays(features))
        if self._read_bytes > _KEPT_BYTES:
            self._read_bytes = 0
            for mapped in self._mapped:
                mapped.madvise(mmap.MADV_DONTNEED)
        return features


def _open(folder: Path) -> Features:
    layout = json.loads((folder / _LAYOUT).read_text())
    features: Features = {}
    for name, files in layout.items():
        parts = {
            part: _read(folder / file["file"], file["dtype"], tuple(file["shape"]))
            for part, file in files.items()
        }
        if "dense" in parts:
            features[name] = parts["dense"]
        else:
            offsets_B1 = np.concatenate(([0], np.cumsum(parts["lengths"])))
            features[name] = Ragged(offsets_B1, parts["ids"], parts["values"])
    return features


def _arrays(features: Features) -> Iterator[Array]:
    for found in features.values():
        yield from (found.ids_P, found.values_P) if isinstance(found, Ragged) else (found,)

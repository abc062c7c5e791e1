"""NumPy files: .npz holds arrays named by their keys, .npy one table or matrix. Pickles are never read."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from widemax.data.formats import formats
from widemax.data.formats.base import CHUNK_ROWS, Chunk, Format, readable
from widemax.errors import DataError

_CSR_KEYS = {"data", "indices", "indptr", "shape"}


@formats.register("npz")
class Npz(Format):
    """Every array of equal length is a column; a matrix gives vectors; the parts of a CSR matrix give "X"."""

    suffixes = (".npz",)

    def columns(self, path: Path) -> list[str]:
        with _open(path) as file:
            keys = [key for key in file.files if key not in _CSR_KEYS | {"format"}]
            return ["X", *keys] if set(file.files) >= _CSR_KEYS else list(file.files)

    def chunks(self, path: Path, columns: Sequence[str]) -> Iterator[Chunk]:
        with _open(path) as file:
            csr = set(file.files) >= _CSR_KEYS
            if csr and "format" in file.files and bytes(file["format"].item()) != b"csr":
                raise DataError(f"{path} holds a sparse matrix that is not CSR; save matrix.tocsr() instead.")
            arrays = {name: file[name] for name in columns if not (csr and name == "X")}
            lengths = {name: _length(path, name, array) for name, array in arrays.items()}
            matrix = _csr_matrix(file) if csr and "X" in columns else None
        if matrix is not None:
            lengths["X"] = matrix.shape[0]
        if len(set(lengths.values())) > 1:
            raise DataError(f"the arrays of {path} must have equal lengths, got {lengths}.")
        num_rows = next(iter(lengths.values()), 0)
        for start in range(0, num_rows, CHUNK_ROWS):
            stop = min(start + CHUNK_ROWS, num_rows)
            rows = {name: _column(path, name, array[start:stop]) for name, array in arrays.items()}
            if matrix is not None:
                rows["X"] = _csr_rows(matrix, start, stop)
            yield Chunk(rows, np.arange(start + 1, stop + 1))


@contextmanager
def _read(path: Path, noun: str) -> Iterator[None]:
    with readable(path, noun), warnings.catch_warnings():
        # NumPy advises to save files of Python 2 again; they read well.
        warnings.filterwarnings("ignore", message="Reading `.npy`", category=UserWarning)
        yield


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    with _read(path, "npz"), path.open("rb") as raw:
        found = np.load(raw, allow_pickle=False)
        if isinstance(found, np.ndarray):
            raise DataError(f"{path} is an npy file; give it the ending .npy.")
        with found as file:
            yield file


@formats.register("npy")
class Npy(Format):
    """A structured array gives one column a field; a matrix gives the vectors "X".

    Read by rows, and not memory-mapped: a file that is cut off while it is mapped ends the process.
    """

    suffixes = (".npy",)

    def columns(self, path: Path) -> list[str]:
        return list(self._load(path).dtype.names or ["X"])

    def chunks(self, path: Path, columns: Sequence[str]) -> Iterator[Chunk]:
        array = self._load(path)
        num_rows = _length(path, "X", array)
        for start in range(0, num_rows, CHUNK_ROWS):
            rows = self._rows(path, array, start, min(CHUNK_ROWS, num_rows - start))
            fields = {name: rows[name] if array.dtype.names else rows for name in columns}
            yield Chunk(
                {name: _column(path, name, field) for name, field in fields.items()},
                np.arange(start + 1, start + 1 + len(rows)),
            )

    def _load(self, path: Path) -> Any:
        """The array, mapped to look at its header, or in memory where it is stored by columns."""
        with _read(path, "npy"):
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            if not isinstance(array, np.ndarray):
                raise DataError(f"{path} is an npz file; give it the ending .npz.")
            return array if array.flags.c_contiguous else np.load(path, allow_pickle=False)

    def _rows(self, path: Path, array: Any, start: int, count: int) -> Any:
        if not isinstance(array, np.memmap):
            return array[start : start + count]
        size = array[:1].size
        place = array.offset + start * size * array.dtype.itemsize
        values = np.fromfile(path, array.dtype, count * size, offset=place)
        if len(values) < count * size:
            raise DataError(f"{path} was cut off while it was read.")
        return values.reshape(count, *array.shape[1:])


def _length(path: Path, name: str, array: Any) -> int:
    if array.ndim == 0:
        raise DataError(f"array {name!r} of {path} is a single number, but it must have one entry a row.")
    return len(array)


def _column(path: Path, name: str, array: np.ndarray) -> Any:
    """An Arrow column; everything past the first axis is flattened to a vector."""
    with readable(path, f"array {name!r}"):
        if array.dtype == np.float16 or not array.dtype.isnative:
            array = array.astype(np.float32 if array.dtype == np.float16 else array.dtype.newbyteorder("="))
        flat = np.ascontiguousarray(array).reshape(-1)
        values = pa.array(flat.tolist() if array.dtype.kind in "SU" else flat)
        if array.dtype.kind == "S":
            values = values.cast(pa.large_string())
        return (
            values if array.ndim == 1 else pa.FixedSizeListArray.from_arrays(values, flat.size // len(array))
        )


def _csr_matrix(parts: Any) -> Any:
    """The CSR matrix of an npz file; its parts may be anything.

    Raises:
        ValueError, TypeError: they make none.
    """
    from scipy.sparse import csr_matrix

    kinds = {"data": np.float64, "indices": np.int64, "indptr": np.int64}
    arrays = (parts[name].astype(kind, casting="same_kind") for name, kind in kinds.items())
    matrix = csr_matrix(tuple(arrays), shape=tuple(parts["shape"].tolist()))
    matrix.check_format(full_check=True)
    return matrix


def _csr_rows(matrix: Any, start: int, stop: int) -> Any:
    first, last = int(matrix.indptr[start]), int(matrix.indptr[stop])
    structs = pa.StructArray.from_arrays(
        [pa.array(matrix.indices[first:last].astype(np.int64)), pa.array(matrix.data[first:last])],
        names=["index", "value"],
    )
    offsets = matrix.indptr[start : stop + 1].astype(np.int64) - first
    return pa.LargeListArray.from_arrays(pa.array(offsets), structs)

"""idx, the format of MNIST: a file of images, and a file of labels beside it.

An idx file starts with the bytes 0, 0, type and number of dimensions, then each dimension as a big-endian
32-bit number; the values follow. Images have the dimensions rows × height × width, labels have rows.
"""

import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from widemax.data.formats import formats
from widemax.data.formats.base import CHUNK_ROWS, BlockFormat, Chunk, readable
from widemax.data.formats.text import MAX_RECORD_BYTES
from widemax.data.images import image_array
from widemax.errors import DataError, did_you_mean

_BYTES = 8  # the type of unsigned bytes
_DIMENSIONS = {"image": 3, "label": 1}
_PREFIXES = {"train": ("train",), "test": ("t10k", "test")}


@formats.register("idx")
class Idx(BlockFormat):
    """Images of one channel in "image", and in "label" what the labels file beside them says (``.gz`` too).

    The labels of ``train-images-idx3-ubyte.gz`` are in ``train-labels-idx1-ubyte.gz``. A file whose name does
    not contain "images" has no labels.
    """

    suffixes = ("idx3-ubyte", "idx3-ubyte.gz", "idx1-ubyte", "idx1-ubyte.gz")

    def columns(self, path: Path) -> list[str]:
        _sizes(path, "image")
        return ["image", "label"] if "images" in path.name else ["image"]

    def files(self, path: Path) -> list[Path]:
        return [path, *(labels for labels in _label_files(path) if labels.is_file())][:2]

    def chunks(self, path: Path, columns: Sequence[str]) -> Iterator[Chunk]:
        files = {name: path if name == "image" else _labels_of(path) for name in columns}
        sizes = {name: _sizes(file, name) for name, file in files.items()}
        counts = {str(files[name]): size[0] for name, size in sizes.items()}
        if len(set(counts.values())) > 1:
            raise DataError(f"images and labels must be equally many, got {counts}; fetch both files again.")
        row_bytes = max((prod(size[1:]) for size in sizes.values()), default=1)
        rows = min(CHUNK_ROWS, max(1, self.block_bytes // row_bytes))
        first = 1
        for blocks in zip(*(_blocks(file, name, rows) for name, file in files.items()), strict=True):
            num_rows = len(blocks[0])
            yield Chunk(
                {name: _column(block) for name, block in zip(files, blocks, strict=True)},
                np.arange(first, first + num_rows),
            )
            first += num_rows


def read_idx(path: Path) -> dict[str, Any]:
    """All images of a file and their labels, in memory."""
    chunks = list(Idx().chunks(path, ["image", "label"]))
    return {name: pa.chunked_array([chunk.columns[name] for chunk in chunks]) for name in ("image", "label")}


def idx_split(folder: Path, split: str) -> Path | None:
    """The file of images of a split of a folder; None where the folder has no idx images at all.

    Raises:
        DataError: it has images, but of other splits.
    """
    found = {
        name: file
        for name, prefixes in _PREFIXES.items()
        for file in sorted(folder.glob("*images*idx3-ubyte*"), reverse=True)
        if file.name.startswith(prefixes)
    }
    if found and split not in found:
        raise DataError(f"{folder} has no split {split!r}; {did_you_mean(split, list(found))}")
    return found.get(split)


def _label_files(path: Path) -> list[Path]:
    """Where the labels may be: as the images are, with .gz or without."""
    plain = path.name.replace("images", "labels").replace("idx3", "idx1").removesuffix(".gz")
    names = [plain, f"{plain}.gz"] if plain != path.name.removesuffix(".gz") else []
    return [path.with_name(name) for name in names]


def _labels_of(path: Path) -> Path:
    for file in _label_files(path):
        if file.is_file():
            return file
    names = " or ".join(file.name for file in _label_files(path))
    raise DataError(f"the labels of {path} are not beside it; put {names} into {path.parent}.")


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    with readable(path, "idx"), gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        yield file


def _sizes(path: Path, name: str) -> tuple[int, ...]:
    with _open(path) as file:
        return _header(file, path, name)


def _header(file: Any, path: Path, name: str) -> tuple[int, ...]:
    """The sizes that the file states."""
    wanted = bytes((0, 0, _BYTES, _DIMENSIONS[name]))
    magic = file.read(4)
    if name == "image" and magic == bytes((0, 0, _BYTES, _DIMENSIONS["label"])):
        raise DataError(f"{path} holds labels; name the file of images beside it, which finds its labels.")
    if magic != wanted:
        raise DataError(
            f"{path} must start with the bytes {[*wanted]} of an idx file of {name}s, got {[*magic]}; "
            "check that it is the original file."
        )
    stated = file.read(4 * _DIMENSIONS[name])
    sizes = np.frombuffer(stated[: len(stated) // 4 * 4], ">u4").tolist()
    if len(sizes) < _DIMENSIONS[name] or 0 in sizes[1:]:
        raise DataError(f"{path} has no complete idx header, got the sizes {sizes}; fetch the file again.")
    if prod(sizes[1:]) > MAX_RECORD_BYTES:
        raise DataError(
            f"{path} states images of {sizes[1]} × {sizes[2]} pixels, more than can be; fetch the file again."
        )
    return tuple(sizes)


def _blocks(path: Path, name: str, rows: int) -> Iterator[Any]:
    """Arrays [B, …] of at most ``rows`` rows."""
    with _open(path) as file:
        num_rows, *sizes = _header(file, path, name)
        for start in range(0, num_rows, rows):
            count = min(rows, num_rows - start)
            values = np.frombuffer(file.read(count * prod(sizes)), np.uint8)
            if len(values) < count * prod(sizes):
                complete = start + len(values) // prod(sizes)
                raise DataError(
                    f"{path} is cut off: it must hold {num_rows} {name}s, got {complete}; fetch it again."
                )
            yield values.reshape(count, *sizes)
        if file.read(1):
            raise DataError(f"{path} goes on after its {num_rows} {name}s; fetch the file again.")


def _column(values: Any) -> Any:
    return pa.array(values.astype(np.int64)) if values.ndim == 1 else image_array(values[..., None])

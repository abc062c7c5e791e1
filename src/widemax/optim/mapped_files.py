"""The files of mapped rows: what is written where, durably, and by one process at a time.

Shapes: C rows (classes), D dim.
"""

import json
import math
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from widemax.errors import ConfigError, CorruptError, ResourceError, UsageError
from widemax.storage import (
    FORMAT_VERSION,
    MANIFEST,
    fsync,
    saving,
    sha256,
    signed,
    write_file,
    writing_tensors,
)

if sys.platform != "win32":
    import fcntl

ROWS, JOURNAL = "rows.bin", "journal.bin"
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}
BLOCK_BYTES = 2**22
"""Rows handled at a time, so that the matrix is never in memory as a whole."""


def block_rows(dim: int, dtype: torch.dtype) -> int:
    """How many rows are handled at a time."""
    return max(1, BLOCK_BYTES // (dim * dtype.itemsize))


def write_folder(
    folder: Path,
    num_rows: int,
    dim: int,
    *,
    dtype: torch.dtype,
    std: float | None,
    generator: torch.Generator | None,
) -> None:
    """Write normally distributed rows, then commit 0, which makes the folder complete; or leave nothing."""
    names = {member: name for name, member in DTYPES.items()}
    if dtype not in names:
        raise ConfigError(f"dtype must be one of {list(DTYPES)}; got {dtype}.")
    if num_rows < 1 or dim < 1:
        raise ConfigError(f"num_rows and dim must be 1 or more; got {num_rows} and {dim}.")
    std = 1 / math.sqrt(dim) if std is None else std
    if not 0 <= std < math.inf:
        raise ConfigError(f"std must be a finite number from 0; got {std}.")
    if folder.exists():
        raise UsageError(f"{folder} exists already. Open it, delete it, or choose another folder.")
    with saving(str(folder)):
        folder.mkdir(parents=True)
    try:
        with saving(str(folder)):
            _write_rows(folder / ROWS, num_rows, dim, dtype, std, generator)
            facts = {"num_rows": num_rows, "dim": dim, "dtype": names[dtype]}
            write_manifest(folder, facts | write_state(folder, 0, {}))
            fsync(folder.parent)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _write_rows(
    path: Path, num_rows: int, dim: int, dtype: torch.dtype, std: float, generator: torch.Generator | None
) -> None:
    size, free = num_rows * dim * dtype.itemsize, shutil.disk_usage(path.parent).free
    if size > free:
        raise ResourceError(
            f"{path} needs {size / 1e9:.1f} GB; the disk has {free / 1e9:.1f} GB free. "
            "Free some space or choose another folder."
        )
    block = torch.empty(min(num_rows, block_rows(dim, dtype)), dim, dtype=dtype)
    with path.open("wb") as file:
        for start in range(0, num_rows, len(block)):
            part = block[: num_rows - start].normal_(std=std, generator=generator)
            file.write(part.view(torch.uint8).numpy().data)
    fsync(path)


def state_path(folder: Path, commit: int) -> Path:
    """Where the tensors of a commit lie."""
    return folder / f"state-{commit}.safetensors"


def write_state(folder: Path, commit: int, state: Mapping[str, Tensor | float]) -> dict[str, Any]:
    """Write the tensors; what the manifest is to say of them, with the numbers."""
    path = state_path(folder, commit)
    tensors = {name: value.contiguous() for name, value in state.items() if isinstance(value, Tensor)}
    with writing_tensors(path):
        save_file(tensors, path)
    fsync(path)
    fsync(folder)
    numbers = {name: value for name, value in state.items() if not isinstance(value, Tensor)}
    return {"commit": commit, "state_sha256": sha256(path), "numbers": numbers}


def read_state(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Tensor | float]:
    """The inverse of ``write_state``."""
    path = state_path(folder, manifest["commit"])
    if not path.is_file() or sha256(path) != manifest["state_sha256"]:
        raise CorruptError(f"{path} is missing or not what was written. Restore the folder from a copy.")
    return {**load_file(path), **manifest["numbers"]}


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the manifest, atomically."""
    manifest = signed({"format_version": FORMAT_VERSION, **facts})
    write_file(folder / MANIFEST, json.dumps(manifest, indent=1, allow_nan=False))
    return manifest


def lock(path: Path) -> BinaryIO:
    """The file, open for reading and writing, by one process at a time where the system has such locks."""
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        raise CorruptError(f"{path} is missing. Restore the folder from a copy.") from None
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise UsageError(
                f"{path.parent} is open already, here or in another process. Close it there first."
            ) from None
    return file


def unlock(file: BinaryIO) -> None:
    """End the lock: a memory map keeps the file open after it was closed, and the lock with it."""
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_UN)

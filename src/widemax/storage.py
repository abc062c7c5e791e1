"""Folders that are whole or absent: written atomically, every file hashed, checked before anything is read.

The order of a write is: temporary folder, files, fsync, manifest, fsync, rename, fsync of the parent. A crash
at any point leaves either the old folder or the new one (Pillai et al., "All File Systems Are Not Created
Equal", OSDI 2014, is the list of what goes wrong otherwise). Nothing here can run code: tensors are
safetensors, everything else is JSON, TOML or Parquet.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from widemax.errors import CorruptError, ResourceError

MANIFEST = "manifest.json"
FORMAT_VERSION = 1


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def saving(what: str) -> Iterator[None]:
    """Turn a full disk or a refused write into one sentence."""
    try:
        yield
    except OSError as error:
        if isinstance(error, (CorruptError, ResourceError)):
            raise
        raise ResourceError(
            f"cannot write {what}: {error.strerror or error}. Free some space or choose another folder."
        ) from error


def cache_folder() -> Path:
    """``$WIDEMAX_CACHE``, else ``widemax`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("WIDEMAX_CACHE") or Path(home, "widemax"))


@contextmanager
def for_everyone(path: Path) -> Iterator[None]:
    """Gives a file that a library makes for its owner alone the mode of any new file."""
    path.touch()
    mode = path.stat().st_mode
    yield
    path.chmod(mode)


def write_file(path: Path, text: str) -> None:
    """Replace a small file atomically and durably."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    fsync(temporary)
    temporary.replace(path)
    fsync(path.parent)


def write_manifest(folder: Path, files: Iterable[Path], facts: Mapping[str, Any]) -> None:
    """Make ``files`` durable, then write the manifest that names them with their sizes and hashes."""
    entries = {}
    for path in sorted(files):
        fsync(path)
        name = path.relative_to(folder).as_posix()
        entries[name] = {"sha256": sha256(path), "bytes": path.stat().st_size}
    for directory in sorted({path.parent for path in map(folder.joinpath, entries)} | {folder}):
        fsync(directory)
    manifest = signed({"format_version": FORMAT_VERSION, **facts, "files": entries})
    write_file(folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False))


def signed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with its own SHA-256, so that damage to it is found as well."""
    unsigned = {key: value for key, value in manifest.items() if key != "sha256"}
    text = json.dumps(unsigned, sort_keys=True, allow_nan=False)
    return unsigned | {"sha256": hashlib.sha256(text.encode("utf-8")).hexdigest()}


@contextmanager
def new_folder(target: Path, facts: Mapping[str, Any]) -> Iterator[Path]:
    """A temporary folder that becomes ``target``, with a manifest of all its files, when the block succeeds.

    An existing ``target`` is replaced. When the block fails, nothing remains.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    with saving(str(target)):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            write_manifest(temporary, (path for path in temporary.rglob("*") if path.is_file()), facts)
            if target.exists():
                shutil.rmtree(target)
            temporary.rename(target)
            fsync(target.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder, its files not yet checked.

    Raises:
        CorruptError: no manifest, or not one that this version can read.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CorruptError(
            f"{folder} has no {MANIFEST}, so it was not completely saved. "
            f"Run `widemax resume {folder}` if it holds checkpoints."
        ) from None
    except (OSError, ValueError) as error:
        raise CorruptError(f"{path} cannot be read: {error}. Restore the file from a copy.") from None
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version != FORMAT_VERSION:
        raise CorruptError(
            f"{path} has format version {version!r}; this widemax reads version {FORMAT_VERSION}. "
            "Read it with the widemax version it names."
        )
    if manifest != signed(manifest):
        raise CorruptError(f"{path} is not the file that was saved. Restore it from a copy or train again.")
    return dict(manifest)


def check_folder(folder: Path) -> dict[str, Any]:
    """The manifest, after every file it lists was found whole and inside the folder.

    Raises:
        CorruptError: names the first file that is missing, altered, or a way out of the folder.
    """
    manifest = read_manifest(folder)
    root = folder.resolve()
    for name, entry in manifest["files"].items():
        relative = PurePosixPath(name)
        path = folder / relative
        if relative.is_absolute() or ".." in relative.parts or not path.resolve().is_relative_to(root):
            raise CorruptError(
                f"{folder / MANIFEST} lists {name!r}, which leads out of the folder; it was not read."
            )
        if not path.is_file():
            raise CorruptError(f"{path} is missing. Restore the file from a copy.")
        if path.stat().st_size != entry["bytes"] or sha256(path) != entry["sha256"]:
            raise CorruptError(
                f"{path} is not the file that was saved: its size or SHA-256 differs from {MANIFEST}. "
                "Restore it from a copy or train again."
            )
    return manifest

"""Folders that are whole or absent: written atomically, every file hashed, checked before anything is read.

The order of a write is: temporary folder, files, fsync, manifest, fsync, rename, fsync of the parent. A crash
at any point leaves either the old folder or the new one (Pillai et al., "All File Systems Are Not Created
Equal", OSDI 2014, is the list of what goes wrong otherwise). Nothing here can run code: tensors are
safetensors, everything else is JSON, TOML or Parquet.

A folder is replaced from inside, so that a link to it and its permissions stay::

    .widemax/lock       held by the one process that writes here; it says which
    .widemax/scratch    what is needed only meanwhile
    .widemax/new        a run in training that will replace the one in the folder
    .widemax/finished   a whole folder, which readers see from its rename on until all of it is in place
"""

import errno
import hashlib
import json
import math
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar

from psutil import pid_exists
from safetensors import SafetensorError

from widemax.errors import CorruptError, ResourceError, UsageError, WidemaxError, reason_of

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
FORMAT_VERSION = 1
CHECKPOINTS = "checkpoints"
WORK, LOCK, SCRATCH, NEW, FINISHED = ".widemax", "lock", "scratch", "new", "finished"

T = TypeVar("T")


HASHED: ContextVar[Mapping[Path, str]] = ContextVar("HASHED")
"""What other processes have found the SHA-256 of files to be, by their whole paths."""


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal digits."""
    if found := HASHED.get({}).get(path.resolve()):
        return found
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
def saving(what: str, *, num_bytes: int | None = None) -> Iterator[None]:
    """Turn a full disk or a refused write into one sentence.

    Args:
        what: the file or folder, where the error names none.
        num_bytes: how many are written, where that is known.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, (WidemaxError, BrokenPipeError)):
            raise
        place = error.filename if isinstance(error.filename, str) else what
        told = os.strerror(error.errno) if error.errno else str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            free = shutil.disk_usage(
                next(path for path in Path(place).absolute().parents if path.is_dir())
            ).free
            needed = f"{num_bytes / 1e6:.1f} MB needed, " if num_bytes else ""
            told += f" ({needed}{free / 1e6:.1f} MB free)"
        raise ResourceError(
            f"cannot write {place}: {told}. Free some space or choose another folder."
        ) from error


@contextmanager
def sound(path: Path) -> Iterator[None]:
    """Turns whatever is found wrong while a saved file is read into a sentence that names the file.

    Raises:
        CorruptError: no file stands there (a pipe would wait, a device has no end), or what the block raises.
        ResourceError: the file is there, but this process may not open it, or no more files.
    """
    if not os.path.isfile(path):
        raise CorruptError(f"{path} is missing, or is no file. Restore it from a copy.")
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # libraries raise errors of many types on damaged files
        if isinstance(error, ResourceError) or (isinstance(error, CorruptError) and path.name in str(error)):
            raise
        check_opened(path, error)
        raise CorruptError(
            f"{path} cannot be used: {reason_of(error)}. Restore it from a copy or train again."
        ) from error


def check_opened(path: Path, error: Exception) -> None:
    """Tell a file that could not be opened from one that is damaged.

    Raises:
        ResourceError: this process may not open the file, or no more files.
    """
    number = error.errno if isinstance(error, OSError) else 0
    # safetensors takes every file that it cannot open for an absent one; torch has no error of its own.
    absent = isinstance(error, FileNotFoundError) and number is None
    if (
        absent
        or "unable to open file" in str(error)
        or number in (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE)
    ):
        raise ResourceError(
            f"cannot open {path}: {os.strerror(number) if number else reason_of(error)}. "
            "Change its permissions, or allow more open files."
        ) from error


def read_json(path: Path) -> Any:
    """What a saved JSON file holds.

    Raises:
        CorruptError: it is no JSON, nests too deep, or holds a number that is not finite.
    """

    def finite(number: str) -> float:
        if not math.isfinite(value := float(number)):
            raise ValueError(f"{number} is no number of JSON that is finite")
        return value

    with sound(path):
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=finite, parse_float=finite)


def cache_folder() -> Path:
    """``$WIDEMAX_CACHE``, else ``widemax`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("WIDEMAX_CACHE") or Path(home, "widemax"))


@contextmanager
def writing_tensors(path: Path) -> Iterator[None]:
    """Gives a file of safetensors the mode of any new file, not that of its owner alone, and its errors."""
    path.touch()
    mode = path.stat().st_mode
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number[1]) if number else errno.EIO, str(error), str(path)) from error
    path.chmod(mode)


def temporary_beside(place: Path) -> Path:
    """A name for what is to take a place, after those of processes that were killed are removed."""
    for left in place.parent.iterdir():
        named = re.fullmatch(rf"\.{re.escape(place.name)}\.(\d+)", left.name)
        if named and not pid_exists(int(named[1])):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    return place.with_name(f".{place.name}.{os.getpid()}")


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """A temporary file that takes the place of ``path``, durably, when the block succeeds.

    A device or a pipe, which nothing should take the place of, is given itself.
    """
    with saving(str(path)):
        if path.exists() and not path.is_file():
            yield path
            return
        place = path.resolve()
        temporary = temporary_beside(place)
        try:
            yield temporary
            fsync(temporary)
            temporary.replace(place)
            fsync(place.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_file(path: Path, text: str) -> None:
    """Replace a small file atomically and durably."""
    with replacing_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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

    ``target`` must be absent, and nobody else may write there. When the block fails, nothing remains.
    """
    temporary = target.with_name(f".{target.name}")
    with saving(str(target)):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            write_manifest(temporary, (path for path in temporary.rglob("*") if path.is_file()), facts)
            temporary.rename(target)
            fsync(target.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def replacing(folder: Path, facts: Mapping[str, Any], *, overwrite: bool) -> Iterator[Path]:
    """A temporary folder whose files become those of ``folder`` when the block succeeds.

    Raises:
        UsageError, ResourceError: see ``writing``.
    """
    with writing(folder, overwrite=overwrite):
        with new_folder(folder / WORK / FINISHED, facts) as temporary:
            yield temporary
        settle(folder)


@contextmanager
def writing(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """Scratch space in a folder that this process alone writes; gone afterwards.

    What a killed writer had finished is put into place, and what else it left is removed. Folders made for
    this are removed again when they stay empty.

    Raises:
        UsageError: the folder holds something, unless ``overwrite`` and widemax saved it, or another
            process is writing there.
        ResourceError: nothing can be written there.
    """
    known = _is_own(folder)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with saving(str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            for left in folder.glob(".config.toml.*"):  # of a process that was killed writing its first file
                left.unlink()
            held = any(path.name != WORK for path in folder.iterdir())
            if held and not overwrite:
                raise UsageError(
                    f"{folder} is not empty. Choose another folder, replace the run (overwrite=True in "
                    "Python, --overwrite), or continue an unfinished one (resume(folder), "
                    f"`widemax resume {folder}`)."
                )
            if held and not known:
                raise UsageError(
                    f"{folder} is not a run folder: it has no manifest and no checkpoint that widemax wrote, "
                    "so it is not replaced. Choose another folder."
                )
            with saving(str(folder)):
                for path in (folder / WORK).iterdir():
                    if path.name not in (LOCK, NEW, FINISHED):
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
                settle(folder)
                scratch = folder / WORK / SCRATCH
                scratch.mkdir()
            try:
                yield scratch
            finally:
                with saving(str(scratch)):
                    shutil.rmtree(scratch)
    finally:
        for path in made:
            with suppress(OSError):  # it holds something, or was not reached
                path.rmdir()


def _is_own(folder: Path) -> bool:
    """Whether widemax saved what the folder holds, or was killed while it wrote there."""
    try:
        names = read_manifest(folder).get("files")
        return isinstance(names, dict) and all(name and "\0" not in name for name in names)
    except CorruptError:
        left = (folder / WORK).is_dir() or any((folder / CHECKPOINTS).glob(f"*/{MANIFEST}"))
        return left and not (folder / MANIFEST).exists()


def foreign(folder: Path) -> list[str]:
    """What lies in a saved folder, but is named neither by its manifest nor by the layout of a run."""
    names = (
        read_manifest(folder)["files"] if (folder / MANIFEST).is_file() else ("config.toml", "metrics.jsonl")
    )
    listed = {PurePosixPath(name).parts[0] for name in names}
    own = {MANIFEST, SIGNATURE, WORK, CHECKPOINTS, "weights", *listed}
    return sorted({path.name for path in folder.iterdir()} - own)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer at a time: the lock ends with its process, and its file says whose it is."""
    work = folder / WORK
    path = work / LOCK
    with saving(str(path)):
        while True:
            work.mkdir(exist_ok=True)
            with suppress(FileNotFoundError):  # the writer before removes them as it ends
                file = path.open("a+b")
                _lock(file, folder)
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    break
                file.close()
        told = (
            f"process {os.getpid()} on {socket.gethostname()} since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        )
        file.truncate(0)
        file.write(f"{told} ({' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])})".encode(errors="replace"))
        file.flush()
    try:
        yield
    finally:
        if sys.platform == "win32":  # where an open file cannot be removed
            file.close()
        with suppress(OSError):  # a lock that nobody holds locks nobody out, and a run in training stays
            path.unlink()
            work.rmdir()
        file.close()


def _lock(file: BinaryIO, folder: Path) -> None:
    """Lock an open file or close it."""
    try:
        if sys.platform == "win32":
            file.seek(2**30)  # others may read what lies before
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        holder = "".join(filter(str.isprintable, file.read(200).decode(errors="replace")))
        file.close()
        raise UsageError(
            f"{folder} is being written by {holder or 'another process'}. Wait until it ends, or choose "
            "another folder."
        ) from None
    except OSError as error:
        if not os.fstat(file.fileno()).st_size:  # nobody else has written a name into it
            (folder / WORK / LOCK).unlink()
            with suppress(OSError):
                (folder / WORK).rmdir()
        file.close()
        raise ResourceError(
            f"{folder} cannot be locked against other processes: {error.strerror}. Choose a folder on a "
            "disk whose file system has locks."
        ) from None


def is_being_written(folder: Path) -> bool:
    """Whether a process, this one or another, writes a saved folder."""
    try:
        with (folder / WORK / LOCK).open("r+b") as file:
            _lock(file, folder)
    except UsageError:
        return True
    except (OSError, ResourceError):
        pass
    return False


def current(folder: Path) -> Path:
    """Where a saved folder is whole: in its place, or on its way there when the writer was killed."""
    finished = folder / WORK / FINISHED
    return finished if finished.is_dir() else folder


def read_whole(folder: Path, read: Callable[[Path], T]) -> T:
    """What a function reads from a saved folder; once more where the folder is replaced meanwhile."""

    def version() -> tuple[Path, int, int] | None:
        place = current(folder)
        with suppress(OSError):
            manifest = (place / MANIFEST).stat()
            return place, manifest.st_ino, manifest.st_mtime_ns
        return None

    while True:
        before = version()
        try:
            result = read(current(folder))
        except CorruptError:
            if version() == before:
                raise
        else:
            if version() == before:
                return result


def settle(folder: Path) -> None:
    """Put a finished folder into its place and remove what it replaces; after a kill at any point, again.

    Readers see it whole in ``FINISHED`` until its manifest is in place, and then there.
    """
    finished, discarded = folder / WORK / FINISHED, folder / WORK / "discarded"
    with saving(str(folder)):
        shutil.rmtree(discarded, ignore_errors=True)
        replaced = [folder / CHECKPOINTS] if _is_complete(current(folder)) else []
        if finished.is_dir():
            discarded.mkdir()
            new = read_manifest(finished)["files"]
            for name in new:
                (folder / name).parent.mkdir(exist_ok=True)
                _link(finished / name, folder / name, discarded)
            for path in _named(folder) - {folder / name for name in new}:
                path.unlink(missing_ok=True)
            for place in sorted({(folder / name).parent for name in new}):
                fsync(place)
            _link(finished / MANIFEST, folder / MANIFEST, discarded)
            fsync(folder)
            if replaced:
                replaced.append(folder / WORK / NEW)
            replaced.append(finished)
        for path in filter(Path.exists, replaced):
            discarded.mkdir(exist_ok=True)
            path.rename(discarded / path.name)
        shutil.rmtree(discarded, ignore_errors=True)


def _is_complete(folder: Path) -> bool:
    """Whether what is saved there was trained to the end."""
    return (folder / MANIFEST).is_file() and bool(read_manifest(folder).get("complete", True))


def _named(folder: Path) -> set[Path]:
    """The files that a manifest or the layout of a run names, in the folder itself."""
    root = folder.resolve()
    names = read_manifest(folder)["files"] if (folder / MANIFEST).is_file() else ()
    paths = {folder / name for name in (*names, SIGNATURE)} | set((folder / "weights").glob("*.safetensors"))
    return {path for path in paths if path.is_file() and path.parent.resolve().is_relative_to(root)}


def _link(source: Path, target: Path, beside: Path) -> None:
    """Give a file a second name in place of another file, atomically; where links are unknown, copy it."""
    temporary = beside / "link"
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
        fsync(temporary)
    temporary.replace(target)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder, its files not yet checked.

    Raises:
        CorruptError: no manifest, or not one that this version can read.
    """
    path = folder / MANIFEST
    if not os.path.lexists(path):
        raise CorruptError(
            f"{folder} has no {MANIFEST}, so it was not completely saved. "
            f"Run `widemax resume {folder}` if it holds checkpoints."
        )
    manifest = read_json(path)
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version != FORMAT_VERSION:
        raise CorruptError(
            f"{path} has format version {version!r}; this widemax reads version {FORMAT_VERSION}. "
            "Read it with the widemax version it names."
        )
    if manifest != signed(manifest):
        raise CorruptError(f"{path} is not the file that was saved. Restore it from a copy or train again.")
    return dict(manifest)


def check_folder(folder: Path, needed: Iterable[str] = ()) -> dict[str, Any]:
    """The manifest, after every file it lists was found whole and inside the folder.

    Args:
        folder: what was written by ``new_folder`` or ``write_manifest``.
        needed: names of files that the manifest must list.

    Raises:
        CorruptError: names the first file that is missing, altered, or a way out of the folder.
    """
    manifest = read_manifest(folder)
    with sound(folder / MANIFEST):
        files = {name: (entry["bytes"], entry["sha256"]) for name, entry in manifest["files"].items()}
        for name in needed:
            if name not in files:
                raise CorruptError(f"it does not list {name}")
    root = folder.resolve()
    for name, saved in files.items():
        relative = PurePosixPath(name)
        path = folder / relative
        leads_out = relative.is_absolute() or ".." in relative.parts
        if leads_out or (os.path.isfile(path) and not path.resolve().is_relative_to(root)):
            raise CorruptError(
                f"{folder / MANIFEST} lists {name!r}, which leads out of the folder; it was not read."
            )
        with sound(path):
            if (path.stat().st_size, sha256(path)) != saved:
                raise CorruptError(
                    f"{path} is not the file that was saved: its size or SHA-256 differs from {MANIFEST}. "
                    "Restore it from a copy or train again."
                )
    return manifest

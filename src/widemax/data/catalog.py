"""Data sets by name: checked against their hashes, prepared once, and found again."""

import gzip
import hashlib
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from glob import glob, has_magic
from pathlib import Path
from typing import Any, overload

from widemax.data.formats import MEMORY, ArrowStream, Frame, Source, format_of
from widemax.data.formats.idx import idx_split
from widemax.data.sets import PublicSet, sets
from widemax.errors import ArgumentError, DataError, UnknownNameError, UsageError, did_you_mean, shown
from widemax.options import checked
from widemax.storage import cache_folder, saving, temporary_beside

Data = str | Path | Frame | ArrowStream
"""A path, a glob, the name of a data set, or a frame in memory."""

_BUNDLED = Path(__file__).parent / "bundled"


@checked
def get(name: str, into: Path | None = None) -> Path:
    """The folder with the prepared files of a data set; prepares them first where needed.

    The original files are looked for in ``$WIDEMAX_DATA/NAME`` (by default where :func:`download` puts
    them), checked against their sha256, and converted into ``$WIDEMAX_CACHE/NAME`` (``~/.cache/widemax/NAME``
    by default); once more where another version of widemax prepared them otherwise. Bundled sets need
    neither.

    Args:
        name: as ``widemax data list`` shows it.
        into: another folder to prepare into.

    Raises:
        UnknownNameError: there is no such data set.
        DataError: the original files are absent or differ; says how to come by them and where they belong.

    Example:
        >>> sorted(path.name for path in get("clinc150").glob("*-t*.parquet"))
        ['clinc150-test.parquet', 'clinc150-train.parquet']
    """
    data_set = sets[name]()
    if data_set.bundled and into is None:
        return _BUNDLED
    folder = cache_folder() / name if into is None else Path(into)
    if not _complete(data_set, folder):
        _prepare(data_set, _originals(data_set), folder)
    return folder


@checked
def at_hand(name: str) -> bool:
    """Whether :func:`get` finds the data set, or at least its original files, on this machine.

    Raises:
        UnknownNameError: there is no such data set.

    Example:
        >>> at_hand("clinc150")
        True
    """
    data_set = sets[name]()
    return prepared(data_set) or all((originals_folder(name) / file).is_file() for file in data_set.files)


def prepared(data_set: PublicSet) -> bool:
    """Whether :func:`get` has nothing to do."""
    return data_set.bundled or _complete(data_set, cache_folder() / data_set.name)


def originals_folder(name: str) -> Path:
    """Where the original files of a data set belong: ``$WIDEMAX_DATA/NAME``, or a folder in the cache."""
    return Path(os.environ.get("WIDEMAX_DATA") or cache_folder() / "originals") / name


@overload
def resolve(data: str | Path | Iterable[str | Path]) -> list[Path]: ...
@overload
def resolve(data: Data | Iterable[Data]) -> list[Source]: ...
def resolve(data: Any) -> Any:
    """The sources that one or several paths, globs, names of data sets or frames stand for.

    ``clinc150:test`` names a split, "train" by default; so does ``FOLDER:test`` where the folder holds the
    idx files of MNIST. A folder of images stays a folder. Frames of pandas (2.2 or later) and polars, pyarrow
    tables, and all that has ``__arrow_c_stream__`` stay in memory.

    Raises:
        DataError: a path that does not exist, a folder of other things, a glob that matches nothing, or a
            split a set lacks.
        UnknownNameError: neither a file nor a data set.
        ArgumentError: something else.

    Example:
        >>> [path.name for path in resolve(["clinc150:test"])]
        ['clinc150-test.parquet']
    """
    items = data if isinstance(data, list | tuple) else [data]
    return [source for item in items for source in _resolve_one(item)]


def _resolve_one(data: Data) -> Iterator[Source]:
    if isinstance(data, Frame):
        yield data
    elif hasattr(data, "__arrow_c_stream__"):
        yield Frame.of(data)
    elif isinstance(data, str | Path):
        yield from _files(str(data))
    else:
        is_rows = isinstance(data, Mapping)
        hint = " Make a frame of your rows, as pandas.DataFrame(rows) does." if is_rows else ""
        raise ArgumentError(
            "data must be a path, a glob, the name of a data set, a frame (of pandas 2.2 or later, polars or "
            f"pyarrow) or a list of them; got {shown(data)}.{hint}"
        )


def _files(item: str) -> Iterator[Path]:
    path = Path(item).expanduser()
    folder, _, split = str(path).rpartition(":")
    if path.is_dir():
        yield _in_folder(path)
    elif path.exists():
        if not path.is_file():
            raise DataError(
                f"{path} is a pipe or a device, but rows are read more than once; save them in a file."
            )
        yield path
    elif has_magic(item):
        matches = sorted(match for match in map(Path, glob(str(path), recursive=True)) if match.is_file())
        if not matches:
            raise DataError(f"no file matches {item!r}; check the pattern and the folder.")
        yield from matches
    elif folder and Path(folder).is_dir() and (images := idx_split(Path(folder), split)):
        yield images
    else:
        yield _named(item, path)


def _in_folder(folder: Path) -> Path:
    """The idx images to train on, or the folder itself where it holds images by class."""
    images = idx_split(folder, "train")
    if images is not None:
        return images
    if format_of(folder).files(folder):
        return folder
    raise DataError(
        f"{folder} is a folder, but must be a file, or hold idx files or images by class; "
        f"name its files, as in {folder / '*.csv'}."
    )


def _named(item: str, path: Path) -> Path:
    if item == MEMORY:
        raise UsageError(
            "the data were in memory and were not saved; give them again, "
            "as in resume(run, data=frame, valid=frame) in Python."
        )
    name, _, split = item.partition(":")
    if name in sets.names():
        data_set = sets[name]()
        split = split or "train"
        if split not in data_set.splits:
            raise DataError(
                f"data set {name!r} has no split {split!r}; {did_you_mean(split, list(data_set.splits))}"
            )
        return data_set.path(get(name), split)
    if path.suffix or path.parent != Path():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        near = get_close_matches(path.name, siblings, n=1)
        hint = f"did you mean {path.parent / near[0]}?" if near else "check the path."
        raise DataError(f"there is no file {item}; {hint}")
    raise UnknownNameError(f"{item!r} is neither a file nor a data set; {did_you_mean(name, sets.names())}")


def _complete(data_set: PublicSet, folder: Path) -> bool:
    """Whether a folder holds all splits, as this version prepares them."""
    version = _version_file(data_set, folder)
    return _holds_all(data_set, folder) and version.is_file() and version.read_text() == data_set.version


def _holds_all(data_set: PublicSet, folder: Path) -> bool:
    return all(data_set.path(folder, split).is_file() for split in data_set.splits)


def _version_file(data_set: PublicSet, folder: Path) -> Path:
    return folder / f"{data_set.name}-version.txt"


def _originals(data_set: PublicSet) -> Path:
    """The folder with the original files, all there and checked."""
    folder = originals_folder(data_set.name)
    if not all((folder / name).is_file() for name in data_set.files):
        files = "; ".join(f"{name} ({_holding(name, wanted)})" for name, wanted in data_set.files.items())
        way = data_set.by_hand or f"`widemax data get {data_set.name} --download` fetches them."
        raise DataError(
            f"the original files of {data_set.name!r} are not here. {way} They belong into {folder}: {files}."
        )
    check_originals(data_set, folder)
    return folder


def check_originals(data_set: PublicSet, folder: Path) -> None:
    """Raises a DataError where a file does not hold what it must."""
    for name, wanted in data_set.files.items():
        path = folder / name
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                found = f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            found = f"a damaged file: {error}"
        if found != f"sha256 {wanted}":
            raise DataError(
                f"{path} must have {_holding(name, wanted)}, got {found}. Fetch it again from {data_set.url}."
            )


def _holding(name: str, digest: str) -> str:
    return f"sha256 {digest}" + " once unpacked" * name.endswith(".gz")


def _prepare(data_set: PublicSet, originals: Path, folder: Path) -> None:
    """Prepares beside the target folder and renames, so that a folder is never half prepared."""
    with saving(str(folder)):
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = temporary_beside(folder)
        made.mkdir()
        try:
            data_set.prepare(originals, made)
            (made / f"{data_set.name}-LICENCE.txt").write_text(f"{data_set.notice}\n", encoding="utf-8")
            _version_file(data_set, made).write_text(data_set.version)
            _move(data_set, made, folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)


def _move(data_set: PublicSet, made: Path, folder: Path) -> None:
    if _holds_all(data_set, folder):  # of another version; the file that says so is moved last
        for file in sorted(made.iterdir(), key=lambda file: file == _version_file(data_set, made)):
            file.replace(folder / file.name)
        return
    try:
        made.rename(folder)
    except OSError as error:
        if not folder.exists():
            raise
        if not _complete(data_set, folder):  # unless another process was faster
            raise DataError(
                f"{folder} exists and does not hold all of {data_set.name!r}; "
                "remove it or choose another folder."
            ) from error

"""The original files of data sets from their sources; what was cut off goes on where it stopped."""

import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from widemax.data.catalog import check_originals, originals_folder, prepared
from widemax.data.sets import PublicSet, sets
from widemax.errors import DataError, ResourceError
from widemax.options import checked
from widemax.storage import saving

_BLOCK_BYTES = 1 << 16
_TIMEOUT_S = 30.0
_SAY_EVERY_S = 5.0
_ROOM = 3  # what is fetched, the same packed or unpacked, and what is prepared from it


@checked
def download(name: str, *, say: Callable[[str], object] | None = None) -> None:
    """Fetches the original files of a data set, so that :func:`get` finds them; says the licence first.

    They come into ``$WIDEMAX_DATA/NAME`` (``~/.cache/widemax/originals/NAME`` by default) once all are whole
    and what they hold has the sha256 it must have. Until then they are in ``NAME.part`` beside it, and a call
    after an interruption goes on from there.

    Args:
        name: as ``widemax data list`` shows it.
        say: is given the lines for the user: licence, size, addresses, progress; they go to stderr without.

    Raises:
        UnknownNameError: there is no such data set.
        DataError: the set has no address, its address no longer has it, or gives something else.
        ResourceError: no network or no room on the disk; says what to fetch by hand, and where to put it.

    Example:
        >>> download("clinc150", say=print)  # doctest: +ELLIPSIS
        CLINC150: an evaluation data set for intent classification and out-of-scope prediction
        ...
        Licence: CC BY 3.0, https://creativecommons.org/licenses/by/3.0/
        https://github.com/clinc/oos-eval
        nothing to fetch: 'clinc150' is here
    """
    data_set = sets[name]()
    say = say or partial(print, file=sys.stderr)
    say(data_set.notice)
    folder = originals_folder(name)
    if prepared(data_set) or _is_whole(data_set, folder):
        say(f"nothing to fetch: {name!r} is here")
        return
    if not data_set.downloads:
        raise DataError(f"{name!r} cannot be downloaded. {data_set.by_hand}")
    say(f"Size: at most {data_set.download_bytes / 1e6:.1f} MB")
    parts = folder.with_name(f"{name}.part")
    with saving(str(parts)):
        parts.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(parts).free < _ROOM * data_set.download_bytes:
        raise ResourceError(
            f"{name!r} takes {_ROOM * data_set.download_bytes / 1e6:.0f} MB in {parts.parent}; free some "
            "space or set WIDEMAX_DATA to a folder on another disk."
        )
    missing = {file: address for file, address in data_set.downloads.items() if not (parts / file).exists()}
    for file, address in missing.items():
        say(f"fetching {address}")
        try:
            fetch(address, parts / file, max_bytes=data_set.download_bytes, say=say)
        except HTTPError as error:
            answer = " ".join(f"{error.code} {error.reason}".split())
            raise DataError(
                f"{address} answers {answer}; its place may have changed, see {data_set.url}."
            ) from error
        except ConnectionError as error:
            raise ResourceError(
                f"{error}. Call this again to go on where it stopped, or after fetching by hand:\n"
                + "\n".join(
                    f"curl -fL --create-dirs -o {shlex.quote(str(parts.absolute() / file))} {address}"
                    for file, address in missing.items()
                    if not (parts / file).exists()
                )
            ) from error
    _assemble(data_set, parts, folder)


def _is_whole(data_set: PublicSet, folder: Path) -> bool:
    try:
        check_originals(data_set, folder)
    except (DataError, FileNotFoundError):
        return False
    return True


def _assemble(data_set: PublicSet, parts: Path, folder: Path) -> None:
    """Moves what was fetched into its folder when it is what it must be; else removes it."""
    try:
        with saving(str(folder)), tempfile.TemporaryDirectory(dir=parts) as temporary:
            made = Path(temporary)
            data_set.assemble(parts, made)
            check_originals(data_set, made)
            folder.mkdir(parents=True, exist_ok=True)
            for file in data_set.files:
                (made / file).replace(folder / file)
    except ValueError as error:
        shutil.rmtree(parts)
        raise DataError(
            f"what was fetched is not the {data_set.name!r} that widemax knows, and was removed: {error}"
        ) from error
    shutil.rmtree(parts)


class _SameScheme(HTTPRedirectHandler):
    """Follows no redirection from https to http."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if not newurl.startswith(f"{req.type}:"):
            raise HTTPError(req.full_url, code, f"leads from {req.type} to {newurl}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(address: str, path: Path, *, max_bytes: int, say: Callable[[str], object]) -> None:
    """Fetches a file, which ends in ``.part`` until it is whole, and goes on from there.

    A connection that breaks is opened again for as long as each brings more.

    Raises:
        ConnectionError: no network, or the server fails.
        HTTPError: the address has no such file.
        DataError: the file has more than ``max_bytes``.
        ResourceError: the disk is full.
    """
    part = path.with_name(f"{path.name}.part")
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _receive(address, part, start=before, max_bytes=max_bytes, say=say)
            part.rename(path)
            return
        except HTTPError as error:
            error.close()
            if error.code == 416 and before:  # nothing follows the part: it is whole, or of another file
                part.unlink()
            elif error.code == 429 or error.code >= 500:
                raise ConnectionError(f"{address} answers {error.code} {error.reason}") from error
            else:
                raise
        except ResourceError:
            raise
        except (OSError, HTTPException) as error:
            if not part.exists() or part.stat().st_size <= before:
                reason = getattr(error, "reason", error)
                raise ConnectionError(f"cannot fetch {address}: {reason}") from error


def _receive(address: str, part: Path, *, start: int, max_bytes: int, say: Callable[[str], object]) -> None:
    """Appends what comes from ``start`` on, or writes all where the server does not start there."""
    headers = {"User-Agent": "widemax"} | ({"Range": f"bytes={start}-"} if start else {})
    request = Request(address, headers=headers)
    with build_opener(_SameScheme).open(request, timeout=_TIMEOUT_S) as response:
        goes_on = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        size = start if goes_on else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else size + int(length)
        with saving(str(part)):
            file = part.open("ab" if goes_on else "wb", buffering=0)
        with file:
            said = time.monotonic()
            while block := response.read(_BLOCK_BYTES):
                size += len(block)
                if max(size, total or 0) > max_bytes:
                    raise DataError(f"{address} has more than the {max_bytes:,} bytes it must have.")
                with saving(str(part)):
                    file.write(block)
                if time.monotonic() - said >= _SAY_EVERY_S:
                    said = time.monotonic()
                    say(f"{size / 1e6:.1f} MB" + (f" of {total / 1e6:.1f} MB" if total else ""))
        if total is not None and size < total:
            raise ConnectionError(f"the connection broke after {size:,} of {total:,} bytes")

"""Every file of a run damaged in sixteen ways, as by an accident and as by a stranger who hashes it again."""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from pathlib import Path
from random import Random

from tests.torture import child
from tests.torture.ground import QUESTIONS, Attempt, Ground

AT_ONCE = 25


def somewhere(content: bytes, random: Random) -> int:
    return random.randrange(max(1, len(content)))


def put(piece: bytes, content: bytes, random: Random) -> bytes:
    at = somewhere(content, random)
    return content[:at] + piece + content[at + len(piece) :]


def flip(content: bytes, random: Random) -> bytes:
    at = somewhere(content, random)
    return content[:at] + bytes([content[at] ^ (1 << random.randrange(8))]) + content[at + 1 :]


def number(content: bytes, random: Random) -> bytes:
    """Another number in the place of one that is written in digits."""
    places = [at for at, byte in enumerate(content[:200_000]) if 48 <= byte <= 57]
    if not places:
        return put(b"9", content, random)
    at = random.choice(places)
    new = random.choice([b"-1", b"0", b"NaN", b"1e999", b"9" * 30, b"Infinity", b"null", b"0.5", b'"x"'])
    return content[:at] + new + content[at + 1 :]


def word(content: bytes, random: Random) -> bytes:
    """A letter of some word changed, as of a key or a name."""
    places = [at for at, byte in enumerate(content[:200_000]) if 97 <= byte <= 122]
    at = random.choice(places) if places else 0
    return content[:at] + b"x" + content[at + 1 :]


def bad_float(content: bytes, random: Random) -> bytes:
    """A weight that is no number, where the file holds numbers of four bytes."""
    at = max(0, len(content) - 4 * random.randint(1, 50))
    return content[:at] + random.choice([b"\0\0\xc0\x7f", b"\0\0\x80\x7f"]) + content[at + 4 :]


BYTES: dict[str, Callable[[bytes, Random], bytes]] = {
    "a bit flipped": flip,
    "64 zeros": partial(put, bytes(64)),
    "64 ones": partial(put, b"\xff" * 64),
    "cut": lambda content, random: content[: somewhere(content, random)],
    "emptied": lambda content, random: b"",
    "longer": lambda content, random: content + random.randbytes(random.randint(1, 99)),
    "a piece gone": lambda content, random: content[: (at := somewhere(content, random))] + content[at + 7 :],
    "a piece twice": lambda content, random: (
        content[: (at := somewhere(content, random))] + content[max(0, at - 9) :]
    ),
    "noise": lambda content, random: random.randbytes(len(content)),
    "another number": number,
    "another word": word,
    "a bad float": bad_float,
    "nested": lambda content, random: b"[" * 100_000,
}
PLACES: dict[str, Callable[[Path], None]] = {
    "a pipe": lambda path: os.mkfifo(path),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "nothing": lambda path: None,
}


def damage(path: Path, kind: str, random: Random) -> None:
    """Damage one file."""
    if kind in PLACES:
        path.unlink()
        PLACES[kind](path)
    else:
        path.write_bytes(BYTES[kind](path.read_bytes(), random))


def sign_again(run: Path) -> None:
    """The manifest as whoever altered the files would write it."""
    from widemax.storage import MANIFEST, sha256, signed

    path = run / MANIFEST
    manifest = json.loads(path.read_bytes())
    for name, entry in manifest["files"].items():
        if (run / name).is_file():
            entry |= {"sha256": sha256(run / name), "bytes": (run / name).stat().st_size}
    path.write_text(json.dumps(signed(manifest)), encoding="utf-8")


def answer(run: Path, path: Path, right: str, *, again: bool) -> str | None:
    """What is wrong with the answers of a damaged run: it refuses, or answers as before."""
    from widemax.artifact import Model
    from widemax.errors import CorruptError

    try:
        rows = Model.load(run).predict(QUESTIONS)
    except CorruptError as error:
        return (
            None if path.name in str(error) or path.parent.name in str(error) else f"names no file: {error}"
        )
    shown = repr(rows)
    if shown == right:
        return None
    if not again:
        return "other answers without a word"
    for row in rows:
        chances = [prediction.probability for prediction in row]
        if not chances or not all(math.isfinite(p) and 0 <= p <= 1 for p in chances):
            return f"probabilities {chances}"
    return None


def attempts(ground: Ground) -> Iterator[Attempt]:
    """Every file, in every way, with the hashes of before and new ones."""
    from widemax.artifact import Model

    ground.fresh(run="new")
    right = child.value(ground.folder, lambda: repr(Model.load(ground.folder / "run").predict(QUESTIONS)))
    files = sorted(
        path.relative_to(ground.home / "new/run")
        for path in (ground.home / "new/run").rglob("*")
        if path.is_file()
    )
    cases = cycle(
        [(file, kind, again) for file in files for kind in (*BYTES, *PLACES) for again in (False, True)]
    )
    while True:
        ground.fresh()
        named, tries = [], []
        for number in range(AT_ONCE):
            file, kind, again = next(cases)
            run = ground.folder / str(number)
            shutil.copytree(ground.home / "new/run", run)
            damage(run / file, kind, ground.random)
            if again and file.name != "manifest.json":
                sign_again(run)
            named.append(f"{number}/{file}: {kind}{', signed again' if again else ''}")
            tries.append(partial(answer, run, run / file, right, again=again))
        for what, wrong in zip(named, child.each(ground.folder, tries), strict=True):
            yield Attempt(what, wrong)

"""Places that may not be read or written, and outputs that are full or closed: a sentence and exit code 4."""

import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from itertools import cycle

from tests.torture.ground import TRAIN, Attempt, Ground

CAPABILITIES_VERSION_3 = 0x20080522
CLOSED = [  # a verb, and what it may not read or write
    (("train", "a.csv", *TRAIN, "--overwrite"), "a.csv", 0),
    (("train", "a.csv", *TRAIN[:2], "--out", "closed/new"), "closed", 0o500),
    (("train", "a.csv", *TRAIN[:2], "--out", "closed"), "closed", 0o500),
    (("train", "a.csv", *TRAIN, "--overwrite"), "run", 0o500),
    (("resume", "run"), "run", 0),
    (("check", "a.csv", "--target", "label"), "a.csv", 0),
    (("init", "a.csv", "--target", "label", "-o", "closed/a.toml"), "closed", 0o500),
    (("evaluate", "run", "a.csv"), "a.csv", 0),
    (("evaluate", "run", "a.csv", "--report", "closed/page.html"), "closed", 0o500),
    (("predict", "run", "q.jsonl"), "q.jsonl", 0),
    (("export", "run", "--out", "closed/new"), "closed", 0o500),
    (("export", "run", "--out", "closed"), "closed", 0o300),
    (("audit", "run", "--draws", "2", "--plot", "closed/plot.svg"), "closed", 0o500),
    (("recipe", "run", "overflow", "--quick", "--out", "closed/new"), "closed", 0o500),
    *((("predict", "run", "q.jsonl"), f"run{name}", 0) for name in ("", "/weights", "/manifest.json")),
    *((("verify", "run"), f"run/{name}", 0) for name in ("config.toml", "labels.parquet")),
    (("verify", "run"), "run/weights/encoder.safetensors", 0),
]
PRINTING = [
    ("--help",),
    ("train", "a.csv", *TRAIN, "--overwrite"),
    ("resume", "run"),
    ("check", "a.csv", "--target", "label"),
    ("plan", "--classes", "100", "--dim", "8"),
    ("init", "a.csv", "--target", "label", "-o", "a.toml"),
    ("evaluate", "run", "a.csv"),
    *(("predict", "run", "q.jsonl", "--format", form) for form in ("jsonl", "csv", "tsv", "table")),
    ("predict", "run", "q.jsonl", "--json"),
    ("export", "run", "--out", "run2"),
    ("audit", "run", "--draws", "2"),
    ("verify", "run"),
    ("doctor",),
    ("data", "list"),
    ("recipe", "list"),
    ("recipe", "run", "overflow", "--quick", "--out", "run2"),
]


def attempts(ground: Ground) -> Iterator[Attempt]:
    """Each of them in turn."""
    tries: list[Callable[[], Attempt]] = [
        *(lambda case=case: closed(ground, *case) for case in CLOSED),
        *(lambda verb=verb, fd=fd: full(ground, verb, fd) for verb in PRINTING for fd in (1, 2)),
        *(lambda verb=verb, fd=fd: cut(ground, verb, fd) for verb in PRINTING for fd in (1, 2)),
    ]
    for one in cycle(tries):
        yield one()


def without_privileges() -> None:
    """What may be done follows from the modes of files alone, for root too."""
    header, none = (ctypes.c_uint32 * 2)(CAPABILITIES_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(header, none) == 0


def closed(ground: Ground, verb: tuple[str, ...], place: str, mode: int) -> Attempt:
    """A verb that may not read or write a place, which is as it was afterwards."""
    folder = ground.fresh(run="new")
    (folder / "closed").mkdir()
    (folder / place).chmod(mode)
    ended = ground.run(*verb, before=without_privileges)
    (folder / place).chmod(0o700)
    wrong = ended.wrong(4, 5)
    if not wrong and ("error: " not in ended.err or place not in ended.err):
        wrong = f"no sentence that names {place}: {ended.err}"
    (folder / "closed").rmdir()
    return Attempt(
        f"{' '.join(verb[:2])} with {place} of mode {mode:o}",
        wrong or ground.answering("new") or ground.leftovers(),
    )


def full(ground: Ground, verb: tuple[str, ...], fd: int) -> Attempt:
    """A verb whose output or messages have no room; a verb without messages does not notice."""
    ground.fresh(run="new")
    ended = ground.run(*verb, before=lambda: os.dup2(os.open("/dev/full", os.O_WRONLY), fd) and None)
    wrong = ended.wrong(4) if fd == 1 else f"exit code {ended.code}" if ended.code not in (0, 4) else None
    if not wrong and fd == 1 and "cannot write the output: No space left on device" not in ended.err:
        wrong = f"another sentence: {ended.err}"
    return Attempt(f"{' '.join(verb)} with a full {'output' if fd == 1 else 'place for messages'}", wrong)


def cut(ground: Ground, verb: tuple[str, ...], fd: int) -> Attempt:
    """A verb whose output or messages nobody reads."""
    ground.fresh(run="new")

    def close() -> None:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, fd)

    ended = ground.run(*verb, before=close)
    wrong = ended.wrong(0) if fd == 1 else f"exit code {ended.code}" if ended.code not in (0, 4) else None
    if not wrong and "error" in ended.err:
        wrong = f"it complains: {ended.err}"
    return Attempt(f"{' '.join(verb)} with a closed {'output' if fd == 1 else 'place for messages'}", wrong)

"""Odd bytes in every format of data, in configs and in settings: rows, or an error of ours."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from random import Random

from tests.data.formats.test_fuzz_readers import (
    DELIMITERS,
    ENCODINGS,
    KINDS,
    PIECES,
    STARTS,
    TARGETS,
    edited,
    read_whole,
)
from tests.torture import child
from tests.torture.ground import Attempt, Ground

AT_ONCE = 100
MORE_PIECES = [*PIECES, b"\x1b", b"=1+1", b"#"]
SETTINGS = [
    "train.epochs",
    "encoder.dim",
    "head.kind",
    "data.missing",
    "train",
    "head.loss.kind",
    "",
    "a.b.c",
]
VALUES = [
    "1",
    "-1",
    "nan",
    "1e999",
    "[]",
    "{}",
    "true",
    '"x"',
    "9" * 40,
    "[" * 2000,
    "\x1b[31m",
    "=",
    "é",
    "",
]


def odd(content: bytes, random: Random) -> bytes:
    """The content after up to five edits."""
    edits = [
        (
            random.random(),
            random.choice(KINDS),
            random.choice([*MORE_PIECES, random.randbytes(random.randint(1, 9))]),
        )
        for _ in range(random.randint(0, 5))
    ]
    return edited(content, edits)


def read(path: str, encoding: str | None, delimiter: str | None, target: str | None) -> None:
    """The whole file."""
    from pathlib import Path

    from widemax.data import Reading

    read_whole(Path(path), target, Reading(encoding=encoding, delimiter=delimiter))


def configure(path: str, settings: list[str]) -> None:
    """A config with its settings."""
    from contextlib import suppress
    from pathlib import Path

    from widemax.config import Config, assign, read_toml
    from widemax.errors import WidemaxError

    with suppress(WidemaxError):
        Config.from_dict(assign(read_toml(Path(path)), settings))


def attempts(ground: Ground) -> Iterator[Attempt]:
    """A hundred odd files of one kind after the other."""
    starts: dict[str, Callable[[], bytes]] = STARTS | {
        "a.toml": (ground.home / "new/run/config.toml").read_bytes
    }
    for name in cycle(starts):
        ground.fresh()
        named, tries = [], []
        for number in range(AT_ONCE):
            folder = ground.folder / str(number)
            folder.mkdir()
            path = folder / name
            path.write_bytes(odd(starts[name](), ground.random))
            if name == "a.toml":
                pairs = [
                    f"{ground.random.choice(SETTINGS)}={ground.random.choice(VALUES)}"
                    for _ in range(ground.random.randint(0, 2))
                ]
                named.append(f"{number}/{name} --set {pairs}")
                tries.append(partial(configure, str(path), pairs))
            else:
                options = (
                    ground.random.choice(ENCODINGS),
                    ground.random.choice(DELIMITERS),
                    ground.random.choice(TARGETS),
                )
                named.append(
                    f"{number}/{name} encoding {options[0]}, delimiter {options[1]}, target {options[2]}"
                )
                tries.append(partial(read, str(path), *options))
        for what, wrong in zip(named, child.each(ground.folder, tries), strict=True):
            yield Attempt(what, wrong)

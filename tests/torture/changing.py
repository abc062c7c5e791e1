"""Files that grow, shrink or are replaced while they are read."""

import time
from collections.abc import Iterator
from pathlib import Path

from tests.torture.ground import TRAIN, Attempt, Ground


def attempts(ground: Ground) -> Iterator[Attempt]:
    """Change the data of a training, or the files of a run that answers."""
    while True:
        ground.fresh(run="new")
        path = ground.folder / "a.csv"
        path.write_bytes(path.read_bytes() * 40)
        read = ("train", "a.csv", *[word if word != "run" else "run2" for word in TRAIN])
        yield changed(ground, read, path)
        for read in (("predict", "run", "a.csv"), ("evaluate", "run", "a.csv")):
            ground.fresh(run="new")
            files = [
                ground.folder / "a.csv",
                *sorted(path for path in (ground.folder / "run").rglob("*") if path.is_file()),
            ]
            yield changed(ground, read, ground.random.choice(files))


def changed(ground: Ground, read: tuple[str, ...], path: Path) -> Attempt:
    """Start a verb and change a file it reads."""
    whole = path.read_bytes()
    kind = ground.random.choice(["grow", "shrink", "empty", "replace", "remove", "flip"])
    delay_s = ground.random.uniform(0, 0.4)
    child = ground.start(*read)
    time.sleep(delay_s)
    match kind:
        case "grow":
            with path.open("ab") as file:
                file.write(whole[: ground.random.randint(1, len(whole))])
        case "shrink" | "empty":
            with path.open("r+b") as file:
                file.truncate(0 if kind == "empty" else ground.random.randrange(len(whole)))
        case "replace":
            path.write_bytes(whole[::-1])
        case "remove":
            path.unlink()
        case "flip":
            at = ground.random.randrange(len(whole))
            with path.open("r+b") as file:
                file.seek(at)
                file.write(bytes([whole[at] ^ 255]))
    ended = child.wait()
    what = f"{read[0]}: {path.name} {kind} after {delay_s:.2f} s"
    ground.log.append(f"{what} -> {ended.code}\n{ended.err}")
    return Attempt(what, ended.wrong())

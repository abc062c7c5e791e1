"""The power goes at any file operation or moment; what was finished stands, and the rest can be finished."""

import signal
import time
from collections.abc import Iterator

from tests.torture.ground import TRAIN, Attempt, Ground
from tests.torture.shim import FAULTS, armed, counting, seen


def attempts(ground: Ground) -> Iterator[Attempt]:
    """Kill one verb after the other."""
    operations: dict[str, int] = {}
    while True:
        for scenario in (training, overwriting, resuming, evaluating, exporting):
            yield scenario(ground, operations)


def killed(ground: Ground, operations: dict[str, int], name: str, *arguments: object) -> str:
    """Run a verb and kill it ahead of a file operation, or at some moment; says which."""
    if name not in operations or ground.random.random() < 0.3:
        delay_s = ground.random.uniform(0, 1.2)
        child = ground.start(*arguments, before=counting(ground.folder))
        time.sleep(delay_s)
        child.signal(signal.SIGKILL)
        ended = child.wait()
        ground.log.append(f"killed after {delay_s:.3f} s: {ended.code}")
        if ended.code == 0 and seen():  # a run that had ended is resumed by none
            operations[name] = seen()
        return f"{name} killed after {delay_s:.2f} s"
    number = ground.random.randint(1, operations[name])
    ended = ground.run(*arguments, before=armed(ground.folder, FAULTS["kill"], number))
    ground.log.append(f"killed ahead of file operation {number}: {ended.code}")
    return f"{name} killed ahead of operation {number} of {operations[name]}"


def training(ground: Ground, operations: dict[str, int]) -> Attempt:
    """A first training."""
    ground.fresh()
    what = killed(ground, operations, "train", "train", "a.csv", *TRAIN)
    return Attempt(what, ground.finish())


def resuming(ground: Ground, operations: dict[str, int]) -> Attempt:
    """A training that is killed, and then its resumption."""
    ground.fresh()
    what = killed(ground, operations, "train", "train", "a.csv", *TRAIN)
    then = killed(ground, operations, "resume", "resume", "run")
    return Attempt(f"{what}, {then}", ground.finish())


def overwriting(ground: Ground, operations: dict[str, int]) -> Attempt:
    """A training in the place of a run that answers until it ends."""
    ground.fresh(run="old")
    what = killed(ground, operations, "overwrite", "train", "a.csv", *TRAIN, "--overwrite")
    if wrong := ground.answering("old", "new"):
        return Attempt(what, f"after it {wrong}")
    ended = ground.run("train", "a.csv", *TRAIN, "--overwrite")
    return Attempt(what, ended.wrong(0) or ground.answering("new") or ground.leftovers())


def evaluating(ground: Ground, operations: dict[str, int]) -> Attempt:
    """A page of an evaluation, which is written beside the model."""
    ground.fresh(run="new")
    what = killed(ground, operations, "evaluate", "evaluate", "run", "a.csv")
    return Attempt(what, ground.answering("new") or ground.run("evaluate", "run", "a.csv").wrong(0))


def exporting(ground: Ground, operations: dict[str, int]) -> Attempt:
    """A run exported: absent or whole."""
    ground.fresh(run="new")
    arguments = ("export", "run", "--format", "widemax", "--out", "run2")
    what = killed(ground, operations, "export", *arguments)
    ended = ground.run(*arguments)
    if ended.code == 2:  # it had come to its end
        ended = ground.run("verify", "run2")
    return Attempt(what, ended.wrong(0) or ground.answering("new"))

"""Signals at any moment, also twice: the training stops, and resumes to the same end."""

import signal
import time
from collections.abc import Iterator

from tests.torture.ground import TRAIN, Attempt, Ground

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def attempts(ground: Ground) -> Iterator[Attempt]:
    """Interrupt trainings, first ones and those in the place of a run."""
    while True:
        for number in SIGNALS:
            for times in (1, 2):
                yield interrupted(ground, number, times, over=ground.random.random() < 0.5)


def interrupted(ground: Ground, number: signal.Signals, times: int, *, over: bool) -> Attempt:
    """One training with its signals."""
    ground.fresh(run="old" if over else None)
    child = ground.start("train", "a.csv", *TRAIN, *["--overwrite"] * over)
    delays_s = [ground.random.uniform(0, 0.8), ground.random.uniform(0, 0.1)][:times]
    for delay_s in delays_s:
        time.sleep(delay_s)
        child.signal(number)
    ended = child.wait()
    what = f"{'overwrite' if over else 'train'}: {number.name} after {[round(s, 3) for s in delays_s]} s"
    ground.log.append(f"{what} -> {ended.code}\n{ended.err}")
    wrong = ended.wrong(0, 130, -number)
    if over:
        wrong = wrong or ground.answering("old", "new")
        wrong = wrong or ground.run("train", "a.csv", *TRAIN, "--overwrite").wrong(0)
        wrong = wrong or ground.answering("new") or ground.leftovers()
    return Attempt(what, wrong or ground.finish())

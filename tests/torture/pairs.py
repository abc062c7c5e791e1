"""Two verbs at once on one run: each ends as it should or says who is in its way, and a whole run stands."""

import time
from collections.abc import Iterator
from itertools import cycle, product

from tests.torture.ground import TRAIN, Attempt, Ground

VERBS = {
    "overwrite": ("train", "a.csv", *TRAIN, "--overwrite"),
    "resume": ("resume", "run"),
    "predict": ("predict", "run", "q.jsonl"),
    "evaluate": ("evaluate", "run", "a.csv"),
    "verify": ("verify", "run"),
    "export": ("export", "run", "--out", "run2", "--overwrite"),
}


def attempts(ground: Ground) -> Iterator[Attempt]:
    """Every pair in turn, a random time apart."""
    for one, other in cycle(product(VERBS, VERBS)):
        ground.fresh(run="old")
        first = ground.start(*VERBS[one])
        delay_s = ground.random.choice([0, ground.random.uniform(0, 0.6)])
        time.sleep(delay_s)
        second = ground.start(*VERBS[other])
        ends = {f"first {one}": first.wait(), f"second {other}": second.wait()}
        what = f"{one} and {other} {delay_s:.2f} s apart"
        for name, ended in ends.items():
            ground.log.append(f"{name} -> {ended.code}\n{ended.err}")
        wrong = next((f"{name}: {found}" for name, ended in ends.items() if (found := ended.wrong())), None)
        for name, ended in ends.items():
            if name.endswith("predict") and ended.code == 0 and ended.out not in ground.answers.values():
                wrong = wrong or f"{name} answers as neither run"
        wrong = wrong or ground.answering("old", "new")
        trained = [ended.code == 0 for name, ended in ends.items() if name.endswith("overwrite")]
        if trained and not any(trained):
            wrong = wrong or "no training ended"
        yield Attempt(what, wrong or (ground.leftovers() if "export" not in (one, other) else None))

"""Let the n-th write of a verb fail, or kill the verb there, for n = 1, 2, ... until it gets through.

``python -m tests.torture.every_write --verbs train --faults ENOSPC --every 7`` tries every seventh; the
campaign tries some at random.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

from tests.torture.child import Ended, load
from tests.torture.ground import TRAIN, Attempt, Ground
from tests.torture.shim import FAULTS, KILL, Fault, armed, counting, loaded_ahead, seen

from widemax.data import at_hand
from widemax.storage import MANIFEST, check_folder, current

VERBS: dict[str, tuple[str, ...]] = {
    "train": ("train", "a.csv", *TRAIN),
    "overwrite": ("train", "a.csv", *TRAIN, "--overwrite"),
    "resume": ("resume", "run"),
    "export": ("export", "run", "--out", "run2"),
    "export over": ("export", "run", "--out", "run2", "--overwrite"),
    "evaluate": ("evaluate", "run", "a.csv", "--report", "page.html"),
    "init": ("init", "a.csv", "--target", "label", "-o", "a.toml"),
    "audit": ("audit", "run", "--draws", "2", "--plot", "plot.svg"),
    "recipe": ("recipe", "run", "overflow", "--quick", "--out", "run2"),
    "predict": ("predict", "run", "q.jsonl"),
    "data get": ("data", "get", "mulan_emotions"),
    "extend": ("extend", "run", "--classes", "more.csv", "--out", "run2"),
    "rank": ("rank", "run", "more.csv", "--out", "run2"),
}
SAVING = "export", "export over", "extend", "rank"
"""These save something whole as run2."""
SUBJECTS = {"i1": "green ink", "t1": "green tea", "t2": "black tea"}
EVENTS = ["user,item,time\n", *(f"{n % 40},{n * n % 37 % 20},{n}\n" for n in range(400))]
ROWS = {
    "extend": {
        "rows.csv": [
            "text,label\n",
            *(f"some {name} {n},{key}\n" for key, name in SUBJECTS.items() for n in range(20)),
        ],
        "classes.csv": ["label,name\n", *(f"{key},{name}\n" for key, name in SUBJECTS.items())],
        "more.csv": ["label,name\n", "i2,black ink\n"],
    },
    "rank": {"rows.csv": EVENTS[:240], "more.csv": [EVENTS[0], *EVENTS[240:]]},
}
LEARN = {
    "extend": ("--target", "label", "--classes", "classes.csv"),
    "rank": ("--user", "user", "--item", "item", "--time", "time"),
}
"""What verbs about other runs have them trained on, and by."""


def prepared(ground: Ground, verb: str) -> None:
    """A folder in which the verb can run."""
    cache = ground.home / "attempt" / "cache" if verb == "data get" else ground.home / "cache"
    os.environ["WIDEMAX_CACHE"] = str(cache)
    stopped = ground.stopped() if verb == "resume" else None
    home = ground.home / verb
    if verb in ROWS and not home.exists():
        home.mkdir()
        for name, lines in ROWS[verb].items():
            (home / name).write_text("".join(lines), encoding="utf-8")
        ground.folder = home
        ground.must("train", "rows.csv", *LEARN[verb], "--out", "run", "--set", "train.epochs=1")
    ground.fresh(
        run={"train": None, "resume": None, "overwrite": "old", **{v: v for v in ROWS}}.get(verb, "new")
    )
    for name in ROWS.get(verb, ()):
        shutil.copy(home / name, ground.folder)
    if stopped:
        shutil.copytree(stopped, ground.folder / "run")
    if verb == "export over":
        shutil.copytree(ground.home / "old" / "run", ground.folder / "run2")


def weights(run: Path) -> dict[str, str]:
    """The hashes of a run's weights, all its files checked."""
    return {
        name: entry["sha256"]
        for name, entry in check_folder(current(run))["files"].items()
        if name.startswith("weights/")
    }


def afterwards(ground: Ground, verb: str, ended: Ended) -> str | None:
    """What is not as promised after the fault and after the verb was run once more, if anything."""
    run = ground.folder / "run"
    if verb not in ("train", "resume") and (wrong := ground.run("verify", "run").wrong(0)):
        return f"verify: {wrong}"
    if verb in ("train", "overwrite", "resume"):
        done = verb == "overwrite" and weights(run) == weights(ground.home / "old" / "run")
        again = VERBS["overwrite" if done else "resume" if (run / "config.toml").is_file() else "train"]
        if wrong := ground.run(*again).wrong(0):
            return f"{' '.join(again[:2])} after it: {wrong}"
        if weights(run) != weights(ground.home / "new" / "run"):
            return "other weights than without the fault"
        return ground.leftovers()
    saved = verb in SAVING and (ground.folder / "run2" / MANIFEST).exists()
    if saved and (wrong := ground.run("verify", "run2").wrong(0)):
        return f"verify run2: {wrong}"
    again = (*VERBS[verb], *["--overwrite"] * (verb in ("export", "extend", "rank", "recipe")))
    if verb == "init":
        (ground.folder / "a.toml").unlink(missing_ok=True)
    if wrong := ground.run(*again).wrong(0):
        return f"once more: {wrong}"
    left = [str(path) for path in ground.folder.rglob(".*")]
    return f"left behind: {left}" if left else None


def attempts(ground: Ground) -> Iterator[Attempt]:
    """Faults of all kinds at random operations, of one verb after the other."""
    counts = {}
    for verb in verbs():
        prepared(ground, verb)
        ground.run(*VERBS[verb], before=counting(ground.folder))
        if number := seen():  # what only answers, such as predict, writes no file
            counts[verb] = number
    while True:
        for verb in counts:
            name, number = ground.random.choice([*FAULTS]), ground.random.randint(1, counts[verb])
            for _, wrong in tries(ground, verb, FAULTS[name], numbers=[number]):
                yield Attempt(f"{verb}: {name} at operation {number}", wrong)


def verbs() -> list[str]:
    """Those that can be tried here."""
    return [verb for verb in VERBS if verb != "data get" or at_hand("mulan_emotions")]


def tries(
    ground: Ground, verb: str, fault: Fault, *, numbers: Iterable[int]
) -> Iterator[tuple[int, str | None]]:
    """What is wrong when the n-th operation goes wrong, for these n, until the verb does not reach it."""
    for number in numbers:
        prepared(ground, verb)
        ended = ground.run(*VERBS[verb], before=armed(ground.folder, fault, number))
        if seen() < number:
            if ended.code:
                yield number, ended.err
            return
        if fault.way == KILL:
            wrong = None if ended.code == -signal.SIGKILL else f"not killed: {ended}"
        else:
            wrong = ended.wrong(0, 4)
            if ended.code == 4 and "error: cannot" not in ended.err:
                wrong = f"no sentence: {ended.err}"
        yield number, wrong or afterwards(ground, verb, ended)


def main() -> int:
    """Print how many were tried and what went wrong; 1 if anything did."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.every_write", description=__doc__)
    parser.add_argument("--verbs", nargs="*", choices=VERBS, default=verbs())
    parser.add_argument("--faults", nargs="*", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--last", type=int, default=10**9)
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args()
    code = loaded_ahead("tests.torture.every_write")
    if code is not None:
        return code
    load()
    bad = 0
    with tempfile.TemporaryDirectory(prefix="widemax-every-write-") as name:
        os.environ["WIDEMAX_CACHE"] = f"{name}/ground/cache"
        ground = Ground(Path(name, "ground"), random.Random(0))
        for verb, fault in product(options.verbs, options.faults):
            tried = 0
            numbers = range(options.first, options.last + 1, options.every)
            for number, wrong in tries(ground, verb, FAULTS[fault], numbers=numbers):
                tried += 1
                if wrong:
                    bad += 1
                    print(f"wrong: {verb}, {fault} at operation {number}: {wrong}", flush=True)
            print(f"{verb}, {fault}: {tried} tried", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())

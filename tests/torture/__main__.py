"""Run the campaigns, side by side on the cores, and print what came out."""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.torture import changing, checkpoints, corruption, crash, every_write, pairs, reading, signals, soak
from tests.torture.child import load
from tests.torture.ground import Campaign, Ground
from tests.torture.shim import fork as forked
from tests.torture.shim import loaded_ahead

CAMPAIGNS: dict[str, tuple[str, Campaign]] = {
    "crash": ("killed at a file operation or moment", crash.attempts),
    "faults": ("writes that fail", every_write.attempts),
    "signals": ("INT, TERM, HUP, once and twice", signals.attempts),
    "pairs": ("two verbs on one run", pairs.attempts),
    "changing": ("files that change while read", changing.attempts),
    "corruption": ("damaged runs, raw and signed again", corruption.attempts),
    "checkpoints": ("stopped trainings, damaged", checkpoints.attempts),
    "reading": ("odd bytes as data and configs", reading.attempts),
    "soak": ("20,000 calls and rows", soak.attempts),
}


def work(home: Path, names: list[str], *, seed: int, until: float, kept: Path, notes: Path) -> None:
    """Attempts of the campaigns in turn, each with the same share of the time, noted line by line."""
    ground, cache = Ground(home, random.Random(seed)), os.environ["WIDEMAX_CACHE"]
    running = {name: CAMPAIGNS[name][1](ground) for name in names}
    spent_s = dict.fromkeys(names, 0.0)
    with notes.open("a", encoding="utf-8") as file:
        while time.monotonic() < until:
            name = min(spent_s, key=spent_s.__getitem__)
            begun = time.monotonic()
            os.environ["WIDEMAX_CACHE"] = cache  # of which some attempts take one of their own
            attempt = next(running[name])
            spent_s[name] += time.monotonic() - begun
            if attempt.wrong:
                keep(ground, kept / f"{name}-{seed}-{time.monotonic_ns()}", attempt.what, attempt.wrong)
            file.write(json.dumps([name, attempt.what, attempt.wrong]) + "\n")
            file.flush()


def keep(ground: Ground, place: Path, what: str, wrong: str) -> None:
    """The folder of a wrong attempt with what was done in it."""
    part = ground.folder / what.partition("/")[0]
    shutil.copytree(
        part if part.is_dir() else ground.folder, place, symlinks=True, copy_function=copy_if_file
    )
    (place / "ATTEMPT.txt").write_text(
        "\n".join([what, f"wrong: {wrong}", "", *ground.log]), encoding="utf-8"
    )


def copy_if_file(source: str, target: str) -> None:
    """Copy what can be read; a pipe would wait for a writer."""
    if os.path.isfile(source):
        shutil.copy2(source, target)


def fork(job: Callable[[], None]) -> int:
    """Do a job in a process of its own."""
    pid = forked()
    if pid:
        return pid
    code = 1
    try:
        job()
        code = 0
    finally:
        if code:
            sys.excepthook(*sys.exc_info())
        os._exit(code)


def main() -> int:
    """Run, print the table, and fail if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--only", nargs="*", choices=CAMPAIGNS, default=list(CAMPAIGNS))
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path("build/torture"), help="where wrong cases are kept")
    options = parser.parse_args()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup lets all children ignore
    code = loaded_ahead("tests.torture")
    if code is not None:
        return code
    load()
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    until = time.monotonic() + 60 * options.minutes
    print(f"seed {options.seed}, {options.jobs} jobs, {options.minutes:g} minutes", flush=True)
    with tempfile.TemporaryDirectory(prefix="widemax-torture-") as temporary:
        os.environ["WIDEMAX_CACHE"] = f"{temporary}/cache"
        notes = Path(temporary, "notes.jsonl")
        jobs = [
            fork(
                lambda job=job: work(  # type: ignore[misc]
                    Path(temporary, str(job)),
                    options.only,
                    seed=options.seed + job,
                    until=until,
                    kept=options.out.resolve(),
                    notes=notes,
                )
            )
            for job in range(options.jobs)
        ]
        ends = [os.waitpid(pid, 0)[1] for pid in jobs]
        attempts = [json.loads(line) for line in notes.read_text(encoding="utf-8").splitlines()]
    tried, wrong = Counter(name for name, _, _ in attempts), Counter(name for name, _, bad in attempts if bad)
    print(f"\n| {'campaign':<45} | {'tried':>6} | {'right':>6} | {'wrong':>6} |\n|---|---:|---:|---:|")
    for name in options.only:
        label = f"{name}: {CAMPAIGNS[name][0]}"
        print(f"| {label:<45} | {tried[name]:>6,} | {tried[name] - wrong[name]:>6,} | {wrong[name]:>6,} |")
    total, bad = tried.total(), wrong.total()
    print(f"| {'all':<45} | {total:>6,} | {total - bad:>6,} | {bad:>6,} |")
    for name, what, why in attempts:
        if why:
            print(f"wrong: {name}: {what}: {why}")
    if bad:
        print(f"the cases are in {options.out}; run again with --seed {options.seed}")
    return int(any(ends) or bad > 0)


if __name__ == "__main__":
    sys.exit(main())

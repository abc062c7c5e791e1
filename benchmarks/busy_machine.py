"""Does training stay steady where several runs share the machine?

    python -m benchmarks.busy_machine

Trains clinc150 for three epochs through the command line: alone, then four runs one after another, then four
at once. The ratio is the time of four at once over that of four one after another; waiting threads that spin
make it 3 and more.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.measure import ROOT, is_quick, report, script

SEED = 0
EPOCHS = 3
NUM_RUNS = 4


def start(folder: str, number: int) -> subprocess.Popen[bytes]:
    """A run in a process of its own, with torch's own number of threads."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))
    }
    arguments = [
        "train",
        "clinc150",
        "--seed",
        str(SEED),
        "--set",
        f"train.epochs={1 if is_quick() else EPOCHS}",
    ]
    return subprocess.Popen(
        [sys.executable, "-m", "widemax", *arguments, "--out", f"{folder}/{number}", "--overwrite"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def measure(*, at_once: int, repeats: int) -> dict[str, float]:
    """Seconds of so many runs at once, that often in turn, and the processor time they took."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repeats):
            runs = [start(folder, number) for number in range(at_once)]
            codes = [run.wait() for run in runs]
            if any(codes):
                raise RuntimeError("a run failed; run `widemax train clinc150` to see why.")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(time.perf_counter() - started, 2), "cpu_s": round(cpu_s, 2)}


def main(argv: Sequence[str]) -> dict[str, Any]:
    """Alone, one after another, and at once."""
    rows = [
        {"runs": "alone", **measure(at_once=1, repeats=1)},
        {"runs": "one after another", **measure(at_once=1, repeats=NUM_RUNS)},
        {"runs": "at once", **measure(at_once=NUM_RUNS, repeats=1)},
    ]
    report("busy_machine", rows, seed=SEED)
    alone, in_turn, at_once = (row["seconds"] for row in rows)
    ratio = round(at_once / in_turn, 3)
    return {"benchmark": "busy_machine", "ratio": ratio, "alone_s": alone, "at_once_s": at_once}


if __name__ == "__main__":
    script(main)

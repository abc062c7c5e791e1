"""What every benchmark shares: the machine it ran on, fresh processes, peak memory, and where results go.

A benchmark is a module of this folder with ``main(argv) -> dict``. It measures, calls ``report`` (rows for
the CSV) and returns a summary with a "ratio", which ``script`` prints as one JSON line. This module imports
no torch, so that a process that only starts others stays small.
"""

import csv
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"

# As in an installed package, and in those of the peers, a process does not compile the modules it loads.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def machine() -> dict[str, Any]:
    """Columns that every result row carries: date, machine and versions."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_name(),
        "cores": psutil.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "load": round(os.getloadavg()[0], 2),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "widemax": version("widemax"),
        "native": _native_version(),
    }


def _native_version() -> str:
    """Of the compiled kernels; "" where they are left unused."""
    try:
        return "" if os.environ.get("WIDEMAX_NATIVE") == "0" else version("widemax-native")
    except PackageNotFoundError:
        return ""


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return platform.processor()
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def peak_memory_bytes() -> int:
    """The largest resident memory of this process so far.

    Linux hands a child the ``ru_maxrss`` of the process that started it; ``VmHWM`` begins anew at exec.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))


def run_fresh(module: str, *arguments: str) -> dict[str, Any]:
    """Runs ``python -m module arguments`` and returns the JSON object of its last line.

    Raises:
        RuntimeError: the process failed; the message holds the end of its error output.
    """
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} exited with {done.returncode}: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def is_quick() -> bool:
    """Whether ``--quick`` was given: fewer sizes, repetitions and minutes, and nothing recorded."""
    return "--quick" in sys.argv


def report(name: str, rows: Sequence[Mapping[str, Any]], *, seed: int) -> None:
    """Appends rows to ``benchmarks/results/<name>.csv``, each with machine, versions, date and seed.

    What only some rows measured is empty in the others. A quick run is no record: it appends nothing.
    """
    if is_quick():
        return
    path = RESULTS / f"{name}.csv"
    path.parent.mkdir(exist_ok=True)
    recorded = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            recorded = list(csv.DictReader(file))
    rows = [*recorded, *(machine() | {"seed": seed} | dict(row) for row in rows)]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    temporary = path.with_suffix(".new")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)


def script(main: Callable[[Sequence[str]], dict[str, Any]]) -> None:
    """What a benchmark does when run: its summary as one JSON line."""
    print(json.dumps(main([argument for argument in sys.argv[1:] if argument != "--quick"])))

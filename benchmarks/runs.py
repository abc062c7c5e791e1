"""Real runs of the command line, each verb in a process of its own, with its peak memory."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure import ROOT, is_quick, report

QUICK_TIME = "30s"

os.environ.setdefault("WIDEMAX_DATA", str(ROOT.parent / "shared" / "data"))


def data_folder() -> Path:
    """Where the original files of data sets lie."""
    return Path(os.environ["WIDEMAX_DATA"])


class Verb(NamedTuple):
    """What one call of widemax gave.

    Attributes:
        values: the JSON object it printed.
        seconds: wall time of the whole process.
        cpu_seconds: processor time of all its threads.
        peak_bytes: its largest resident memory.
    """

    values: dict[str, Any]
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def widemax(*arguments: str) -> Verb:
    """Run ``widemax ARGUMENTS --json``.

    Raises:
        RuntimeError: it failed; the message holds its last words.
    """
    command = [sys.executable, "-m", "widemax", *arguments, "--json"]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {err.read()[-2000:].decode()}")
        cpu_seconds = usage.ru_utime + usage.ru_stime
        return Verb(json.loads(out.read()), seconds, cpu_seconds, usage.ru_maxrss * 1024)


def train_and_evaluate(
    train: str, test: str, target: str, *options: str, seed: int, run: Path | None = None
) -> dict[str, Any]:
    """Train with default settings plus ``options``, evaluate exactly, and give one flat row of results.

    A quick run trains for half a minute.
    """
    if is_quick():
        options = (*options, "--time-limit", QUICK_TIME)
    with tempfile.TemporaryDirectory() as folder:
        run = run or Path(folder) / "run"
        trained = widemax(
            "train", train, "--target", target, "--out", str(run), "--seed", str(seed), *options
        )
        evaluated = widemax("evaluate", str(run), test)
    context = ("rows", "skipped", "num_classes", "task", "seconds", "rows_per_s", "baseline", "report")
    return {
        "head": trained.values["head"],
        "num_classes": evaluated.values["num_classes"],
        "train_s": trained.values["seconds"],
        "train_process_s": round(trained.seconds, 2),
        "train_cpu_s": round(trained.cpu_seconds, 2),
        "train_peak_mb": trained.peak_bytes // 2**20,
        "evaluate_s": evaluated.values["seconds"],
        "evaluate_peak_mb": evaluated.peak_bytes // 2**20,
        **{name: value for name, value in evaluated.values.items() if name not in context},
    }


def beside_peers(
    benchmark: str, names: Iterable[str], compare: Callable[[str], list[dict[str, Any]]], *, seed: int
) -> dict[str, Any]:
    """Record each set's rows, widemax's first; the ratio is the least of its accuracy to the best peer's."""
    summary, margins = {}, []
    for name in names:
        rows = compare(name)
        report(benchmark, rows, seed=seed)
        summary[name] = {row["model"]: round(row["accuracy"], 4) for row in rows}
        margins.append(rows[0]["accuracy"] / max(row["accuracy"] for row in rows[1:]))
    return {"benchmark": benchmark, "ratio": min(margins), **summary}


def text_and_labels(path: Path, text: str, label: str) -> tuple[list[str], list[Any]]:
    """Two columns of a Parquet file, for the peers."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=[text, label])
    return table[text].to_pylist(), table[label].to_pylist()


def rounded(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Some values, to four places, for the summary line."""
    return {
        name: round(values[name], 4) if isinstance(values[name], float) else values[name] for name in names
    }

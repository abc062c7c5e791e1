"""Do 20,000,000 classes train in four processes, each with less memory than one process would need?

    python -m benchmarks.twenty_million

Each class has one row, of four numbers, in a Parquet file that is made first. ``widemax train`` reads it,
trains for an epoch, evaluates 128 rows over all classes and saves the model. Every process may have so much
data and no more (RLIMIT_DATA), for which Arrow and the C library are asked to reserve none ahead: two thirds
of what weights and optimizer state alone take in one process. Four processes are to come to the end, and one
to fail under the same limit. It takes some 15 GB of disk in the folder for temporary files (TMPDIR).
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import is_quick, report, script
from widemax.storage import read_manifest

NUM_CLASSES, NUM_PROCESSES, DIM, BATCH = 20_000_000, 4, 64, 32_768
LIMIT_BYTES = 3_500_000_000
AT_ONCE = 250_000
NONE_RESERVED = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
CONFIG = f"""
[data]
train = "rows.parquet"
input = "x"
target = "label"
kinds = {{ x = "vector", label = "category" }}
valid_fraction = 0.0001
max_valid_rows = 128
[encoder]
kind = "vector"
dim = {DIM}
hidden = []
[head]
kind = "sampled"
sampler = "uniform"
num_sampled = 256
[train]
epochs = 1
batch_size = {BATCH}
optimizer = "rowwise_adagrad"
[distributed]
max_restarts = 0
"""


def make(path: Path, num_classes: int) -> None:
    """Classes in random order, each with waves of its number."""
    ids = np.random.default_rng(0).permutation(num_classes)
    schema = pa.schema({"x": pa.list_(pa.float32(), 4), "label": pa.int64()})
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, num_classes, AT_ONCE):
            ids_b = ids[start : start + AT_ONCE]
            waves_b4 = np.sin(ids_b[:, None] * np.array([1e-6, 1e-5, 1e-4, 1e-3])).astype(np.float32)
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(waves_b4.ravel()), 4)
            writer.write_table(pa.table({"x": vectors, "label": ids_b}, schema=schema))


def run(folder: Path, num_processes: int) -> dict[str, Any]:
    """How the command ends in so many processes, and the most memory that one of them has held."""
    out = folder / f"run-{num_processes}"
    command = [sys.executable, "-m", "widemax", "train", "c.toml", "--out", str(out)]
    started, peak_bytes = time.perf_counter(), 0
    with (folder / "said").open("w+", encoding="utf-8") as said:
        process = subprocess.Popen(
            [*command, "--workers", str(num_processes)],
            cwd=folder,
            env={**os.environ, **NONE_RESERVED},
            preexec_fn=partial(resource.setrlimit, resource.RLIMIT_DATA, (LIMIT_BYTES, LIMIT_BYTES)),
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        while process.poll() is None:
            watched = psutil.Process(process.pid)
            try:
                every = [watched, *watched.children()]
                peak_bytes = max(peak_bytes, *(each.memory_info().data for each in every))
            except psutil.Error:  # one that has just ended
                pass
            time.sleep(0.2)
        said.seek(0)
        lines = ["", *said.read().strip().splitlines()]
    last = next((line for line in lines if line.startswith("error:")), lines[-1])
    return {
        "processes": num_processes,
        "exit": process.returncode,
        "is_whole": process.returncode == 0 and bool(read_manifest(out)["complete"]),
        "seconds": round(time.perf_counter() - started, 1),
        "peak_bytes": peak_bytes,
        "last": last[:200],
    }


def main(argv: Sequence[str]) -> dict[str, Any]:
    """The largest peak of four processes over what one holds in weights and optimizer state alone."""
    num_classes = NUM_CLASSES // 100 if is_quick() else NUM_CLASSES  # which one process trains too
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder / "rows.parquet", num_classes)
        (folder / "c.toml").write_text(CONFIG, encoding="utf-8")
        four, one = (run(folder, number) for number in (NUM_PROCESSES, 1))
    whole_bytes = num_classes * (4 * (DIM + 1) + 8)
    sizes = {"num_classes": num_classes, "dim": DIM, "limit_bytes": LIMIT_BYTES, "whole_bytes": whole_bytes}
    rows = [sizes | each for each in (four, one)]
    report("twenty_million", rows, seed=0)
    assert four["is_whole"], four["last"]
    assert is_quick() or not one["is_whole"], "one process keeps the limit too"
    return {
        "benchmark": "twenty_million",
        "ratio": round(four["peak_bytes"] / whole_bytes, 4),
        "alone": one["last"],
        "rows": rows,
    }


if __name__ == "__main__":
    script(main)

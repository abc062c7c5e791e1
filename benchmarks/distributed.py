"""Do two processes with a thread each train a wide head as fast as one process with two threads?

    python -m benchmarks.distributed

Both take steps on the same rows, in turn. The ratio is that of their throughput; beside it stands that of
the CPU seconds they take, which a busy machine changes less.
"""

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import distributed

from benchmarks.measure import is_quick, report, script
from widemax.distributed import ShardedHead, World
from widemax.heads import heads
from widemax.optim import RowwiseAdagrad

SEED = 0
HEADS: dict[str, dict[str, Any]] = {"exact": {}, "sampled": {"sampler": "log_uniform", "num_sampled": 8192}}


def train(world: World, kind: str, sizes: tuple[int, int, int, int], connection: Connection) -> None:
    """Steps of a head, some at each message; answers with the seconds of each."""
    num_classes, dim, num_rows, num_steps = sizes
    torch.manual_seed(SEED)
    if world.size == 1:
        head = heads[kind](num_classes, dim, **HEADS[kind])
    else:
        head = ShardedHead(kind, num_classes, dim, world=world, **HEADS[kind])
    optimizer = RowwiseAdagrad(head.parameters(), lr=0.1, rowwise=True)
    draw = torch.Generator().manual_seed(SEED)
    share = world.share(num_rows)
    while connection.recv():
        seconds, worked = [], time.process_time()
        for _ in range(num_steps):
            hidden = torch.randn(num_rows, dim, generator=draw)[share.start : share.stop].requires_grad_()
            labels = torch.randint(num_classes, (num_rows,), generator=draw)[share.start : share.stop]
            started = time.perf_counter()
            optimizer.zero_grad()
            head(hidden, labels).backward()
            optimizer.step()
            seconds.append(time.perf_counter() - started)
        connection.send((seconds, time.process_time() - worked))


def serve(
    rank: int, size: int, store: str, kind: str, sizes: tuple[int, int, int, int], connection: Connection
) -> None:
    """One process of a world."""
    torch.set_num_threads(2 // size)
    if size > 1:
        distributed.init_process_group("gloo", f"file://{store}", timedelta(minutes=10), size, rank)
    train(World(rank, size), kind, sizes, connection)


def start(size: int, folder: str, kind: str, sizes: tuple[int, int, int, int]) -> list[Connection]:
    """The processes of a world, waiting."""
    context = multiprocessing.get_context("spawn")
    own = []
    for rank in range(size):
        here, there = context.Pipe()
        arguments = (rank, size, f"{folder}/store-{kind}-{size}", kind, sizes, there)
        context.Process(target=serve, args=arguments, daemon=True).start()
        own.append(here)
    return own


def compare(kind: str, sizes: tuple[int, int, int, int], num_rounds: int) -> dict[str, Any]:
    """Both in turn; the first turn allocates."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    worked = {1: 0.0, 2: 0.0}
    with tempfile.TemporaryDirectory() as folder:
        worlds = {size: start(size, folder, kind, sizes) for size in (1, 2)}
        for turn in range(num_rounds + 1):
            for size, processes in worlds.items():
                for process in processes:
                    process.send(True)
                found = [process.recv() for process in processes]
                if turn:
                    seconds[size] += found[0][0]
                    worked[size] += sum(cpu_s for _, cpu_s in found)
        for process in (process for processes in worlds.values() for process in processes):
            process.send(False)
    one_s, two_s = (statistics.median(seconds[size]) for size in (1, 2))
    return {
        "head": kind,
        **dict(zip(("num_classes", "dim", "batch_size"), sizes, strict=False)),
        "one_s": round(one_s, 5),
        "two_s": round(two_s, 5),
        "ratio": round(one_s / two_s, 4),
        "ratio_of_cpu_s": round(worked[1] / worked[2], 4),
    }


def main(argv: Sequence[str]) -> dict[str, Any]:
    """The throughput of two processes over that of one; the smaller one of both heads."""
    sizes = (100_000, 64, 128, 2) if is_quick() else (1_000_000, 64, 256, 4)
    rows = [compare(kind, sizes, 1 if is_quick() else 3) for kind in HEADS]
    report("distributed", rows, seed=SEED)
    ratios = {row["head"]: row["ratio"] for row in rows}
    cpu = {row["head"]: row["ratio_of_cpu_s"] for row in rows}
    return {"benchmark": "distributed", "ratio": min(ratios.values()), "ratios": ratios, "cpu_ratios": cpu}


if __name__ == "__main__":
    script(main)

"""Do two processes with a thread each train a wide head as fast as one process with two threads?

    python -m benchmarks.distributed [--classes 1000000] [--dim 64] [--rows 256] [--steps 4]

Both take the same rows, in turn, and the ratio of their throughput is printed as one line of JSON a head.
"""

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from datetime import timedelta
from multiprocessing.connection import Connection

import torch
from torch import distributed

from widemax.distributed import ShardedHead, World
from widemax.heads import heads
from widemax.optim import RowwiseAdagrad

HEADS = {"exact": {}, "sampled": {"sampler": "log_uniform", "num_sampled": 8192}}


def train(world: World, kind: str, sizes: tuple[int, int, int, int], connection: Connection) -> None:
    """Steps of a head, some at each message; answers with the seconds of each."""
    num_classes, dim, num_rows, num_steps = sizes
    torch.manual_seed(0)
    if world.size == 1:
        head = heads[kind](num_classes, dim, **HEADS[kind])
    else:
        head = ShardedHead(kind, num_classes, dim, world=world, **HEADS[kind])
    optimizer = RowwiseAdagrad(head.parameters(), lr=0.1, rowwise=True)
    draw = torch.Generator().manual_seed(0)
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


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("classes", 1_000_000), ("dim", 64), ("rows", 256), ("steps", 4), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    sizes = given.classes, given.dim, given.rows, given.steps
    with tempfile.TemporaryDirectory() as folder:
        for kind in HEADS:
            worlds = {size: start(size, folder, kind, sizes) for size in (1, 2)}
            seconds: dict[int, list[float]] = {1: [], 2: []}
            worked = {1: 0.0, 2: 0.0}
            for turn in range(given.rounds + 1):
                for size, processes in worlds.items():
                    for process in processes:
                        process.send(True)
                    found = [process.recv() for process in processes]
                    if turn:  # the first allocates
                        seconds[size] += found[0][0]
                        worked[size] += sum(cpu_s for _, cpu_s in found)
            medians = {size: statistics.median(found) for size, found in seconds.items()}
            for process in (process for processes in worlds.values() for process in processes):
                process.send(False)
            result = {
                "head": kind,
                "one_s": medians[1],
                "two_s": medians[2],
                "ratio": medians[1] / medians[2],
            }
            result["ratio_of_cpu_s"] = worked[1] / worked[2]
            print(json.dumps({**result, "classes": given.classes, "dim": given.dim, "rows": given.rows}))


if __name__ == "__main__":
    main()

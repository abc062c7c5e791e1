"""Do 20,000,000 classes train in four processes, each with less memory than one process would need?

    python -m benchmarks.twenty_million

Every process may have so much data and no more (RLIMIT_DATA). Four take steps of a sampled head on the same
rows again and again, whose loss falls; one alone fails under the same limit.
"""

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import distributed

from benchmarks.measure import is_quick, peak_memory_bytes, report, script
from widemax.distributed import ShardedHead, World
from widemax.optim import RowwiseAdagrad

NUM_CLASSES, NUM_PROCESSES, DIM, NUM_ROWS = 20_000_000, 4, 32, 256
LIMIT_BYTES = 1_400_000_000
SEED = 0


def train(rank: int, size: int, store: str, num_steps: int, connection: Connection) -> None:
    """One process; answers with its peak memory, the seconds of a step, and the first and the last loss."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_BYTES, LIMIT_BYTES))
    if size > 1:
        distributed.init_process_group("gloo", f"file://{store}", timedelta(minutes=10), size, rank)
    try:
        world = World(rank, size)
        torch.manual_seed(SEED)
        head = ShardedHead("sampled", NUM_CLASSES, DIM, world=world, sampler="log_uniform", num_sampled=4096)
        optimizer = RowwiseAdagrad(head.parameters(), lr=0.1, rowwise=True)
        draw = torch.Generator().manual_seed(SEED)
        rows = slice(world.share(NUM_ROWS).start, world.share(NUM_ROWS).stop)
        hidden = torch.randn(NUM_ROWS, DIM, generator=draw)[rows]
        labels = torch.randint(NUM_CLASSES, (NUM_ROWS,), generator=draw)[rows]
        losses = []
        started = time.perf_counter()
        for _ in range(num_steps):
            optimizer.zero_grad()
            loss = head(hidden, labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        step_s = (time.perf_counter() - started) / num_steps
        connection.send((peak_memory_bytes(), step_s, losses[0], losses[-1]))
    except RuntimeError as error:
        connection.send(str(error))


def run(size: int, num_steps: int) -> list[Any]:
    """What each of so many processes answers."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        pipes = [context.Pipe() for _ in range(size)]
        for rank, (_, there) in enumerate(pipes):
            arguments = (rank, size, f"{folder}/store", num_steps, there)
            context.Process(target=train, args=arguments, daemon=True).start()
        return [here.recv() for here, _ in pipes]


def main(argv: Sequence[str]) -> dict[str, Any]:
    """The largest peak of the processes over what one process would hold in weights and state alone."""
    (alone,) = run(1, 1)
    assert isinstance(alone, str)
    assert "allocate" in alone
    found = run(NUM_PROCESSES, 3 if is_quick() else 30)
    whole_bytes = NUM_CLASSES * (4 * (DIM + 1) + 8)
    rows = [
        {
            "process": rank,
            "num_classes": NUM_CLASSES,
            "dim": DIM,
            "limit_bytes": LIMIT_BYTES,
            "whole_bytes": whole_bytes,
            "peak_bytes": peak,
            "step_s": round(step_s, 4),
            "first_loss": round(first, 4),
            "last_loss": round(last, 4),
        }
        for rank, (peak, step_s, first, last) in enumerate(found)
    ]
    report("twenty_million", rows, seed=SEED)
    peak = max(row["peak_bytes"] for row in rows)
    return {
        "benchmark": "twenty_million",
        "ratio": round(peak / whole_bytes, 4),
        "alone": alone,
        "rows": rows,
    }


if __name__ == "__main__":
    script(main)

"""How would an exact step over very many classes scale, with the classes split over ranks?

    python -m benchmarks.scale_model

Nothing of this size is measured: step times are simulated from the speed of products, the bandwidth and
latency of the network, ranks that are slow at times, and labels that are more frequent on some ranks. What
the model gives for 1, 2 and 3 processes on this machine is held to what these measure, with constants of the
same run.

A step of R ranks, each with b rows and C / R classes of dim D: hidden vectors of all B = R·b rows are
gathered; each rank multiplies them by its classes, three times; the largest logit, the sum of exponentials
and the logit of the label are reduced, and the gradients of the hidden vectors scattered.
"""

import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.measure import is_quick, report, script

SEED = 0
DRAWS = 200
"""Steps that are drawn for the mean of the slowest of the ranks."""
CLASSES = 10**7, 10**8, 10**9, 10**10
RANKS = 8, 64, 512, 1024, 4096
ROWS, DIM, NUMBER_BYTES = 64, 256, 2
GLOO_RANKS = 1, 2, 3
GLOO_ROWS, GLOO_CLASSES, GLOO_DIM = 128, 60_000, 64
EXPONENT = 1.0
"""Of Zipf's law, by which labels fall on classes."""


@dataclass(frozen=True)
class Network:
    """What a step is simulated from.

    Attributes:
        flops_per_s: φ, of the products of one rank.
        bytes_per_s: β, that one rank sends and receives.
        latency_s: of one message.
        straggling: σ of the logarithm of what a rank's time of products is multiplied by in a step.
    """

    flops_per_s: float
    bytes_per_s: float
    latency_s: float
    straggling: float


LARGE = Network(flops_per_s=160e12, bytes_per_s=50e9, latency_s=5e-6, straggling=0.02)
"""An assumption, of no machine in particular."""


def label_share(num_classes: int, num_ranks: int) -> float:
    """The labels on the fullest rank over the mean, where every class goes to a rank at random.

    Under Zipf's law the most frequent class alone makes it fuller than the others.
    """
    first = 1 / (np.log(num_classes) + np.euler_gamma)
    return float(1 + (num_ranks - 1) * first)


def products_s(network: Network, num_classes: int, num_ranks: int, rows: int, dim: int) -> float:
    """Three products of all rows with the classes of a rank."""
    return 3 * 2 * rows * num_ranks * num_classes / num_ranks * dim / network.flops_per_s


def exchange_s(network: Network, num_ranks: int, rows: int, dim: int, num_bytes: int) -> float:
    """Rings that gather hidden vectors and scatter their gradients, and three small reductions in trees."""
    if num_ranks == 1:
        return 0.0
    others = num_ranks - 1
    vectors = 2 * others * rows * dim * num_bytes
    numbers = 3 * 2 * others * rows * 4
    messages = 2 * others + 3 * 2 * np.ceil(np.log2(num_ranks))
    return float((vectors + numbers) / network.bytes_per_s + messages * network.latency_s)


def labels_s(network: Network, num_classes: int, num_ranks: int, rows: int, dim: int) -> float:
    """Reading the rows of labels on the fullest rank, at the bandwidth of the network."""
    labels = min(rows * label_share(num_classes, num_ranks), rows * num_ranks)
    return labels * dim * 4 / network.bytes_per_s


def slowest(network: Network, num_ranks: int) -> float:
    """The mean over steps of the slowest rank's factor."""
    drawn = np.random.default_rng(SEED).normal(0.0, network.straggling, (DRAWS, num_ranks))
    return float(np.exp(drawn.max(axis=1)).mean())


def simulated(network: Network, num_classes: int, num_ranks: int) -> dict[str, Any]:
    """A step, its parts, and how much of the ranks' time is products, all in seconds."""
    sizes = num_classes, num_ranks, ROWS, DIM
    computed = products_s(network, *sizes)
    waited = computed * (slowest(network, num_ranks) - 1)
    moved = exchange_s(network, num_ranks, ROWS, DIM, NUMBER_BYTES)
    found = labels_s(network, *sizes)
    step = computed + waited + moved + found
    return {
        "kind": "simulated",
        "classes": num_classes,
        "ranks": num_ranks,
        "products_s": computed,
        "stragglers_s": waited,
        "exchange_s": moved,
        "labels_s": found,
        "step_s": step,
        "efficiency": computed / step,
        "weights_gb_a_rank": num_classes / num_ranks * DIM * NUMBER_BYTES / 1e9,
    }


def rank_main(rank: int, num_ranks: int, port: int) -> None:
    """Steps of one process of several; the first prints seconds of a step and of its parts."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=num_ranks)
    weight = torch.randn(GLOO_CLASSES // num_ranks, GLOO_DIM)
    hidden = torch.randn(GLOO_ROWS, GLOO_DIM)
    parts = [torch.empty_like(hidden) for _ in range(num_ranks)]
    numbers = torch.zeros(GLOO_ROWS * num_ranks)
    steps, products, small = [], [], []
    for _ in range(5 if is_quick() else 12):
        dist.barrier()
        started = time.perf_counter()
        dist.all_gather(parts, hidden)
        gathered = torch.cat(parts)
        moved = time.perf_counter()
        logits = gathered @ weight.T
        _ = logits @ weight
        _ = logits.T @ gathered
        computed = time.perf_counter()
        dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
        dist.all_reduce(numbers)
        dist.all_reduce(numbers)
        reduced = time.perf_counter()
        dist.all_reduce(gathered)
        steps.append(time.perf_counter() - started)
        products.append(computed - moved)
        small.append((reduced - computed) / 3)
    dist.destroy_process_group()
    if rank == 0:
        told = {"step_s": steps, "products_s": products, "message_s": small}
        print(json.dumps({name: statistics.median(values[1:]) for name, values in told.items()}))


def measured(num_ranks: int) -> dict[str, float]:
    """The step of so many processes on this machine."""
    import subprocess

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quick = ["--quick"] if is_quick() else []
    started = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "benchmarks.scale_model",
                "rank",
                str(rank),
                str(num_ranks),
                str(port),
                *quick,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(num_ranks)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in started]
    if any(process.returncode for process in started):
        raise RuntimeError(f"a rank of {num_ranks} failed")
    told: dict[str, float] = json.loads(outputs[0])
    return told


def main(argv: Sequence[str]) -> dict[str, Any]:
    """Simulates all sizes, and holds the model to what processes of this machine measure."""
    if argv[:1] == ["rank"]:
        rank, num_ranks, port = map(int, argv[1:4])
        rank_main(rank, num_ranks, port)
        sys.exit()
    rows = [simulated(LARGE, num_classes, num_ranks) for num_classes in CLASSES for num_ranks in RANKS]
    cores = len(os.sched_getaffinity(0))
    found = {num_ranks: measured(num_ranks) for num_ranks in GLOO_RANKS}
    # One rank tells φ, two tell what a message takes; three are predicted from these.
    operations = 3 * 2 * GLOO_ROWS * GLOO_CLASSES * GLOO_DIM
    flops_per_s = operations / found[1]["products_s"]
    ratios = {}
    for num_ranks, told in found.items():
        # Each rank computes as much as one did alone; more ranks than cores take turns.
        computed = operations * max(1.0, num_ranks / cores) / flops_per_s
        messages = 0 if num_ranks == 1 else 2 * (num_ranks - 1) + 3
        predicted = computed + messages * found[2]["message_s"]
        ratios[num_ranks] = predicted / told["step_s"]
        rows.append(
            {
                "kind": "measured",
                "classes": GLOO_CLASSES,
                "ranks": num_ranks,
                "products_s": told["products_s"],
                "step_s": told["step_s"],
                "predicted_step_s": predicted,
            }
        )
    report("scale_model", rows, seed=SEED)
    largest = next(row for row in rows if (row["classes"], row["ranks"]) == (10**10, 4096))
    return {
        "benchmark": "scale_model",
        "ratio": round(max(ratios.values(), key=lambda ratio: abs(np.log(ratio))), 3),
        "predicted_over_measured": {f"{ranks} ranks": round(ratio, 3) for ranks, ratio in ratios.items()},
        "simulated_step_s_1e10_classes_4096_ranks": round(largest["step_s"], 4),
        "simulated_efficiency": round(largest["efficiency"], 3),
    }


if __name__ == "__main__":
    script(main)

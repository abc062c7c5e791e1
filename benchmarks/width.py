"""What does a training step of each head cost as classes grow, from 100 to 100 million?

    python -m benchmarks.width [--quick] [HEAD ...]

The fastest of seven: loss, gradients and row-wise Adagrad for 256 rows of 64 hidden numbers, the sampled head
with 1,024 classes in bfloat16. Every head has a process of its own, and goes on to ten times as many classes
until its weights would not fit into memory or a step takes more than ``LONGEST_S``. Floors: three matrix
products with all classes, and with the sampled ones, at the speed measured in the same process.
``docs/images/width.svg`` is drawn anew where all heads are measured in full.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psutil

from benchmarks.measure import ROOT, is_quick, report, run_fresh, script

SEED = 0
ROWS, DIM, SAMPLED = 256, 64, 1024
WIDTHS = [10**power for power in range(2, 9)]
MOST_QUICK = 10**6
STEPS, LONGEST_S = 7, 3.0
HEADS = {"exact": 8, "sampled": 2, "adaptive": 8, "tree": 4, "two_level": 4}
"""Bytes that a head holds for each weight in a step: those with dense gradients twice."""

# Codes of a Huffman tree are built in one thread, a minute for so many classes.
MOST_OF_TREES = 10**6
PICTURE = ROOT / "docs" / "images" / "width.svg"


def steps(kind: str, num_classes: int) -> Callable[[], float]:
    """A function that takes a step and returns its seconds."""
    import torch

    from widemax.heads import heads
    from widemax.optim import RowwiseAdagrad

    options: dict[str, Any] = {}
    if kind == "sampled":
        # Zeros take no memory before they are trained.
        weight = torch.nn.Parameter(torch.zeros(num_classes, DIM, dtype=torch.bfloat16))
        sampled = min(SAMPLED, num_classes // 2)
        options = {"weight": weight, "num_sampled": sampled, "sampler": "log_uniform"}
    dtype = torch.bfloat16 if kind == "sampled" else torch.float32
    head = heads[kind](num_classes, DIM, **options)
    optimizer = RowwiseAdagrad(head.parameters(), lr=0.1)

    def step() -> float:
        hidden_BD = torch.randn(ROWS, DIM, dtype=dtype, requires_grad=True)
        labels_B = (torch.rand(ROWS, dtype=torch.float64) ** 3 * num_classes).long()
        started = time.perf_counter()
        optimizer.zero_grad()
        head(hidden_BD, labels_B).backward()
        optimizer.step()
        return time.perf_counter() - started

    return step


def floor_s(num_classes: int) -> float:
    """Three products of the rows with so many classes, in tiles that stay in the cache."""
    import torch

    part = min(num_classes, 8192)
    hidden_BD, weight_CD = torch.randn(ROWS, DIM), torch.randn(part, DIM)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        logits_BC = hidden_BD @ weight_CD.T
        logits_BC @ weight_CD
        logits_BC.T @ hidden_BD
        best = min(best, time.perf_counter() - started)
    return best * num_classes / part


def measure(kind: str, most: int) -> Iterator[dict[str, Any]]:
    import torch

    from widemax.kernels import keep_freed_memory

    torch.manual_seed(SEED)
    keep_freed_memory()
    for num_classes in WIDTHS:
        needed = HEADS[kind] * num_classes * DIM
        if num_classes > most or needed > 0.8 * psutil.virtual_memory().available:
            return
        step = steps(kind, num_classes)
        step()
        fastest = min(step() for _ in range(STEPS))
        floor = floor_s(min(SAMPLED, num_classes) if kind == "sampled" else num_classes)
        yield {
            "head": kind,
            "classes": num_classes,
            "step_ms": 1e3 * fastest,
            "floor_ms": 1e3 * floor if kind in ("exact", "sampled") else "",
        }
        if fastest > LONGEST_S:
            return


def draw(rows: Sequence[dict[str, Any]]) -> None:
    """The picture of the documentation."""
    from widemax.charts import Panel, compact, figure

    panel = Panel(x="classes", y="a training step (ms)", log_x=True, log_y=True)
    for kind in HEADS:
        own = [row for row in rows if row["head"] == kind]
        panel.lines({kind: ([row["classes"] for row in own], [row["step_ms"] for row in own])}, markers=True)
    bounded = [row for row in rows if row["head"] == "exact"]
    xs = [row["classes"] for row in bounded]
    panel.lines({"three products": (xs, [row["floor_ms"] for row in bounded])})
    PICTURE.write_text(figure(panel).file(f"A step up to {compact(max(WIDTHS))} classes"), encoding="utf-8")


def main(argv: Sequence[str]) -> dict[str, Any]:
    if argv[:1] == ["one"]:
        return {"rows": list(measure(argv[1], int(argv[2])))}
    rows: list[dict[str, Any]] = []
    for kind in argv or HEADS:
        most = MOST_QUICK if is_quick() else MOST_OF_TREES if kind == "tree" else WIDTHS[-1]
        own = run_fresh("benchmarks.width", "one", kind, str(most))["rows"]
        print(*own, sep="\n", file=sys.stderr)
        rows += own
    report("width", rows, seed=SEED)
    if not (is_quick() or argv):
        draw(rows)
    exact = [row for row in rows if row["head"] == "exact"]
    widest = {kind: [row for row in rows if row["head"] == kind][-1] for kind in argv or HEADS}
    return {
        "benchmark": "width",
        "ratio": exact[-1]["step_ms"] / exact[-1]["floor_ms"] if exact else None,
        "floor": 1.0,
        **{kind: f"{row['step_ms']:.3g} ms at {row['classes']:.0e}" for kind, row in widest.items()},
    }


if __name__ == "__main__":
    script(main)

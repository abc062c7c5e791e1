"""Is the planner right about peak memory?

    python -m benchmarks.planner_memory

For each size, head and loss a fresh process predicts its own peak, builds the real head with row-wise
Adagrad, takes training steps, and reads its peak resident memory. The ratio is the predicted peak over the
measured one; the summary holds the one farthest from 1.
"""

import math
import time
from collections.abc import Sequence
from itertools import product
from typing import Any

from benchmarks.measure import is_quick, peak_memory_bytes, report, run_fresh, script

SEED = 0
# Draws differ in size, so the memory of sampled steps settles only after some of them.
STEPS = {"exact": 3, "sampled": 20}
SIZES = [(10_000, 128, 256), (200_000, 128, 512), (1_000_000, 64, 1024)]  # (classes, dim, batch)
KINDS = ("exact", "sampled")
LOSSES = ("cross_entropy", "binary_cross_entropy")
PRECISIONS = ("float32", "bfloat16")


def measure_one(
    kind: str, loss: str, precision: str, num_classes: int, dim: int, batch_size: int
) -> dict[str, Any]:
    """Predicts, then trains, in this process."""
    import torch

    from widemax.classes import Classes
    from widemax.devices import CPU, autocast
    from widemax.heads import heads
    from widemax.optim import RowwiseAdagrad
    from widemax.planner import plan
    from widemax.training.prepare import narrow, widen

    torch.manual_seed(SEED)
    predicted = plan(
        num_classes=num_classes,
        dim=dim,
        batch_size=batch_size,
        num_rows=None,
        available_bytes=1 << 50,
        precision=precision,
    )
    cost = next(cost for cost in predicted.costs if cost.kind == kind)
    class_counts = torch.ones(num_classes, dtype=torch.int64)
    head = heads[kind](Classes(num_classes, class_counts), dim, loss=loss)
    narrow(head, precision)
    optimizer = RowwiseAdagrad(head.parameters())
    step_s = math.inf
    for _ in range(STEPS[kind]):
        hidden = torch.randn(batch_size, dim, requires_grad=True)
        labels = torch.randint(num_classes, (batch_size,))
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with autocast(CPU, precision):
            loss_of_rows = head(hidden, labels)
        loss_of_rows.backward()
        optimizer.step()
        step_s = min(step_s, time.perf_counter() - started)
    optimizer.zero_grad(set_to_none=True)
    optimizer.state.clear()
    widen(head)
    peak = peak_memory_bytes()
    return {
        "kind": kind,
        "loss": loss,
        "precision": precision,
        "num_classes": num_classes,
        "dim": dim,
        "batch_size": batch_size,
        "predicted_bytes": cost.peak_memory_bytes,
        "measured_bytes": peak,
        "memory_ratio": round(cost.peak_memory_bytes / peak, 4),
        "predicted_step_s": round(cost.step_s, 6),
        "measured_step_s": round(step_s, 6),
        "time_ratio": round(cost.step_s / step_s, 4),
    }


def main(argv: Sequence[str]) -> dict[str, Any]:
    """With arguments, one measurement as JSON; without, all of them in fresh processes."""
    if argv:
        kind, loss, precision, *size = argv
        return measure_one(kind, loss, precision, *map(int, size))
    sizes = SIZES[:2] if is_quick() else SIZES
    rows = [
        run_fresh("benchmarks.planner_memory", kind, loss, precision, *map(str, size))
        for size, kind, loss, precision in product(sizes, KINDS, LOSSES, PRECISIONS)
    ]
    report("planner_memory", rows, seed=SEED)
    ratios = {
        f"{row['kind']} {row['loss']} {row['precision']} {row['num_classes']:,}": row["memory_ratio"]
        for row in rows
    }
    worst = max(ratios.values(), key=lambda ratio: abs(math.log(ratio)))
    return {"benchmark": "planner_memory", "ratio": worst, "memory_ratios": ratios}


if __name__ == "__main__":
    script(main)

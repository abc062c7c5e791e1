"""How fast is the exact loss, forward and backward, and what memory does it take?

    python -m benchmarks.exact_head [--quick]

Reference: ``F.cross_entropy(F.linear(hidden, weight), labels)``, or torch's formula of a sigmoid a class, or
of a softmax with class weights and a z-loss. Peers: the same under torch.compile, and torch's chunked
``F.linear_cross_entropy``. All run in turn in one process; extra memory, beyond inputs and gradients, is
measured in a process of its own for each. The floor is three matrix products at the speed measured beside
them.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.measure import is_quick, peak_memory_bytes, report, run_fresh, script

SEED = 0
WIDE = (4096, 256, 131_072)
# What the chunked form can do within half a minute.
CHUNKED = (1024, 256, 65_536)
KINDS = (1024, 64, 100_000)
# (rows, hidden, classes), dtype, loss, repetitions
CASES = [
    (WIDE, "float32", "softmax", 5),
    (WIDE, "bfloat16", "softmax", 5),
    (CHUNKED, "float32", "softmax", 5),
    (CHUNKED, "bfloat16", "softmax", 5),
    ((1024, 64, 1_000_000), "float32", "softmax", 5),
    (KINDS, "float32", "softmax", 5),
    (KINDS, "float32", "weighted", 5),
    (KINDS, "float32", "sigmoid", 5),
    ((256, 512, 50_000), "float32", "softmax", 9),
    ((8192, 128, 10_000), "float32", "softmax", 9),
    ((128, 128, 1_000), "float32", "softmax", 201),
    ((32, 64, 10), "float32", "softmax", 1001),
]
# Of the weighted loss.
Z_LOSS = 1e-4


def inputs(size: tuple[int, int, int], dtype: str) -> tuple[Any, Any, Any]:
    import torch

    num_rows, dim, num_classes = size
    generator = torch.Generator().manual_seed(SEED)
    kind = getattr(torch, dtype)
    hidden = torch.randn(num_rows, dim, generator=generator).to(kind)
    weight = (torch.randn(num_classes, dim, generator=generator) / dim**0.5).to(kind)
    return hidden, weight, torch.randint(num_classes, (num_rows,), generator=generator)


def steps(
    size: tuple[int, int, int], dtype: str, loss_kind: str, names: Sequence[str]
) -> dict[str, Callable[[], Any]]:
    """By name, a forward and backward pass that returns loss and gradients."""
    import torch
    from torch.nn import functional as F

    from widemax.heads import ExactHead

    hidden, weight, labels = inputs(size, dtype)
    class_weight = torch.linspace(0.5, 2.0, size[2])
    loss: Any = {
        "softmax": "cross_entropy",
        "weighted": {"kind": "cross_entropy", "class_weight": class_weight, "z_loss": Z_LOSS},
        "sigmoid": "binary_cross_entropy",
    }[loss_kind]
    head = ExactHead(size[2], size[1], weight=torch.nn.Parameter(weight), bias=False, loss=loss)

    def linear_loss(hidden: Any, weight: Any) -> Any:
        logits = F.linear(hidden, weight)
        if loss_kind == "softmax":
            return F.cross_entropy(logits, labels)
        if loss_kind == "weighted":
            rows = F.cross_entropy(logits, labels, weight=class_weight, reduction="none")
            return (rows + Z_LOSS * logits.logsumexp(1).square()).mean()
        answers = torch.zeros_like(logits).scatter_(1, labels[:, None], 1.0)
        return F.binary_cross_entropy_with_logits(logits, answers, reduction="sum") / len(hidden)

    losses: dict[str, Callable[[Any, Any], Any]] = {
        "reference": linear_loss,
        "compiled": torch.compile(linear_loss),
        "chunked": lambda hidden, weight: F.linear_cross_entropy(
            hidden,
            weight,
            labels,
            options=torch.nn.LinearCrossEntropyOptions(),
        ),
        "widemax": lambda hidden, weight: head(hidden, labels),
    }

    def step(name: str) -> Any:
        leaf, matrix = hidden.detach().requires_grad_(), head.weight
        matrix.grad = None
        loss = losses[name](leaf, matrix)
        loss.backward()
        return loss.detach(), leaf.grad, matrix.grad

    return {name: (lambda name=name: step(name)) for name in names}


def error(found: Any, exact: Any) -> float:
    """Of the gradients, relative to their norm in float64; the larger of the two."""
    pairs = zip(found[1:], exact[1:], strict=True)
    return max(float((one.double() - truth).norm() / truth.norm()) for one, truth in pairs)


def floor_s(size: tuple[int, int, int], dtype: str) -> float:
    """Three products at the speed of the best product of a tile."""
    import torch

    num_rows, dim, num_classes = size
    kind = getattr(torch, dtype)
    rows, classes = min(num_rows, 512), min(num_classes, 2048)
    one, other = torch.randn(rows, dim).to(kind), torch.randn(classes, dim).to(kind)
    times = []
    for _ in range(20):
        started = time.perf_counter()
        one @ other.T
        times.append(time.perf_counter() - started)
    return 3 * min(times) * (num_rows / rows) * (num_classes / classes)


def memory(name: str, size: tuple[int, int, int], dtype: str, loss_kind: str) -> dict[str, Any]:
    """Peak memory beyond that of a process that holds inputs and gradients."""
    import torch

    step = steps(size, dtype, loss_kind, [name])[name]
    num_rows, dim, num_classes = size
    held = torch.ones((num_rows + num_classes) * dim, dtype=getattr(torch, dtype))
    del held
    before = peak_memory_bytes()
    step()
    return {"extra_mb": (peak_memory_bytes() - before) / 1e6}


def measure(
    size: tuple[int, int, int], dtype: str, loss_kind: str, repetitions: int, *, quick: bool
) -> dict[str, Any]:
    import torch

    names = ["reference", "widemax"]
    if not quick:
        names += {WIDE: ["compiled"], CHUNKED: ["chunked"]}.get(size, [])
    actions = steps(size, dtype, loss_kind, names)
    times: dict[str, list[float]] = {name: [] for name in names}
    if "chunked" in actions:
        started = time.perf_counter()
        actions.pop("chunked")()
        times["chunked"].append(time.perf_counter() - started)
    found = {name: action() for name, action in actions.items()}  # compiles, and warms up
    for _ in range(2 if quick else repetitions):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            times[name].append(time.perf_counter() - started)
    row: dict[str, Any] = {
        "rows": size[0],
        "dim": size[1],
        "classes": size[2],
        "dtype": dtype,
        "loss": loss_kind,
    }
    row |= {f"{name}_s": "" for name in ("reference", "compiled", "chunked", "widemax")}
    row |= {f"{name}_s": statistics.median(seconds) for name, seconds in times.items()}
    row["ratio"] = row["widemax_s"] / row["reference_s"]
    row["floor_ratio"] = floor_s(size, dtype) / row["reference_s"]
    if size[0] * size[2] <= 2**26:
        hidden, weight, labels = (x.double() if x.is_floating_point() else x for x in inputs(size, dtype))
        hidden.requires_grad_(), weight.requires_grad_()
        torch.nn.functional.cross_entropy(hidden @ weight.T, labels).backward()
        exact = (None, hidden.grad, weight.grad)
        row |= {"error": error(found["widemax"], exact), "reference_error": error(found["reference"], exact)}
    else:
        row |= {"error": "", "reference_error": ""}
    row["difference"] = error(found["widemax"], [None, *(x.double() for x in found["reference"][1:])])
    for name in ("reference", "widemax"):
        arguments = [name, *map(str, size), dtype, loss_kind]
        row[f"{name}_extra_mb"] = run_fresh("benchmarks.exact_head", "memory", *arguments)["extra_mb"]
    return row


def main(argv: Sequence[str]) -> dict[str, Any]:
    if argv[:1] == ["memory"]:
        return memory(argv[1], (int(argv[2]), int(argv[3]), int(argv[4])), *argv[5:])
    quick = is_quick()
    rows = []
    for case in CASES:
        row = measure(*case, quick=quick)
        print({key: round(x, 4) if isinstance(x, float) else x for key, x in row.items()}, file=sys.stderr)
        rows.append(row)
    report("exact_head", rows, seed=SEED)
    ratios = {
        f"{row['rows']}x{row['dim']}x{row['classes']} {row['dtype']} {row['loss']}": f"{row['ratio']:.3f} "
        f"(floor {row['floor_ratio']:.3f})"
        for row in rows
    }
    ratio, floor = rows[0]["ratio"], rows[0]["floor_ratio"]
    alike = {row["loss"]: row["widemax_s"] for row in rows if row["classes"] == KINDS[2]}
    over_softmax = {kind: round(seconds / alike["softmax"], 3) for kind, seconds in alike.items()}
    summary = {"benchmark": "exact_head", "ratio": ratio, "floor": floor, "ratios": ratios}
    return summary | {"seconds_over_softmax": over_softmax}


if __name__ == "__main__":
    script(main)

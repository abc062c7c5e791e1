"""What does the fused loss of Triton take on a GPU, forward and backward?

    python -m benchmarks.triton_loss [--rows 8192] [--dim 4096] [--classes 128256]

Peers on the same tensors, as far as they are installed: torch's cross-entropy of a linear layer, the same
compiled, Liger (liger-kernel) and Cut Cross-Entropy (cut-cross-entropy). Time is that of the middle one of
several runs between two events of the device, memory the most allocated beside the tensors. Loss and
gradients of each are compared with torch's, relative to their norms.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from benchmarks.measure import is_quick, report, script

RUNS = 10
SEED = 0


def forms(hidden: Any, weight: Any, labels: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each form by name, as a function that gives the mean loss."""
    import torch
    from torch.nn.functional import cross_entropy, linear

    from widemax.kernels import linear_cross_entropy

    def plain() -> Any:
        return cross_entropy(linear(hidden, weight).float(), labels)

    def ours(**options: Any) -> Callable[[], Any]:
        return lambda: linear_cross_entropy(hidden, weight, None, labels, reduction="mean", **options)

    yield "torch", plain
    yield "widemax triton", ours(impl="triton")
    yield (
        "widemax triton, all features",
        ours(impl="triton", softcap=30.0, label_smoothing=0.1, z_loss=1e-4, ignore_index=0),
    )
    yield "widemax fused", ours(impl="fused")
    yield "torch compiled", torch.compile(plain)
    with suppress(ImportError):
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        liger = LigerFusedLinearCrossEntropyLoss()
        yield "liger", lambda: liger(weight, hidden, labels)
    with suppress(ImportError):
        from cut_cross_entropy import linear_cross_entropy as cut

        yield "cut cross-entropy", lambda: cut(hidden, weight, labels)


def measured(form: Callable[[], Any], hidden: Any, weight: Any) -> dict[str, float]:
    """Milliseconds of a step, and gigabytes beside its tensors."""
    import torch

    times = []
    for _ in range(RUNS + 2):  # two to compile
        hidden.grad = weight.grad = None
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        form().backward()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    peak = torch.cuda.max_memory_allocated() - before
    return {"ms": round(statistics.median(times[2:]), 3), "peak_gb": round(peak / 1e9, 3)}


def main(argv: Sequence[str]) -> dict[str, Any]:
    """All forms on one size; nothing is measured without a GPU."""
    import torch

    parser = argparse.ArgumentParser()
    for name, size in (("rows", 8192), ("dim", 4096), ("classes", 128256)):
        parser.add_argument(f"--{name}", type=int, default=size // (8 if is_quick() else 1))
    sizes = parser.parse_args(argv)
    if not torch.cuda.is_available():
        return {"ratio": None, "left_out": "torch finds no GPU that it calls cuda"}
    torch.manual_seed(SEED)
    hidden, weight = (
        torch.randn(rows, sizes.dim, device="cuda", dtype=torch.bfloat16).mul_(scale).requires_grad_()
        for rows, scale in ((sizes.rows, 1.0), (sizes.classes, sizes.dim**-0.5))
    )
    labels = torch.randint(1, sizes.classes, (sizes.rows,), device="cuda")
    rows = []
    expected = None
    for name, form in forms(hidden, weight, labels):
        hidden.grad = weight.grad = None
        loss = form()
        loss.backward()
        found = [loss.detach().float(), hidden.grad.float(), weight.grad.float()]
        expected = expected or found
        row = {"form": name, **vars(sizes), "device": torch.cuda.get_device_name()}
        errors = (float((a - b).norm() / b.norm()) for a, b in zip(found, expected, strict=True))
        row |= dict(zip(("loss_off", "hidden_off", "weight_off"), errors, strict=True))
        rows.append(row | measured(form, hidden, weight))
    report("triton_loss", rows, seed=SEED)
    own = next(row["ms"] for row in rows if row["form"] == "widemax triton")
    best = min(row["ms"] for row in rows if not row["form"].startswith("widemax"))
    return {"ratio": round(own / best, 3), "ms": own, "best_peer_ms": best}


if __name__ == "__main__":
    script(main)

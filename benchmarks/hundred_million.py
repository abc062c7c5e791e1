"""Does a softmax over 100 million classes train, and is it evaluated exactly, on two cores?

    python -m benchmarks.hundred_million [--classes N] [--steps N]

Weights [1e8, 64] in bfloat16 with stochastic rounding, one float32 a row for Adagrad: 13.2 GB. Structure is
planted: a class's rows are noisy copies of one random vector of its own, and classes are as frequent as
1/(rank + 1). New rows are answered over all classes, 100 before and 1,000 after training. No peer holds this
in 16 GB: Adagrad of torch or TensorFlow in float32 needs 51 GB.
"""

import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.measure import peak_memory_bytes, report, script

SEED = 0
ROWS, DIM, SAMPLED = 1024, 64, 8192
TEST_ROWS = 1000
# Before training all rows are alike.
TEST_ROWS_BEFORE = 100
NOISE = 0.3
HEAD_CLASSES = 10_000


def vectors(class_ids: Any) -> Any:
    """[N, D] the vector of each class, the same whenever it is asked for: signs from a hash of its id."""
    import torch

    bits = class_ids * -7046029254386353131  # 2^64 / golden ratio
    bits = (bits ^ (bits >> 31)) * -4658895280553007687
    bits = bits ^ (bits >> 29)
    return ((bits[:, None] >> torch.arange(DIM)) & 1).float() * 2 - 1


def batch(num_rows: int, num_classes: int, generator: Any) -> tuple[Any, Any]:
    import torch

    from widemax.samplers import LogUniform

    labels = LogUniform(num_classes).draw_ids(num_rows, generator=generator)
    noise = torch.randn(num_rows, DIM, generator=generator)
    return ((vectors(labels) + NOISE * noise) / DIM**0.5).bfloat16(), labels


def answers(head: Any, hidden: Any, labels: Any, name: str) -> dict[str, float]:
    started = time.perf_counter()
    found = head.answer(hidden, labels, k=10)
    seconds = time.perf_counter() - started
    is_right = (found.label_ranks_P == 1).double()
    is_common = labels < HEAD_CLASSES
    return {
        f"{name}_nll": float(-found.label_log_probs_P.double().mean()),
        f"{name}_top1": float(is_right.mean()),
        f"{name}_top10": float((found.label_ranks_P <= 10).double().mean()),
        f"{name}_top1_common": float(is_right[is_common].mean()),
        f"{name}_answer_s": seconds,
    }


def main(argv: Sequence[str]) -> dict[str, Any]:
    import torch

    from widemax.heads import SampledHead
    from widemax.optim import RowwiseAdagrad

    def option(name: str, default: int) -> int:
        return int(argv[argv.index(name) + 1]) if name in argv else default

    num_classes, num_steps = option("--classes", 100_000_000), option("--steps", 1500)
    torch.manual_seed(SEED)
    started = time.perf_counter()
    weight = torch.empty(num_classes, DIM, dtype=torch.bfloat16)
    for part in torch.split(weight, 2**20):
        part.normal_(std=0.01)
    head = SampledHead(
        num_classes,
        DIM,
        weight=torch.nn.Parameter(weight),
        bias=False,
        num_sampled=SAMPLED,
        sampler="log_uniform",
        temperature=0.1,
    )
    optimizer = RowwiseAdagrad(head.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(SEED)
    test = batch(TEST_ROWS, num_classes, torch.Generator().manual_seed(SEED + 1))
    row: dict[str, Any] = {"classes": num_classes, "steps": num_steps}
    row["build_s"] = time.perf_counter() - started
    row |= answers(head, *(x[:TEST_ROWS_BEFORE] for x in test), "before")
    started = time.perf_counter()
    for step in range(num_steps):
        hidden, labels = batch(ROWS, num_classes, generator)
        optimizer.zero_grad()
        loss = head(hidden, labels)
        loss.backward()
        optimizer.step()
        if step % 500 == 0:
            print(f"step {step}  loss {loss.item():.3f}", file=sys.stderr)
    row["train_s"] = time.perf_counter() - started
    row |= answers(head, *test, "after")
    row["peak_gb"] = peak_memory_bytes() / 1e9
    report("hundred_million", [row], seed=SEED)
    return {"benchmark": "hundred_million", "ratio": round(row["peak_gb"] / 51.2, 3)} | {
        key: round(value, 4) for key, value in row.items()
    }


if __name__ == "__main__":
    script(main)

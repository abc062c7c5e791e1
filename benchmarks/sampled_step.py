"""What does a step of a sampled softmax take, optimizer included, and does it grow with the classes?

    python -m benchmarks.sampled_step [--quick] [--tensorflow PYTHON]

1,024 rows, 8,192 distinct log-uniform candidates, 64 hidden, Adagrad, 1e5 to 1e8 classes (1e7 in float32).
Peers: torch's formula with sparse gradients and ``torch.optim.Adagrad``; and, where an interpreter that has
TensorFlow is named, ``tf.nn.sampled_softmax_loss`` with the optimizer of ``tf.compat.v1``, both where they
fit into memory. Steps of a size are taken in turn, so that a busy moment meets all; each peer runs in a
process of its own, as its users have it, asked for one step at a time.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.measure import is_quick, report, run_fresh, script

SEED = 0
ROWS, SAMPLED, DIM = 1024, 8192, 64
STEPS, WARM_UP = 15, 3
# So long at the most do threads of the step before, of another process perhaps, still spin.
SPINNING_S = 0.05
# Adagrad of torch and TensorFlow keeps another matrix of the weights' size.
PEERS_AT_MOST = 10_000_000
FLOAT32_AT_MOST = 10_000_000
SIGMOID_AT_MOST = 1_000_000

TENSORFLOW = """
import sys, time, numpy as np, tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(2)
C, B, S, D = map(int, sys.argv[1:])
w = tf.Variable(tf.random.normal((C, D), stddev=0.1)); b = tf.Variable(tf.zeros(C))
opt = tf.compat.v1.train.AdagradOptimizer(0.1)
@tf.function
def step(h, y):
    with tf.GradientTape() as tape:
        tape.watch(h)
        loss = tf.reduce_mean(tf.nn.sampled_softmax_loss(w, b, y, h, S, C))
    gw, gb, gh = tape.gradient(loss, [w, b, h])
    opt.apply_gradients([(gw, w), (gb, b)])
    return loss
for _ in sys.stdin:
    h = tf.random.normal((B, D)); y = tf.constant((np.random.rand(B, 1) ** 3 * C).astype(np.int64))
    started = time.perf_counter(); step(h, y).numpy(); print(time.perf_counter() - started, flush=True)
"""


def batch(num_classes: int, dtype: Any) -> tuple[Any, Any]:
    import torch

    labels = (torch.rand(ROWS, dtype=torch.float64) ** 3 * num_classes).long()
    return torch.randn(ROWS, DIM).to(dtype).requires_grad_(), labels


def weights(num_classes: int, dtype: Any) -> Any:
    import torch

    weight = torch.empty(num_classes, DIM, dtype=dtype)
    for part in torch.split(weight, 2**20):
        part.normal_(std=0.1)
    return torch.nn.Parameter(weight)


def widemax_step(num_classes: int, dtype: Any, loss: str = "cross_entropy") -> Callable[[], float]:
    from widemax.heads import SampledHead
    from widemax.optim import RowwiseAdagrad

    sampler = {"kind": "log_uniform", "duplicates": "redraw"}
    weight = weights(num_classes, dtype)
    head = SampledHead(num_classes, DIM, weight=weight, num_sampled=SAMPLED, sampler=sampler, loss=loss)
    optimizer = RowwiseAdagrad(head.parameters(), lr=0.1)

    def step() -> float:
        hidden, labels = batch(num_classes, dtype)
        started = time.perf_counter()
        optimizer.zero_grad()
        head(hidden, labels).backward()
        optimizer.step()
        return time.perf_counter() - started

    return step


def torch_step(num_classes: int) -> Callable[[], float]:
    """The formula in a few lines, with an embedding's sparse gradient and torch's own Adagrad."""
    import math

    import torch
    from torch.nn import functional as F

    weight = torch.nn.Embedding.from_pretrained(
        weights(num_classes, torch.float32).data, freeze=False, sparse=True
    )
    optimizer = torch.optim.Adagrad(weight.parameters(), lr=0.1)
    log_range = math.log(num_classes + 1)

    def log_count(ids: Any) -> Any:
        probs = torch.log1p(1 / (ids.double() + 1)) / log_range
        return torch.log(-torch.expm1(SAMPLED * torch.log1p(-probs))).float()

    def step() -> float:
        hidden, labels = batch(num_classes, torch.float32)
        started = time.perf_counter()
        optimizer.zero_grad()
        points = torch.rand(2 * SAMPLED, dtype=torch.float64)
        ids = (torch.exp(points * log_range).long() - 1).clamp_(max=num_classes - 1).unique()
        ids = ids[torch.randperm(len(ids))[:SAMPLED]]
        label_logits = (hidden * weight(labels)).sum(1) - log_count(labels)
        logits = hidden @ weight(ids).T - log_count(ids)
        logits = logits.masked_fill(labels[:, None] == ids, -torch.inf)
        logits = torch.cat([label_logits[:, None], logits], 1)
        F.cross_entropy(logits, torch.zeros(ROWS, dtype=torch.int64)).backward()
        optimizer.step()
        return time.perf_counter() - started

    return step


def step_elsewhere(command: Sequence[str]) -> Callable[[], float]:
    """A step in a process that takes one for each line it reads, and prints the seconds."""
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )

    def step() -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        print(file=process.stdin, flush=True)
        return float(process.stdout.readline())

    return step


def measure(num_classes: int, tensorflow: str | None, num_steps: int) -> dict[str, Any]:
    import torch

    from widemax.kernels import keep_freed_memory

    torch.manual_seed(SEED)
    keep_freed_memory()
    steps = {"widemax_bfloat16": widemax_step(num_classes, torch.bfloat16)}
    if num_classes <= FLOAT32_AT_MOST:
        steps["widemax_float32"] = widemax_step(num_classes, torch.float32)
    if num_classes <= SIGMOID_AT_MOST:
        steps["sigmoid_bfloat16"] = widemax_step(num_classes, torch.bfloat16, "binary_cross_entropy")
    if num_classes <= PEERS_AT_MOST:
        steps["torch"] = step_elsewhere(
            [sys.executable, "-m", "benchmarks.sampled_step", "torch", str(num_classes)]
        )
        if tensorflow:
            sizes = map(str, (num_classes, ROWS, SAMPLED, DIM))
            steps["tensorflow"] = step_elsewhere([tensorflow, "-c", TENSORFLOW, *sizes])
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repetition in range(WARM_UP + num_steps):
        for name, step in steps.items():
            time.sleep(SPINNING_S)
            seconds = step()
            if repetition >= WARM_UP:
                times[name].append(seconds)
    names = ("widemax_bfloat16", "widemax_float32", "sigmoid_bfloat16", "torch", "tensorflow")
    medians = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    floor = {"floor_ms": 1e3 * floor_s()}
    return {"classes": num_classes} | {f"{name}_ms": medians.get(name, "") for name in names} | floor


def floor_s() -> float:
    """Three products in bfloat16 as fast as torch has them."""
    import torch

    hidden_BD, weight_SD = (torch.randn(n, DIM, dtype=torch.bfloat16) for n in (ROWS, SAMPLED))
    times = []
    for _ in range(STEPS):
        started = time.perf_counter()
        kept_BS = hidden_BD @ weight_SD.T
        kept_BS @ weight_SD
        kept_BS.T @ hidden_BD
        times.append(time.perf_counter() - started)
    return min(times)


def main(argv: Sequence[str]) -> dict[str, Any]:
    if argv[:1] == ["torch"]:
        take_step = torch_step(int(argv[1]))
        for _ in sys.stdin:
            print(take_step(), flush=True)
        return {}
    if argv[:1] == ["one"]:
        return measure(int(argv[1]), argv[3] or None, int(argv[2]))
    quick = is_quick()
    tensorflow = argv[argv.index("--tensorflow") + 1] if "--tensorflow" in argv else ""
    sizes = [100_000, 1_000_000] if quick else [100_000, 1_000_000, 10_000_000, 100_000_000]
    steps = "5" if quick else str(STEPS)
    rows = [run_fresh("benchmarks.sampled_step", "one", str(size), steps, tensorflow) for size in sizes]
    for row in rows:
        print(json.dumps(row), file=sys.stderr)
    report("sampled_step", rows, seed=SEED)
    peers = [min(row[name] for name in ("torch_ms", "tensorflow_ms") if row[name]) for row in rows[:2]]
    ours = [row["widemax_bfloat16_ms"] for row in rows]
    floors = [row["floor_ms"] / peer for row, peer in zip(rows, peers, strict=False)]
    return {
        "benchmark": "sampled_step",
        "ratio": round(max(one / peer for one, peer in zip(ours, peers, strict=False)), 3),
        "floor": max(floors),
        "slowest_over_fastest_size": round(max(ours) / min(ours), 3),
        "sigmoid_over_softmax": round(
            max(row["sigmoid_bfloat16_ms"] / row["widemax_bfloat16_ms"] for row in rows[:2]), 3
        ),
    }


if __name__ == "__main__":
    script(main)

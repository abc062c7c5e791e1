"""What each head would cost on this machine in memory and time, and which one to take.

Letters: C classes, D hidden, B rows of a batch, S sampled classes, P labels of a batch.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import torch

from widemax.errors import ConfigError, ResourceError
from widemax.kernels.budget import PLAIN_ELEMENTS, rows_at_once

# Memory kept free, since the prediction is right to about a fifth.
MEMORY_MARGIN = 1.2
# An epoch of the exact head that is worth waiting for: a step learns about every class.
AFFORDABLE_EPOCH_S = 60.0
# A time limit should leave room for a few epochs.
EPOCHS_WITHIN_LIMIT = 4
# However long an epoch takes, sampling that saves less than this factor is not worth its noise.
AFFORDABLE_RATIO = 2.0

# How many tensors of one kind a step holds at its peak; benchmarks/planner_memory.py checks them.
PLAIN_LOGITS_HELD = 9
# A softmax holds 2, yes-or-no questions 6.
SAMPLED_LOGITS_HELD = 4
GATHERED_ROWS_HELD = 5
TILES_BYTES = 5 * 4 * 2**20
# How often a step moves them through memory; benchmarks/planner_memory.py shows the times beside.
PLAIN_LOGITS_MOVED = 24
TILED_LOGITS_MOVED = 16
SAMPLED_LOGITS_MOVED = 16
DENSE_WEIGHTS_MOVED = 8
GATHERED_ROWS_MOVED = 16
STEP_OVERHEAD_S = 1e-3

FLOAT_BYTES = 4
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")

Kind = Literal["exact", "sampled"]


@dataclass(frozen=True)
class Calibration:
    """What this machine does a second, and what this process holds before a head is built.

    Args:
        flops_per_s: float32 operations a second of a matrix product of a head's shape.
        bytes_per_s: bytes read and written a second by a copy too large for the cache.
        base_bytes: resident memory of the process, with the interpreter, torch and what is loaded.
    """

    flops_per_s: float
    bytes_per_s: float
    base_bytes: int


@dataclass(frozen=True)
class HeadCost:
    """The predicted cost of training with one head.

    Args:
        kind: name of the head in its registry.
        peak_memory_bytes: peak resident memory of the whole process.
        step_s: seconds of one forward, backward and optimizer step of the head.
        epoch_s: seconds of one pass over the rows; None where their number is not known.
        fits: whether the peak, with its margin, stays within the memory available.
    """

    kind: Kind
    peak_memory_bytes: int
    step_s: float
    epoch_s: float | None
    fits: bool


@dataclass(frozen=True)
class Plan:
    """The cost of every head, the one to take, and one sentence that says why."""

    costs: tuple[HeadCost, ...]
    choice: Kind
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON-able values."""
        return asdict(self) | {"costs": [asdict(cost) for cost in self.costs]}

    def lines(self) -> Iterator[str]:
        """The plan as a table for people, then the choice."""
        yield f"{'head':<8}  {'memory':>9}  {'a step':>9}  {'an epoch':>9}  fits"
        for cost in self.costs:
            yield (
                f"{cost.kind:<8}  {_bytes(cost.peak_memory_bytes):>9}  {_seconds(cost.step_s):>9}  "
                f"{_seconds(cost.epoch_s):>9}  {'yes' if cost.fits else 'no'}"
            )
        yield f"{self.choice}: {self.reason}"


def calibrate(seconds: float = 0.3) -> Calibration:
    """Measures the machine for about ``seconds``, and this process with all that torch loads for training.

    Example:
        >>> calibrate(0.01).flops_per_s > 0
        True
    """
    _tiny_step()
    # Evaluated in this order: the memory is asked for once the measurements have freed theirs.
    return Calibration(
        flops_per_s=_flops_per_s(seconds / 2),
        bytes_per_s=_bytes_per_s(seconds / 2),
        base_bytes=psutil.Process().memory_info().rss,
    )


def _tiny_step() -> None:
    """The first step of a process loads some 100 MB of libraries, which belong to every head's peak."""
    layer = torch.nn.Linear(64, 64)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    loss = torch.nn.functional.cross_entropy(layer(torch.zeros(64, 64)), torch.zeros(64, dtype=torch.int64))
    torch.autograd.backward(loss)
    optimizer.step()


def _flops_per_s(seconds: float) -> float:
    hidden_BD, weight_WD = torch.randn(256, 128), torch.randn(8192, 128)
    return 2 * hidden_BD.numel() * len(weight_WD) / _fastest(lambda: hidden_BD @ weight_WD.T, seconds)


def _bytes_per_s(seconds: float) -> float:
    source, copy = torch.zeros(2**22), torch.zeros(2**22)
    return 2 * FLOAT_BYTES * source.numel() / _fastest(lambda: copy.copy_(source), seconds)


def _fastest(action: Callable[[], object], seconds: float) -> float:
    """The shortest of the runs that fit into ``seconds``, at least two: the first warms up."""
    action()
    end = time.perf_counter() + seconds
    shortest = float("inf")
    while shortest == float("inf") or time.perf_counter() < end:
        started = time.perf_counter()
        action()
        shortest = min(shortest, time.perf_counter() - started)
    return shortest


def available_memory() -> int:
    """Bytes this process may hold in all: what it holds and what is free, within its container's limit."""
    allowed = int(psutil.virtual_memory().available + psutil.Process().memory_info().rss)
    for path in CGROUP_LIMITS:
        # A missing file, or the word "max", means no limit.
        with suppress(OSError, ValueError):
            allowed = min(allowed, int(Path(path).read_text(encoding="ascii")))
    return allowed


def plan(
    *,
    num_classes: int,
    dim: int,
    batch_size: int,
    num_rows: int | None,
    num_sampled: int = 8192,
    num_labels_per_row: float = 1.0,
    calibration: Calibration | None = None,
    available_bytes: int | None = None,
    time_limit_s: float | None = None,
) -> Plan:
    """Predicts each head's peak memory and time with row-wise Adagrad, and chooses one.

    The exact head is chosen where it fits into memory and is affordable: an epoch within a minute (within a
    quarter of the time limit, if there is one), or a step within twice the sampled head's. Otherwise the
    sampled head is.

    Args:
        num_classes: C.
        dim: D, the length of a hidden vector.
        batch_size: B, rows a step.
        num_rows: rows of an epoch; None where not known.
        num_sampled: S, classes drawn a step by the sampled head.
        num_labels_per_row: mean number of right classes of a row.
        calibration: measured on this machine now unless given.
        available_bytes: memory this process may hold in all; asked of the system unless given.
        time_limit_s: seconds the whole training may take.

    Raises:
        ConfigError: a size below 1.
        ResourceError: no head fits into the memory available.

    Example:
        >>> machine = Calibration(flops_per_s=5e10, bytes_per_s=1e10, base_bytes=300_000_000)
        >>> plan(num_classes=150, dim=128, batch_size=64, num_rows=15_000, calibration=machine).choice
        'exact'
    """
    sizes = {"num_classes": num_classes, "dim": dim, "batch_size": batch_size, "num_sampled": num_sampled}
    for name, size in sizes.items():
        if size < 1:
            raise ConfigError(f"{name} must be at least 1; got {size}.")
    calibration = calibration or calibrate()
    available_bytes = available_memory() if available_bytes is None else available_bytes
    steps = None if num_rows is None else -(-num_rows // batch_size)

    def cost(kind: Kind, head_bytes: float, step_s: float) -> HeadCost:
        peak_bytes = calibration.base_bytes + round(head_bytes)
        epoch_s = None if steps is None else steps * step_s
        return HeadCost(kind, peak_bytes, step_s, epoch_s, peak_bytes * MEMORY_MARGIN <= available_bytes)

    # Expected distinct classes of uniform draws, the most that any frequencies give.
    num_drawn = round(-num_classes * math.expm1(-num_sampled / num_classes))
    num_touched = min(num_drawn + round(batch_size * num_labels_per_row), num_classes)
    exact = cost("exact", *_exact(num_classes, dim, batch_size, calibration))
    sampled = cost("sampled", *_sampled(num_classes, dim, batch_size, num_drawn, num_touched, calibration))
    choice, reason = _choose(exact, sampled, available_bytes, time_limit_s)
    return Plan((exact, sampled), choice, reason)


def parameter_bytes(num_classes: int, dim: int) -> int:
    """Bytes of a linear head's weight and bias."""
    return FLOAT_BYTES * num_classes * (dim + 1)


def optimizer_bytes(num_classes: int) -> int:
    """Bytes of row-wise Adagrad's accumulators: one a row of the weight, one an entry of the bias."""
    return FLOAT_BYTES * 2 * num_classes


def _exact(num_classes: int, dim: int, batch_size: int, calibration: Calibration) -> tuple[float, float]:
    """Bytes beyond the base, and seconds a step."""
    dense_bytes = parameter_bytes(num_classes, dim)
    logits_bytes = FLOAT_BYTES * batch_size * num_classes
    is_plain = batch_size * num_classes <= PLAIN_ELEMENTS
    rows = rows_at_once(batch_size, dim, num_classes)
    # Logits, and the gradients of weight and hidden; tiles compute the logits twice.
    products = 3 if is_plain or rows else 4
    flops = products * 2 * batch_size * num_classes * dim
    logits_moved = PLAIN_LOGITS_MOVED if is_plain else TILED_LOGITS_MOVED
    moved_bytes = logits_moved * logits_bytes + DENSE_WEIGHTS_MOVED * dense_bytes
    held_bytes = TILES_BYTES + FLOAT_BYTES * rows * num_classes
    if is_plain:
        held_bytes = PLAIN_LOGITS_HELD * logits_bytes
    # The gradient is as large as the parameters.
    head_bytes = 2 * dense_bytes + optimizer_bytes(num_classes) + held_bytes
    return head_bytes, _step_s(flops, moved_bytes, calibration)


def _sampled(
    num_classes: int, dim: int, batch_size: int, num_drawn: int, num_touched: int, calibration: Calibration
) -> tuple[float, float]:
    """Bytes beyond the base, and seconds a step."""
    logits_bytes = FLOAT_BYTES * batch_size * num_drawn
    rows_bytes = FLOAT_BYTES * num_touched * dim
    flops = 3 * 2 * batch_size * num_drawn * dim
    moved_bytes = SAMPLED_LOGITS_MOVED * logits_bytes + GATHERED_ROWS_MOVED * rows_bytes
    held_bytes = SAMPLED_LOGITS_HELD * logits_bytes + GATHERED_ROWS_HELD * rows_bytes
    # The frequency sampler keeps one float64 a class.
    sampler_bytes = 2 * FLOAT_BYTES * num_classes
    head_bytes = parameter_bytes(num_classes, dim) + optimizer_bytes(num_classes) + sampler_bytes + held_bytes
    return head_bytes, _step_s(flops, moved_bytes, calibration)


def _step_s(flops: float, moved_bytes: float, calibration: Calibration) -> float:
    return STEP_OVERHEAD_S + flops / calibration.flops_per_s + moved_bytes / calibration.bytes_per_s


def _choose(
    exact: HeadCost, sampled: HeadCost, available_bytes: int, time_limit_s: float | None
) -> tuple[Kind, str]:
    """The head to take and why.

    Raises:
        ResourceError: neither fits.
    """
    room = f"of the {_bytes(available_bytes)} available"
    smaller = min(exact, sampled, key=lambda cost: cost.peak_memory_bytes)
    if not (exact.fits or sampled.fits):
        raise ResourceError(
            f"training needs about {_bytes(smaller.peak_memory_bytes * MEMORY_MARGIN)} of memory with the "
            f"{smaller.kind} head, the smaller one, {room}. Lower the encoder's dim or batch_size, "
            "drop rare classes, or use a machine with more memory."
        )
    if not exact.fits:
        return "sampled", (
            f"the exact head would need {_bytes(exact.peak_memory_bytes)} {room}, "
            f"the sampled head needs {_bytes(sampled.peak_memory_bytes)}."
        )
    memory = f"{_bytes(exact.peak_memory_bytes)} {room}"
    if not sampled.fits:
        return "exact", f"it needs {memory}; the sampled head would need {_bytes(sampled.peak_memory_bytes)}."
    ratio = exact.step_s / sampled.step_s
    steps = f"a step on all classes takes {_seconds(exact.step_s)}, {ratio:,.1f} times the sampled head's"
    if ratio <= AFFORDABLE_RATIO:
        return "exact", f"{steps}, and it needs {memory}."
    if exact.epoch_s is None:
        return "sampled", f"{steps}."
    limit_s = AFFORDABLE_EPOCH_S if time_limit_s is None else time_limit_s / EPOCHS_WITHIN_LIMIT
    epochs = f"an epoch on all classes takes about {_seconds(exact.epoch_s)}"
    if exact.epoch_s <= limit_s:
        return "exact", f"{epochs}, within the {_seconds(limit_s)} that are affordable, and needs {memory}."
    return "sampled", (
        f"{epochs}, more than the {_seconds(limit_s)} that are affordable; "
        f"the sampled head takes {_seconds(sampled.epoch_s)}."
    )


def _bytes(count: float) -> str:
    return f"{count / 1e9:,.2f} GB"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:,.1f} s"

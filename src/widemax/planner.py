"""What each head would cost on this machine in memory and time, and which one to take.

Letters: C classes, D hidden, B rows of a batch, S sampled classes, P labels of a batch.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NoReturn

import psutil
import torch

from widemax.config import TrainConfig
from widemax.errors import ResourceError, counted
from widemax.heads import heads
from widemax.kernels.budget import PLAIN_ELEMENTS, rows_at_once
from widemax.machine import Machine, this_machine
from widemax.optim import optimizers
from widemax.options import AtLeast1, checked
from widemax.threads import threads_for

ELEMENTWISE_NUMEL = 2**22
"""Matrices up to this size get one Adagrad accumulator an entry; larger ones one a row."""

# Memory kept free, since the prediction is right to about a fifth.
MEMORY_MARGIN = 1.2
# An epoch of the exact head that is worth waiting for: a step learns about every class.
AFFORDABLE_EPOCH_S = 60.0
# A time limit should leave room for a few epochs.
EPOCHS_WITHIN_LIMIT = 4
# However long an epoch takes, sampling that saves less than this factor is not worth its noise.
AFFORDABLE_RATIO = 2.0
# Fewer draws than this make the gradient too noisy to be worth their time.
LEAST_SAMPLED = 1024

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
OPTIMIZER_STATE_MOVED = 6
GATHERED_ROWS_MOVED = 16
STEP_OVERHEAD_S = 1e-3

FLOAT_BYTES = 4
# What processes tell one another of a row of a batch: its label, largest logit, sum and loss.
ROW_BYTES = 40
CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")

Kind = Literal["exact", "sampled"]


@dataclass(frozen=True)
class HeadCost:
    """The predicted cost of training with one head.

    Args:
        kind: name of the head in its registry.
        peak_memory_bytes: peak resident memory of the whole process.
        step_s: seconds of one forward, backward and optimizer step of the head.
        epoch_s: seconds of one pass over the rows; None where their number is not known.
        fits: whether the peak, with its margin, stays within the memory of the machine.
        num_sampled: classes drawn a step; None for all of them.
        least_workers: the fewest processes, each on such a machine, that hold the classes; None where not
            even one class a process fits.
    """

    kind: Kind
    peak_memory_bytes: int
    step_s: float
    epoch_s: float | None
    fits: bool
    num_sampled: int | None = None
    least_workers: int | None = None


@dataclass(frozen=True)
class Plan:
    """The cost of every head, the one to take, and one sentence that says why.

    Args:
        costs: of each head, for one process.
        choice, reason: the head to take, and why.
        workers: how many processes hold the classes together.
        own_classes: how many classes each holds at most.
        exchanged_bytes: what each sends in a step, and receives as well, for the head.
    """

    costs: tuple[HeadCost, ...]
    choice: Kind
    reason: str
    workers: int = 1
    own_classes: int = 0
    exchanged_bytes: int = 0

    @property
    def num_sampled(self) -> int | None:
        """Classes to draw a step with the head chosen; None for all of them."""
        return next(cost.num_sampled for cost in self.costs if cost.kind == self.choice)

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON-able values."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """The plan as a table for people, then the choice."""
        yield f"{'head':<8}  {'memory':>9}  {'a step':>9}  {'an epoch':>9}  fits"
        for cost in self.costs:
            yield (
                f"{cost.kind:<8}  {_bytes(cost.peak_memory_bytes):>9}  {_seconds(cost.step_s):>9}  "
                f"{_seconds(cost.epoch_s):>9}  {'yes' if cost.fits else 'no'}"
            )
        yield f"{self.choice}: {self.reason}"
        if self.workers > 1:
            yield (
                f"each of {self.workers} processes, of which this is what one costs, holds "
                f"{self.own_classes:,} classes and sends {self.exchanged_bytes / 1e6:,.2f} MB a step"
            )
            for cost in self.costs:
                if cost.least_workers is not None:
                    yield (
                        f"the {cost.kind} head takes at least {counted(cost.least_workers, 'process')} on "
                        "machines like this one"
                    )


def memory_of_machine() -> int:
    """Bytes of memory of this machine, within its container's limit."""
    allowed = int(psutil.virtual_memory().total)
    for path in CGROUP_LIMITS:
        # A missing file, or the word "max", means no limit.
        with suppress(OSError, ValueError):
            allowed = min(allowed, int(Path(path).read_text(encoding="ascii")))
    return allowed


def available_memory() -> int:
    """Bytes this process may hold now: what it holds and what is free, within its container's limit."""
    free = int(psutil.virtual_memory().available + psutil.Process().memory_info().rss)
    return min(free, memory_of_machine())


@checked
def plan(
    *,
    num_classes: AtLeast1,
    dim: AtLeast1,
    batch_size: AtLeast1,
    num_rows: int | None,
    num_sampled: AtLeast1 | None = None,
    num_labels_per_row: float = 1.0,
    optimizer: str = "rowwise_adagrad",
    encoder_bytes: int = 0,
    encoder_operations: int = 0,
    epochs: int = TrainConfig().epochs,
    time_limit_s: float | None = None,
    workers: AtLeast1 = 1,
    precision: Literal["float32", "bfloat16"] = "float32",
    machine: Machine | None = None,
    base_bytes: int | None = None,
    available_bytes: int | None = None,
) -> Plan:
    """Predicts each head's peak memory and time, and chooses one.

    The exact head is chosen where it fits into the memory of the machine and is affordable: an epoch within a
    minute (a quarter of the time limit, if there is one), or a step within twice the sampled head's.
    Otherwise the sampled head is; under a time limit with the most draws that let four epochs fit. The
    machine is measured once (see ``widemax.machine``), so that the same sizes lead to the same choice.

    Args:
        num_classes: C.
        dim: D, the length of a hidden vector.
        batch_size: B, rows a step.
        num_rows: rows of an epoch; None where not known.
        num_sampled: S, classes drawn a step by the sampled head; chosen unless given.
        num_labels_per_row: mean number of right classes of a row.
        optimizer: name of the optimizer, whose state counts.
        encoder_bytes: what the encoder's gradients and optimizer state will take.
        encoder_operations: multiplications of a row in the encoder.
        epochs: passes over the rows that are wanted.
        time_limit_s: seconds the whole training may take.
        workers: R, processes that each hold the weights of some classes and take some rows of a batch.
        precision: of training; class weights of a wide head are held in it, and widened at the end.
        machine: speeds of this machine; those kept in the cache folder unless given.
        base_bytes: what the process holds before the head is built; asked of the system unless given.
        available_bytes: memory this process may hold in all; asked of the system unless given.

    Raises:
        OptionError: a size below 1.
        ResourceError: no head fits into the memory of the machine, or the one chosen not into what is free.

    Example:
        >>> machine = Machine(flops_per_s=5e10, bytes_per_s=1e10)
        >>> plan(num_classes=150, dim=128, batch_size=64, num_rows=15_000, machine=machine).choice
        'exact'
    """
    machine = machine or this_machine()
    base_bytes = psutil.Process().memory_info().rss if base_bytes is None else base_bytes
    memory_bytes = memory_of_machine() if available_bytes is None else available_bytes
    num_steps = None if num_rows is None else -(-num_rows // batch_size)
    is_narrow = precision == "bfloat16" and num_classes * dim > ELEMENTWISE_NUMEL
    dtype = torch.bfloat16 if is_narrow else torch.float32
    state_bytes = optimizer_bytes(optimizer, [(num_classes, dim), (num_classes,)])
    encoder_flops = 6 * -(-batch_size // workers) * encoder_operations

    def work_of(drawn: int | None, workers: int) -> Work:
        if drawn is None:
            return _exact(-(-num_classes // workers), dim, batch_size, state_bytes // workers, dtype)
        num_labels = round(batch_size * num_labels_per_row / workers)
        return _sampled(num_classes, dim, batch_size, -(-drawn // workers), num_labels)

    def peak_of(drawn: int | None, workers: int) -> int:
        weights_bytes = parameter_bytes(-(-num_classes // workers), dim, dtype)
        held_bytes = round(work_of(drawn, workers).held_bytes)
        trained_bytes = weights_bytes + state_bytes // workers + held_bytes
        if is_narrow and workers == 1:  # of several, the saved ones are read in float32
            # The many small tensors of sampled steps leave room that the wide weights do not fit into.
            left_bytes = 0 if drawn is None else held_bytes
            widened_bytes = weights_bytes + left_bytes + parameter_bytes(num_classes, dim)
            trained_bytes = max(trained_bytes, widened_bytes)
        return base_bytes + encoder_bytes + trained_bytes

    def fits(drawn: int | None, workers: int) -> bool:
        return peak_of(drawn, workers) * MEMORY_MARGIN <= memory_bytes

    def cost(kind: Kind, drawn: int | None = None) -> HeadCost:
        work = work_of(drawn, workers)
        flops = work.flops + encoder_flops
        step_s = STEP_OVERHEAD_S + flops / (machine.flops_per_s * threads_for(flops))
        step_s += work.moved_bytes / machine.bytes_per_s
        epoch_s = None if num_steps is None else num_steps * step_s
        numbers = range(1, num_classes + 1)
        least = bisect_left(numbers, True, key=lambda number: fits(drawn, number))
        return HeadCost(
            kind,
            peak_of(drawn, workers),
            step_s,
            epoch_s,
            fits(drawn, workers),
            drawn,
            numbers[least] if least < num_classes else None,
        )

    exact = cost("exact")
    drawn = num_sampled or int(heads.options("sampled").complete({})["num_sampled"])
    sampled = cost("sampled", drawn)
    while num_sampled is None and drawn > LEAST_SAMPLED and _is_hurried(sampled, time_limit_s, epochs):
        drawn //= 2
        sampled = cost("sampled", drawn)
    choice, reason = _choose(exact, sampled, memory_bytes, time_limit_s, epochs)
    chosen = exact if choice == "exact" else sampled
    if available_bytes is None and chosen.peak_memory_bytes * MEMORY_MARGIN > (free := available_memory()):
        raise ResourceError(
            f"the {choice} head needs about {_bytes(chosen.peak_memory_bytes * MEMORY_MARGIN)} of memory, "
            f"and {_bytes(free)} are free now. End other programs, lower the encoder's dim or "
            "train.batch_size, or name the other head in head.kind."
        )
    exchanged = 0
    if workers > 1:  # hidden vectors, and their gradients; a few numbers a row beside
        exchanged = (2 * FLOAT_BYTES * dim + ROW_BYTES) * batch_size
    return Plan((exact, sampled), choice, reason, workers, -(-num_classes // workers), exchanged)


def parameter_bytes(num_classes: int, dim: int, dtype: torch.dtype = torch.float32) -> int:
    """Bytes of a linear head's weight, of this type, and bias."""
    return num_classes * (dtype.itemsize * dim + FLOAT_BYTES)


def optimizer_bytes(optimizer: str, shapes: Iterable[Sequence[int]]) -> int:
    """Bytes that an optimizer remembers of parameters of these shapes, as it says itself."""
    parameters = [torch.nn.Parameter(torch.empty(tuple(shape), device="meta")) for shape in shapes]
    options: dict[str, Any] = {"lr": 1.0}
    member = optimizers[optimizer](parameters, **options)
    group = member.param_groups[0]
    states = [
        member.new_state(parameter, {**group, "rowwise": parameter.numel() > ELEMENTWISE_NUMEL})
        for parameter in parameters
    ]
    values = chain.from_iterable(state.values() for state in states)
    return sum(value.nbytes for value in values if isinstance(value, torch.Tensor))


@dataclass(frozen=True)
class Work:
    """What a step of a head holds at its peak beside parameters and optimizer state, computes and moves."""

    held_bytes: float
    flops: float
    moved_bytes: float


def _exact(num_classes: int, dim: int, batch_size: int, state_bytes: int, dtype: torch.dtype) -> Work:
    dense_bytes = parameter_bytes(num_classes, dim, dtype)
    logits_bytes = FLOAT_BYTES * batch_size * num_classes
    is_plain = batch_size * num_classes <= PLAIN_ELEMENTS
    rows = rows_at_once(batch_size, dim, num_classes)
    # Logits, and the gradients of weight and hidden; tiles compute the logits twice.
    products = 3 if is_plain or rows else 4
    held_bytes = TILES_BYTES + dtype.itemsize * rows * num_classes
    if is_plain:
        held_bytes = PLAIN_LOGITS_HELD * logits_bytes
    # The gradient is as large as the parameters, and a short one rounded from one in float32.
    gradient_bytes = parameter_bytes(num_classes, dim)
    if dtype == torch.bfloat16:
        held_bytes = max(held_bytes, dense_bytes)
    return Work(
        held_bytes=gradient_bytes + held_bytes,
        flops=products * 2 * batch_size * num_classes * dim,
        moved_bytes=(PLAIN_LOGITS_MOVED if is_plain else TILED_LOGITS_MOVED) * logits_bytes
        + DENSE_WEIGHTS_MOVED * dense_bytes
        + OPTIMIZER_STATE_MOVED * state_bytes,
    )


def _sampled(num_classes: int, dim: int, batch_size: int, num_sampled: int, num_labels: int) -> Work:
    # Expected distinct classes of uniform draws, the most that any frequencies give.
    num_drawn = round(-num_classes * math.expm1(-num_sampled / num_classes))
    num_touched = min(num_drawn + num_labels, num_classes)
    logits_bytes = FLOAT_BYTES * batch_size * num_drawn
    rows_bytes = FLOAT_BYTES * num_touched * dim
    # The frequency sampler keeps one float64 a class.
    sampler_bytes = 2 * FLOAT_BYTES * num_classes
    return Work(
        held_bytes=sampler_bytes + SAMPLED_LOGITS_HELD * logits_bytes + GATHERED_ROWS_HELD * rows_bytes,
        flops=3 * 2 * batch_size * num_drawn * dim,
        moved_bytes=SAMPLED_LOGITS_MOVED * logits_bytes + GATHERED_ROWS_MOVED * rows_bytes,
    )


def _is_hurried(cost: HeadCost, time_limit_s: float | None, epochs: int) -> bool:
    """Whether fewer epochs fit into the time limit than should."""
    if time_limit_s is None or cost.epoch_s is None:
        return False
    return cost.epoch_s * min(epochs, EPOCHS_WITHIN_LIMIT) > time_limit_s


def _choose(
    exact: HeadCost, sampled: HeadCost, memory_bytes: int, time_limit_s: float | None, epochs: int
) -> tuple[Kind, str]:
    """The head to take and why."""
    room = f"of the {_bytes(memory_bytes)} available"
    smaller = min(exact, sampled, key=lambda cost: cost.peak_memory_bytes)
    if not (exact.fits or sampled.fits):
        raise ResourceError(
            f"training needs about {_bytes(smaller.peak_memory_bytes * MEMORY_MARGIN)} of memory with the "
            f"{smaller.kind} head, the smaller one, {room}. Lower the encoder's dim or batch_size, "
            f"drop rare classes, or use a machine with more memory{_or_several(smaller)}."
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
    if time_limit_s is not None:
        reason = f"{_fitting(exact, time_limit_s, epochs)} fit into {_seconds(time_limit_s)} on all classes"
        if not _is_hurried(exact, time_limit_s, epochs):
            return "exact", f"{reason}, and it needs {memory}."
        return "sampled", (
            f"{reason}, and {_fitting(sampled, time_limit_s, epochs)} with {sampled.num_sampled:,} draws."
        )
    reason = f"an epoch on all classes takes about {_seconds(exact.epoch_s)}"
    if exact.epoch_s <= AFFORDABLE_EPOCH_S:
        return "exact", f"{reason}, within {_seconds(AFFORDABLE_EPOCH_S)}, and needs {memory}."
    return "sampled", (
        f"{reason}, more than {_seconds(AFFORDABLE_EPOCH_S)}; the sampled head takes "
        f"{_seconds(sampled.epoch_s)}."
    )


def _or_several(cost: HeadCost) -> str:
    least = cost.least_workers
    return "" if least is None else f" or {counted(least, 'process')} on as many machines (--workers)"


def _fitting(cost: HeadCost, time_limit_s: float, epochs: int) -> str:
    """How many of the epochs fit into the time limit."""
    assert cost.epoch_s is not None
    return f"{min(time_limit_s / cost.epoch_s, epochs):.1f} of {epochs} epochs"


def _bytes(count: float) -> str:
    return f"{count / 1e9:,.2f} GB"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:,.1f} s"


def __getattr__(name: str) -> NoReturn:
    now = {
        "Calibration": "; it is widemax.machine.Machine now",
        "calibrate": "; it is widemax.machine.this_machine now",
    }
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{now.get(name, '')}")

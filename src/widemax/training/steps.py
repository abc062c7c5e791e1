"""The steps of training, whatever is trained: in order, watched, evaluated, saved and ended in time."""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from torch.optim import Optimizer

from widemax.config import TrainConfig
from widemax.distributed import ALONE, World
from widemax.errors import ConfigError, counted
from widemax.evaluation.headlines import rounded_epochs
from widemax.optim import linear_decay
from widemax.storage import write_file
from widemax.training.checkpoint import Progress
from widemax.training.clock import Clock
from widemax.training.evaluate import Metrics
from widemax.training.progress import Reporter, shown_loss

METRICS = "metrics.jsonl"
FEW_STEPS = 100
"""So few prove no convergence: patience waits for them, and the latest of their evaluations is the best."""

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Watch:
    """What the loop looks at between steps, and where it tells how it goes."""

    reporter: Reporter
    stop: Callable[[], bool]
    clock: Clock
    world: World = ALONE


class Job(ABC, Generic[Batch]):
    """What is trained, as the loop over steps sees it.

    Attributes:
        run: the folder that its progress is told in.
        config: how it is trained.
        progress: where it stands.
        num_rows, steps_per_epoch: of the training rows.
        larger_is_better: of the metric that chooses the epoch.
    """

    run: Path
    config: TrainConfig
    progress: Progress
    num_rows: int
    steps_per_epoch: int
    larger_is_better: bool = True

    def rate(self, step: float, total_steps: int) -> float:
        """What the learning rate is multiplied by."""
        return linear_decay(step, total_steps)

    @abstractmethod
    def batches(self, steps: range) -> Generator[Batch, None, None]:
        """What each of these steps takes, as a function of the seed and the number of the step alone."""

    @abstractmethod
    def step(self, batch: Batch, rate: float, *, epoch: int) -> tuple[float, int]:
        """One optimizer step: the sum of its losses and how many they are, which may be none."""

    @abstractmethod
    def evaluate(self) -> Metrics:
        """Exact metrics of the held-out rows; nothing where there are none."""

    @abstractmethod
    def save(self) -> None:
        """A checkpoint of all that the next step depends on."""

    def settle(self, *, stops: bool) -> None:
        """What has to be done before the model is looked at between steps, or saved as it stops here."""


def set_rates(optimizer: Optimizer, config: TrainConfig, rate: float) -> None:
    """Give each group of an optimizer its learning rate of a step."""
    assert isinstance(config.learning_rate, float)
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * rate * group.get("factor", 1.0)


def shuffled(num_rows: int, batch_size: int, steps: range, *, seed: int) -> Iterator[np.ndarray]:
    """The positions that each step takes: every epoch all of them, in an order of its own."""
    steps_per_epoch = -(-num_rows // batch_size)
    for epoch, in_epoch in groupby(steps, key=lambda step: step // steps_per_epoch):
        order_N = np.random.default_rng([seed, epoch]).permutation(num_rows)
        for step in in_epoch:
            yield order_N[step % steps_per_epoch * batch_size :][:batch_size]


def fit(job: Job[Batch], watch: Watch, *, epochs: int, patient: bool) -> bool:
    """Take steps until the last epoch, the time limit, patience or a signal; whether a signal stopped it.

    Args:
        patient: whether it ends where held-out rows are predicted no better any more.

    Raises:
        ConfigError: training has diverged.
    """
    config, progress, clock = job.config, job.progress, watch.clock
    total_steps = epochs * job.steps_per_epoch
    last_save = time.perf_counter()
    steps = range(progress.step - (progress.refit_from or 0), total_steps)

    def is_out_of_patience() -> bool:
        return patient and progress.bad_evaluations >= config.patience

    with closing(job.batches(steps)) as batches:
        for step, batch in zip(steps, batches, strict=True):
            if is_out_of_patience():
                return False
            started = time.perf_counter()
            rate = job.rate(max(step, clock.share * total_steps), total_steps)
            loss_sum, num_losses = job.step(batch, rate, epoch=step // job.steps_per_epoch)
            if not np.isfinite(loss_sum):
                raise ConfigError(
                    f"the loss is {loss_sum / num_losses} after {progress.step} steps: training has "
                    f"diverged. Lower train.learning_rate (now {config.learning_rate}) and train again."
                )
            progress.loss_sum += loss_sum
            progress.loss_rows += num_losses
            progress.step += 1
            step_s = time.perf_counter() - started
            progress.seconds = clock.seconds
            rows_per_s = progress.step * job.num_rows / job.steps_per_epoch / progress.seconds
            is_due = time.perf_counter() - last_save >= config.checkpoint_every_s
            interrupted, is_due = watch.world.any(watch.stop(), is_due)
            if not interrupted:  # the terminal may be gone
                watch.reporter.step(step + 1, total_steps, progress.mean_loss, rows_per_s)

            epoch_ends = (step + 1) % job.steps_per_epoch == 0
            is_over = clock.is_over(step_s)
            if epoch_ends or is_over or interrupted:
                job.settle(stops=is_over or interrupted)
            if epoch_ends or (is_over and not interrupted):
                _record(job, watch, (step + 1) / job.steps_per_epoch)
                is_over = is_over or clock.is_over(step_s)
            stopping = interrupted or is_over
            is_best = progress.best_step == progress.step
            is_last = step + 1 == total_steps or is_out_of_patience()
            if is_best or is_last or stopping or is_due:
                last_save = time.perf_counter()
                job.save()
                clock.saving_s = time.perf_counter() - last_save
            if is_over and not interrupted:
                watch.reporter.say(
                    f"the time limit ended training after {rounded_epochs((step + 1) / job.steps_per_epoch)} "
                    f"of {counted(config.epochs, 'epoch')}"
                )
            if stopping:
                return interrupted
    return False


def _record(job: Job[Batch], watch: Watch, epoch: float) -> None:
    """Record an epoch, with exact metrics on the held-out rows if there are any; note the best so far."""
    progress = job.progress
    record: dict[str, float | None] = {
        "step": progress.step,
        "epoch": round(epoch, 4),
        "seconds": round(progress.seconds, 3),
        "train_loss": progress.mean_loss,
    }
    sentence = f"epoch {rounded_epochs(epoch)}{shown_loss(progress.mean_loss)}"
    progress.loss_sum, progress.loss_rows = 0.0, 0
    started = time.perf_counter()
    if values := job.evaluate():
        watch.clock.evaluation_s = time.perf_counter() - started
        record |= {f"valid_{name}": value for name, value in values.items()}
        metric = job.config.metric
        value, best = values[metric], progress.best_value
        if progress.step <= FEW_STEPS or _is_better(value, best, larger=job.larger_is_better):
            progress.best_value, progress.best_step, progress.bad_evaluations = value, progress.step, 0
        else:
            progress.bad_evaluations += 1
        sentence += f"  held-out {metric} " + ("undefined" if value is None else f"{value:.4f}")
    progress.history.append(record)
    if watch.world.is_first:
        write_file(job.run / METRICS, lines_of(progress))
    watch.reporter.say(f"{sentence}  {progress.seconds:.1f} s")


def lines_of(progress: Progress) -> str:
    """The records of metrics.jsonl."""
    return "".join(json.dumps(record) + "\n" for record in progress.history)


def _is_better(value: float | None, best: float | None, *, larger: bool) -> bool:
    """Whether a metric has improved; one that is undefined has not, except at first."""
    if value is None or best is None:
        return best is None
    return value > best if larger else value < best

"""The training of a system, such as a translator, from its files to a saved run."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor
from torch.optim import Optimizer

from widemax.artifact.facts import CONFIG
from widemax.artifact.system import SavedSystem
from widemax.charts import Drawing
from widemax.config import Config
from widemax.devices import on_the_cpu
from widemax.errors import ConfigError
from widemax.optim import linear_decay
from widemax.storage import check_folder, write_file
from widemax.systems import about
from widemax.training.checkpoint import load_rest, save_checkpoint
from widemax.training.progress import Reporter
from widemax.training.runs import Outcome, finish, take_best, watching
from widemax.training.steps import Batch, Job, fit

S = TypeVar("S", bound=SavedSystem)


class SystemJob(Job[Batch], Generic[Batch, S]):
    """A system in training. To make it reads its files and builds what has not learned yet.

    Attributes:
        trains: what is trained.
        defaults: of the keys of [train] that a config leaves to it.
        metrics: those that may choose the epoch.
        held_out: what the metrics are of, in a word.
        warmup: the share of the steps in which the learning rate rises.
        precisions: in which a step can take its products.
        model: what is trained.
        optimizer: of its parameters.
        num_held_out: how many there are of what is held out.
    """

    trains: ClassVar[type[SavedSystem]]
    defaults: ClassVar[Mapping[str, Any]]
    metrics: ClassVar[tuple[str, ...]] = ("nll",)
    held_out: ClassVar[str]
    warmup: ClassVar[float]
    precisions: ClassVar[tuple[str, ...]] = ("float32", "bfloat16")
    larger_is_better = False

    model: S
    optimizer: Optimizer
    num_held_out: int

    @abstractmethod
    def __init__(self, config: Config, run: Path, checkpoint: Path | None, reporter: Reporter) -> None:
        """Read the files that a completed config names.

        Raises:
            DataError: they cannot be used, or have changed since the checkpoint.
        """

    @classmethod
    def completed(cls, config: Config) -> Config:
        """The config with the defaults of the system.

        Raises:
            ConfigError: a key is missing, or has a value that says nothing to it.
        """
        train, noun = config.train, about(cls.trains.task).noun
        if train.metric not in ("auto", *cls.metrics):
            known = " or ".join(map(repr, cls.metrics))
            raise ConfigError(f"train.metric of {noun} must be {known}; got {train.metric!r}.")
        named = {key for key in train.model_fields_set if getattr(train, key) != "auto"}
        updates = {key: value for key, value in cls.defaults.items() if key not in named}
        plural = f"{noun.partition(' ')[2]}s"
        updates |= on_the_cpu(train.device, train.precision, plural, precisions=cls.precisions)
        return config.updated(data={"task": cls.trains.task}, train=updates)

    @classmethod
    def train_in(
        cls, config: Config, run: Path, target: Path, checkpoint: Path | None, reporter: Reporter
    ) -> Outcome[S]:
        """Train by a completed config in ``run``, from a checkpoint on, for ``target``."""
        with watching(config.train, reporter) as watch:
            job = cls(config, run, checkpoint, reporter)
            write_file(run / CONFIG, job.model.config.to_toml(home=run))
            if checkpoint is not None:
                job.model.read_weights(checkpoint)
                job.take_carried(load_rest(checkpoint, job.model, job.optimizer), checkpoint)
                reporter.say(f"continuing after step {job.progress.step}")
            for line in job.told():
                reporter.say(line)
            watch.clock.earlier_s = job.progress.seconds
            watch.clock.begin_steps()
            epochs, patient = job.model.config.train.epochs, bool(job.num_held_out)
            interrupted = fit(job, watch, epochs=epochs, patient=patient)
            job.optimizer.state.clear()
            take_best(job, job.take_weights, reporter, rows=cls.held_out)
            return finish(
                job,
                job.model,
                run if interrupted else target,
                metrics=job.evaluate(),
                num_held_out=job.num_held_out,
                interrupted=interrupted,
                drawings=dict(job.drawings()),
            )

    @abstractmethod
    def told(self) -> Iterator[str]:
        """What is trained on and held out, in sentences."""

    def drawings(self) -> Iterator[tuple[str, Drawing]]:
        """What the report shows, each with a sentence on it."""
        yield from ()

    def rate(self, step: float, total_steps: int) -> float:
        return linear_decay(step, total_steps, warmup=round(self.warmup * total_steps))

    def carried(self) -> dict[str, Tensor]:
        """Tensors beside weights and the optimizer's that the next step begins with."""
        return {}

    def take_carried(self, carried: dict[str, Tensor], checkpoint: Path) -> None:
        """Begin the next step with those of a checkpoint.

        Raises:
            CorruptError: they do not fit.
        """

    def save(self) -> None:
        save_checkpoint(self.run, self.progress, self.model, self.optimizer, carried=self.carried())

    def take_weights(self, checkpoint: Path) -> None:
        """Take over the weights of a checkpoint, all its files checked."""
        check_folder(checkpoint)
        self.model.read_weights(checkpoint)

"""Training a language model, from a text to a saved model. Shapes: B sequences, T tokens, N of the text."""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from widemax.config import Config
from widemax.data.formats.text import files_of
from widemax.devices import on_the_cpu
from widemax.errors import ConfigError, DataError, counted
from widemax.language.decoder import AtLeast1
from widemax.language.evaluate import likelihood
from widemax.language.model import LanguageModel, build_decoder
from widemax.language.tokens import Stream, Unit, learn_vocabulary, read_lines
from widemax.optim import linear_decay
from widemax.storage import check_folder, sound, write_file
from widemax.task import System
from widemax.training.checkpoint import (
    RANDOM,
    Progress,
    fingerprint_of,
    load_rest,
    progress_at,
    save_checkpoint,
)
from widemax.training.evaluate import Metrics
from widemax.training.prepare import build_optimizer
from widemax.training.progress import Reporter
from widemax.training.runs import Outcome, finish, take_best, watching
from widemax.training.steps import Job, fit

DEFAULTS: dict[str, Any] = {
    "batch_size": 32,
    "optimizer": "lazy_adam",
    "learning_rate": 0.004,
    "metric": "nll",
}
WARMUP = 0.02
"""The share of the steps in which the learning rate rises."""


def completed(config: Config) -> Config:
    """The config with the defaults of a language model.

    Raises:
        ConfigError: a key that says nothing to a language model, or one that is missing.
    """
    data, train = config.data, config.train
    if not data.train:
        raise ConfigError("a language model needs a text: data.train (widemax train book.txt ...).")
    if train.metric not in ("auto", "nll"):
        raise ConfigError(f"train.metric must be 'nll' for a language model; got {train.metric!r}.")
    updates = {key: value for key, value in DEFAULTS.items() if getattr(train, key) == "auto"}
    updates |= on_the_cpu(train.device, train.precision, "language models")
    return config.model_copy(
        update={
            "data": data.model_copy(update={"task": System.LANGUAGE}),
            "train": train.model_copy(update=updates),
        }
    )


class Plan(NamedTuple):
    """Which tokens the steps of an epoch read.

    A network that carries its state reads on in B places of the text, T tokens a step. Others take B windows
    of T tokens a step, in random order. Where windows begin differs from epoch to epoch.

    Attributes:
        num_tokens: N of the text.
        length: T.
        num_rows: B.
        carries: whether the network carries its state.
        seed: of the order and of where windows begin.
    """

    num_tokens: int
    length: int
    num_rows: int
    carries: bool
    seed: int

    @classmethod
    def of(
        cls, num_tokens: int, *, length: AtLeast1, batch_size: AtLeast1, carries: bool, seed: int
    ) -> "Plan":
        """That of a text, whose last token has none after it."""
        length = min(length, num_tokens - 1)
        most = max((num_tokens - 1) // length, 1)
        return cls(num_tokens, length, min(batch_size, most), carries, seed)

    @property
    def _slack(self) -> int:
        """How many tokens the first window may begin late."""
        return min(self.length - 1, self.num_tokens - 1 - self.length * self.num_rows)

    @property
    def _row_tokens(self) -> int:
        """How many tokens lie from the beginning of a row to that of the next."""
        return (self.num_tokens - 1 - self._slack) // self.num_rows

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which nearly all tokens are read once."""
        return self._row_tokens // self.length

    def starts(self, epoch: int) -> np.ndarray:
        """[steps, B] where the windows of each step of an epoch begin."""
        random = np.random.default_rng([self.seed, epoch])
        first, steps_S = random.integers(self._slack + 1), np.arange(self.steps_per_epoch)
        if self.carries:
            rows_B = self._row_tokens * np.arange(self.num_rows)
            return np.asarray(first + self.length * steps_S[:, None] + rows_B)
        order = random.permutation(len(steps_S) * self.num_rows)
        return np.asarray(first + self.length * order.reshape(-1, self.num_rows))


class Windows(NamedTuple):
    """What a step reads.

    Attributes:
        starts_B: where its windows begin.
        reads_on: whether it begins with the state that the step before it ended with.
    """

    starts_B: np.ndarray
    reads_on: bool


class _Fit(Job[Windows]):
    """The steps of a language model."""

    larger_is_better = False

    def __init__(
        self, run: Path, model: LanguageModel, text: Stream, valid: Stream | None, progress: Progress
    ) -> None:
        self.run, self.config, self.progress = run, model.config.train, progress
        self.model, self.valid, self.state = model, valid, None
        self.ids_N = torch.from_numpy(text.ids_N.astype(np.int64))
        assert isinstance(self.config.batch_size, int)
        self.plan = Plan.of(
            len(text),
            length=model.encoder.length,
            batch_size=self.config.batch_size,
            carries=model.encoder.carries,
            seed=self.config.seed,
        )
        self.num_rows, self.steps_per_epoch = len(text), self.plan.steps_per_epoch
        read = ((parameter, 1.0) for parameter in model.encoder.parameters())
        self.optimizer = build_optimizer(self.config, chain(read, model.head.step_factors()))

    def rate(self, step: float, total_steps: int) -> float:
        return linear_decay(step, total_steps, warmup=round(WARMUP * total_steps))

    def batches(self, steps: range) -> Generator[Windows, None, None]:
        for epoch, in_epoch in groupby(steps, key=lambda step: step // self.steps_per_epoch):
            starts_SB = self.plan.starts(epoch)
            for step in in_epoch:
                place = step % self.steps_per_epoch
                yield Windows(starts_SB[place], self.plan.carries and place > 0)

    def step(self, batch: Windows, rate: float, *, epoch: int) -> tuple[float, int]:
        model, plan = self.model, self.plan
        model.encoder.train()
        model.head.train()
        assert isinstance(self.config.learning_rate, float)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * rate * group["factor"]
        self.optimizer.zero_grad(set_to_none=True)
        windows_BT = torch.from_numpy(batch.starts_B)[:, None] + torch.arange(plan.length)
        state = self.state if batch.reads_on else None
        hidden_BTD, state = model.encoder(model.embedded(self.ids_N[windows_BT]), state)
        labels_P = self.ids_N[windows_BT + 1].flatten()
        loss = model.head(hidden_BTD.flatten(0, 1), labels_P)
        loss.backward()
        self.optimizer.step()
        carried = {name: part.detach() for name, part in model.encoder.tensors_of(state).items()}
        self.state = model.encoder.state_of(carried, plan.num_rows)
        return loss.item() * len(labels_P), len(labels_P)

    def evaluate(self) -> Metrics:
        self.optimizer.catch_up()
        if self.valid is None:
            return {}
        answers = self.model.answers(self.valid)
        return likelihood(self.valid, answers, unknown=self.model.vocabulary.unknown)

    def save(self) -> None:
        carried = self.model.encoder.tensors_of(self.state)
        save_checkpoint(self.run, self.progress, self.model, self.optimizer, carried=carried)

    def take_weights(self, folder: Path) -> None:
        """Take over the weights of a checkpoint, all its files checked."""
        check_folder(folder)
        self.model.read_weights(folder)

    def load(self, checkpoint: Path) -> None:
        """Go on from a checkpoint."""
        self.model.read_weights(checkpoint)
        carried = load_rest(checkpoint, self.model.head, self.optimizer)
        with sound(checkpoint / RANDOM):
            self.state = self.model.encoder.state_of(carried, self.plan.num_rows)


@dataclass(frozen=True)
class _Part:
    """A part of the characters of files, by whole lines."""

    files: tuple[str, ...]
    encoding: str | None
    first: int = 0
    end: int | None = None

    def __iter__(self) -> Iterator[str]:
        read = 0
        for line in read_lines(self.files, encoding=self.encoding):
            if self.end is not None and read >= self.end:
                return
            if read >= self.first:
                yield line
            read += len(line)


def _parts(config: Config) -> tuple[Iterable[str], Iterable[str] | None]:
    """The lines that are trained on, and those held out."""
    data = config.data
    whole = _Part(data.train, data.encoding)
    if data.valid:
        return whole, _Part(data.valid, data.encoding)
    if not data.valid_fraction:
        return whole, None
    cut = round((1 - data.valid_fraction) * sum(map(len, whole)))
    return replace(whole, end=cut), replace(whole, first=cut)


def train_in(
    config: Config, run: Path, target: Path, checkpoint: Path | None, reporter: Reporter
) -> Outcome[LanguageModel]:
    """Train a language model by a completed config in ``run``, from a checkpoint on, for ``target``."""
    data = config.data
    with watching(config.train, reporter) as watch:
        reporter.say(f"reading {', '.join(data.train)}")
        files = files_of([*data.train, *data.valid])
        progress = progress_at(checkpoint, fingerprint_of(files))
        _, decoder = build_decoder(config)
        trained, held_out = _parts(config)
        vocabulary = learn_vocabulary(decoder.unit, trained, decoder.sizes)
        text = Stream.of(trained, vocabulary)
        valid = None if held_out is None else Stream.of(held_out, vocabulary)
        if len(text) < 2 or (data.valid and valid is not None and not len(valid)):
            raise DataError(
                "a text must have two tokens to train on, and one to be held out. Give more text."
            )
        valid = valid if valid is not None and len(valid) else None
        counts = np.bincount(text.ids_N, minlength=len(vocabulary))
        model = LanguageModel.build(config, vocabulary, counts)
        write_file(run / "config.toml", model.config.to_toml(home=run))
        job = _Fit(run, model, text, valid, progress)
        if checkpoint is not None:
            job.load(checkpoint)
            reporter.say(f"continuing after step {progress.step}")
        for line in _told(decoder.unit, model, text, valid, named=bool(data.valid)):
            reporter.say(line)
        watch.clock.earlier_s = progress.seconds
        watch.clock.begin_steps()
        interrupted = fit(job, watch, epochs=model.config.train.epochs, patient=valid is not None)
        return _finish(job, run if interrupted else target, reporter, interrupted)


def _told(
    unit: Unit, model: LanguageModel, text: Stream, valid: Stream | None, *, named: bool
) -> Iterator[str]:
    """What is trained on, held out and not told apart."""
    where = "of data.valid" if named else "the end of the text"
    held_out = f"{len(valid):,} held out, {where}" if valid else "none held out"
    yield f"{len(text):,} tokens to train on, {held_out}, {counted(model.head.num_classes, 'class')}"
    share = model.counts[model.vocabulary.unknown] / len(text)
    if unit == "word":
        yield f"rarer words are one class, <unk>, whose members are not told apart: {share:.2%} of the tokens"


def _finish(job: _Fit, target: Path, reporter: Reporter, interrupted: bool) -> Outcome[LanguageModel]:
    """Score the best weights on the held-out text, and write the model where it belongs."""
    job.optimizer.state.clear()
    take_best(job, job.take_weights, reporter, rows="text")
    return finish(
        job,
        job.model,
        target,
        metrics=job.evaluate(),
        num_held_out=0 if job.valid is None else job.valid.num_lines,
        interrupted=interrupted,
    )

"""Training a language model, from a text to a saved model. Shapes: B sequences, T tokens, N of the text."""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, groupby
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from widemax.config import Config
from widemax.data.formats.text import files_of
from widemax.devices import CPU, autocast
from widemax.errors import ConfigError, DataError, counted
from widemax.language.evaluate import likelihood
from widemax.language.model import LanguageModel, build_decoder
from widemax.language.tokens import Stream, learn_vocabulary, read_lines
from widemax.optim import RowOptimizer
from widemax.options import AtLeast1
from widemax.storage import sound
from widemax.training.checkpoint import RANDOM, fingerprint_of, progress_at
from widemax.training.evaluate import Metrics
from widemax.training.prepare import build_optimizer
from widemax.training.progress import Reporter
from widemax.training.steps import set_rates
from widemax.training.system import SystemJob


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


class Training(SystemJob[Windows, LanguageModel]):
    """A language model in training: a step reads some windows of the text."""

    trains = LanguageModel
    defaults: ClassVar = {"batch_size": 32, "optimizer": "lazy_adam", "learning_rate": 0.004, "metric": "nll"}
    held_out = "text"
    warmup = 0.02

    optimizer: RowOptimizer

    def __init__(self, config: Config, run: Path, checkpoint: Path | None, reporter: Reporter) -> None:
        data = config.data
        reporter.say(f"reading {', '.join(data.train)}")
        self.run = run
        self.progress = progress_at(checkpoint, fingerprint_of(files_of([*data.train, *data.valid])))
        _, decoder = build_decoder(config)
        trained, held_out = _parts(config)
        vocabulary = learn_vocabulary(decoder.unit, trained, decoder.sizes)
        text = Stream.of(trained, vocabulary)
        self.valid = None if held_out is None else Stream.of(held_out, vocabulary)
        is_empty = self.valid is not None and not len(self.valid)
        if len(text) < 2 or (data.valid and is_empty):
            raise DataError(
                "a text must have two tokens to train on, and one to be held out. Give more text."
            )
        if is_empty:
            self.valid = None
        self.num_held_out = 0 if self.valid is None else self.valid.num_lines
        counts = np.bincount(text.ids_N, minlength=len(vocabulary))
        self.model = LanguageModel.build(config, vocabulary, counts)
        self.config, self.state = self.model.config.train, None
        self.ids_N = torch.from_numpy(text.ids_N.astype(np.int64))
        assert isinstance(self.config.batch_size, int)
        self.plan = Plan.of(
            len(text),
            length=self.model.encoder.length,
            batch_size=self.config.batch_size,
            carries=self.model.encoder.carries,
            seed=self.config.seed,
        )
        self.num_rows, self.steps_per_epoch = len(text), self.plan.steps_per_epoch
        read = ((parameter, 1.0) for parameter in self.model.encoder.parameters())
        self.optimizer = build_optimizer(self.config, chain(read, self.model.head.step_factors()))

    @classmethod
    def completed(cls, config: Config) -> Config:
        if not config.data.train:
            raise ConfigError("a language model needs a text: data.train (widemax train book.txt ...).")
        return super().completed(config)

    def told(self) -> Iterator[str]:
        num_tokens, model = len(self.ids_N), self.model
        where = "of data.valid" if model.config.data.valid else "the end of the text"
        held_out = f"{len(self.valid):,} held out, {where}" if self.valid else "none held out"
        yield f"{num_tokens:,} tokens to train on, {held_out}, {counted(model.head.num_classes, 'class')}"
        share = model.counts[model.vocabulary.unknown] / num_tokens
        if model.encoder.unit == "word":
            yield (
                "rarer words are one class, <unk>, whose members are not told apart: "
                f"{share:.2%} of the tokens"
            )

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
        set_rates(self.optimizer, self.config, rate)
        self.optimizer.zero_grad(set_to_none=True)
        windows_BT = torch.from_numpy(batch.starts_B)[:, None] + torch.arange(plan.length)
        state = self.state if batch.reads_on else None
        labels_P = self.ids_N[windows_BT + 1].flatten()
        with autocast(CPU, self.config.precision):
            hidden_BTD, state = model.encoder(model.embedded(self.ids_N[windows_BT]), state)
            loss = model.head(hidden_BTD.flatten(0, 1), labels_P)
        loss.backward()
        self.optimizer.step()
        carried = {name: part.detach().float() for name, part in model.encoder.tensors_of(state).items()}
        self.state = model.encoder.state_of(carried, plan.num_rows)
        return loss.item() * len(labels_P), len(labels_P)

    def evaluate(self) -> Metrics:
        self.optimizer.catch_up()
        if self.valid is None:
            return {}
        return likelihood(self.valid, self.model.log_probs(self.valid), unknown=self.model.vocabulary.unknown)

    def carried(self) -> dict[str, Tensor]:
        return self.model.encoder.tensors_of(self.state)

    def take_carried(self, carried: dict[str, Tensor], checkpoint: Path) -> None:
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

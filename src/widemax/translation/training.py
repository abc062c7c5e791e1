"""Training a translator, from two files of lines to a saved model."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from widemax.config import Config
from widemax.data.formats.text import files_of
from widemax.devices import CPU, autocast
from widemax.errors import ConfigError, counted
from widemax.optim import RowOptimizer
from widemax.sequences import Subwords
from widemax.sequences.subwords import END, PADDING
from widemax.training.checkpoint import fingerprint_of, progress_at
from widemax.training.evaluate import Metrics
from widemax.training.prepare import build_optimizer
from widemax.training.progress import Reporter
from widemax.training.steps import set_rates, shuffled
from widemax.training.system import SystemJob
from widemax.translation.evaluate import nll_of
from widemax.translation.pairs import SENTENCES, Pairs, read_lines
from widemax.translation.transformer import translators
from widemax.translation.translator import Translator

CHUNK_PIECES = 4096
"""So many pieces, padding included, are computed with at a time; a batch is the sum of such chunks."""


class Training(SystemJob[np.ndarray, Translator]):
    """A translator in training: a step takes a batch of lines, and computes with some at a time."""

    trains = Translator
    defaults: ClassVar = {
        "batch_size": 256,
        "optimizer": "lazy_adam",
        "learning_rate": 0.004,
        "metric": "nll",
        "epochs": 30,
    }
    held_out = "lines"
    warmup = 0.1

    optimizer: RowOptimizer

    def __init__(self, config: Config, run: Path, checkpoint: Path | None, reporter: Reporter) -> None:
        data = config.data
        reporter.say(f"reading {', '.join((*data.train, *data.target_lines))}")
        names = [*data.train, *data.target_lines, *data.valid, *data.valid_target_lines]
        self.run = run
        self.progress = progress_at(checkpoint, fingerprint_of(files_of(names, wanted=SENTENCES)))
        options = translators.options("transformer").complete(config.encoder.options)
        sides = _lines(config, data.train, data.target_lines)
        subwords = Subwords.learn(chain(*sides), size=options["pieces"])
        self.pairs, self.valid = _pairs(config, subwords, options["max_pieces"])
        counts = np.bincount(self.pairs.target.ids_P, minlength=len(subwords))
        counts[END] = len(self.pairs)
        self.model = Translator.build(config, subwords, counts)
        self.config, self.num_held_out = self.model.config.train, len(self.valid or ())
        assert isinstance(self.config.batch_size, int)
        self.batch_size = self.config.batch_size
        self.num_rows, self.steps_per_epoch = len(self.pairs), -(-len(self.pairs) // self.batch_size)
        parameters = [*self.model.encoder.parameters(), *self.model.head.parameters()]
        self.optimizer = build_optimizer(self.config, ((parameter, 1.0) for parameter in parameters))

    @classmethod
    def completed(cls, config: Config) -> Config:
        data = config.data
        if not data.train or not data.target_lines:
            raise ConfigError(
                "translation needs the lines to translate and their translations: data.train and "
                "data.target_lines (widemax train train.en --target-lines train.de)."
            )
        if bool(data.valid) != bool(data.valid_target_lines):
            raise ConfigError("data.valid and data.valid_target_lines go together, as their lines do.")
        return super().completed(config)

    def told(self) -> Iterator[str]:
        num_left_out = self.pairs.num_left_out
        left_out = f", {num_left_out:,} left out as empty or too long" if num_left_out else ""
        yield (
            f"{counted(len(self.pairs), 'pair')} of lines{left_out}, {self.num_held_out:,} held out, "
            f"{len(self.model.subwords):,} pieces"
        )

    def batches(self, steps: range) -> Generator[np.ndarray, None, None]:
        yield from shuffled(self.num_rows, self.batch_size, steps, seed=self.config.seed)

    def step(self, batch: np.ndarray, rate: float, *, epoch: int) -> tuple[float, int]:
        translator = self.model
        translator.encoder.train()
        translator.head.train()
        set_rates(self.optimizer, self.config, rate)
        self.optimizer.zero_grad(set_to_none=True)
        num_pieces = int(self.pairs.target.lengths[batch].sum()) + len(batch)
        total = 0.0
        for lines in self.pairs.chunks(batch, CHUNK_PIECES):
            source, target, following = self.pairs.tensors(lines)
            with autocast(CPU, self.config.precision):
                hidden_PD = translator.encoder(source, target, translator.table)
                loss = translator.head(hidden_PD, following[following != PADDING], reduction="sum")
            (loss / num_pieces).backward()
            total += loss.item()
        self.optimizer.step()
        return total, num_pieces

    def evaluate(self) -> Metrics:
        self.optimizer.catch_up()
        return {} if self.valid is None else nll_of(self.model, self.valid)


def _lines(config: Config, source: Sequence[str], target: Sequence[str]) -> tuple[Any, Any]:
    encoding = config.data.encoding
    return read_lines(source, encoding=encoding), read_lines(target, encoding=encoding)


def _pairs(config: Config, subwords: Subwords, max_pieces: int) -> tuple[Pairs, Pairs | None]:
    """The pairs that are trained on, and those held out."""
    data = config.data
    pairs = Pairs.of(*_lines(config, data.train, data.target_lines), subwords, max_pieces=max_pieces)
    if data.valid:
        lines = _lines(config, data.valid, data.valid_target_lines)
        return pairs, Pairs.of(*lines, subwords, max_pieces=max_pieces)
    num_valid = min(data.max_valid_rows, round(data.valid_fraction * len(pairs)))
    if not num_valid:
        return pairs, None
    order = np.random.default_rng(config.train.seed).permutation(len(pairs))
    trained = replace(pairs.take(order[num_valid:]), num_left_out=pairs.num_left_out)
    return trained, pairs.take(order[:num_valid])

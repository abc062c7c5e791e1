"""Training a translator, from two files of lines to a saved model."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from widemax.config import Config
from widemax.data.formats.text import files_of
from widemax.devices import on_the_cpu
from widemax.errors import ConfigError, counted
from widemax.optim import linear_decay
from widemax.sequences import Subwords
from widemax.sequences.subwords import END, PADDING
from widemax.storage import check_folder, write_file
from widemax.task import System
from widemax.training.checkpoint import (
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
from widemax.training.steps import Job, fit, shuffled
from widemax.translation.evaluate import nll_of
from widemax.translation.pairs import SENTENCES, Pairs, read_lines
from widemax.translation.transformer import translators
from widemax.translation.translator import Translator

DEFAULTS: dict[str, Any] = {
    "batch_size": 256,
    "optimizer": "lazy_adam",
    "learning_rate": 0.004,
    "metric": "nll",
    "epochs": 30,
}
WARMUP = 0.1
"""The share of the steps in which the learning rate rises."""
CHUNK_PIECES = 4096
"""So many pieces, padding included, are computed with at a time; a batch is the sum of such chunks."""


def completed(config: Config) -> Config:
    """The config with the defaults of a translator.

    Raises:
        ConfigError: a key is missing, or has a value that says nothing to a translator.
    """
    data = config.data
    if not data.train or not data.target_lines:
        raise ConfigError(
            "translation needs the lines to translate and their translations: data.train and "
            "data.target_lines (widemax train train.en --target-lines train.de)."
        )
    if bool(data.valid) != bool(data.valid_target_lines):
        raise ConfigError("data.valid and data.valid_target_lines go together, as their lines do.")
    train = config.train
    named = {key for key in train.model_fields_set if getattr(train, key) != "auto"}
    updates = {key: value for key, value in DEFAULTS.items() if key not in named}
    updates |= on_the_cpu(train.device, train.precision, "translators")
    if train.metric not in ("auto", "nll"):
        raise ConfigError(f"train.metric must be 'nll' to translate; got {train.metric!r}.")
    return config.model_copy(
        update={
            "data": data.model_copy(update={"task": System.TRANSLATE}),
            "train": train.model_copy(update=updates),
        }
    )


class _Fit(Job[np.ndarray]):
    """The steps of a translator: batches of lines, computed with some at a time."""

    larger_is_better = False

    def __init__(
        self, run: Path, translator: Translator, pairs: Pairs, valid: Pairs | None, progress: Progress
    ) -> None:
        self.run, self.config, self.progress = run, translator.config.train, progress
        self.translator, self.pairs, self.valid = translator, pairs, valid
        assert isinstance(self.config.batch_size, int)
        self.batch_size = self.config.batch_size
        self.num_rows, self.steps_per_epoch = len(pairs), -(-len(pairs) // self.batch_size)
        parameters = [*translator.encoder.parameters(), *translator.head.parameters()]
        self.optimizer = build_optimizer(self.config, ((parameter, 1.0) for parameter in parameters))

    def rate(self, step: float, total_steps: int) -> float:
        return linear_decay(step, total_steps, warmup=round(WARMUP * total_steps))

    def batches(self, steps: range) -> Generator[np.ndarray, None, None]:
        yield from shuffled(self.num_rows, self.batch_size, steps, seed=self.config.seed)

    def step(self, batch: np.ndarray, rate: float, *, epoch: int) -> tuple[float, int]:
        translator = self.translator
        translator.encoder.train()
        translator.head.train()
        assert isinstance(self.config.learning_rate, float)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * rate
        self.optimizer.zero_grad(set_to_none=True)
        num_pieces = int(self.pairs.target.lengths[batch].sum()) + len(batch)
        total = 0.0
        for lines in self.pairs.chunks(batch, CHUNK_PIECES):
            source, target, following = self.pairs.tensors(lines)
            hidden_PD = translator.encoder(source, target, translator.table)
            loss = translator.head(hidden_PD, following[following != PADDING], reduction="sum")
            (loss / num_pieces).backward()
            total += loss.item()
        self.optimizer.step()
        return total, num_pieces

    def evaluate(self) -> Metrics:
        self.optimizer.catch_up()
        return {} if self.valid is None else nll_of(self.translator, self.valid)

    def take_weights(self, folder: Path) -> None:
        """Load those of a checkpoint, all its files checked."""
        check_folder(folder)
        self.translator.read_weights(folder)

    def save(self) -> None:
        save_checkpoint(self.run, self.progress, self.translator, self.optimizer)


def _lines(config: Config, source: Sequence[str], target: Sequence[str]) -> tuple[Any, Any]:
    encoding = config.data.encoding
    return read_lines(source, encoding=encoding), read_lines(target, encoding=encoding)


def train_in(
    config: Config, run: Path, target: Path, checkpoint: Path | None, reporter: Reporter
) -> Outcome[Translator]:
    """Train a translator by a completed config in ``run``, from a checkpoint on, for ``target``."""
    data = config.data
    with watching(config.train, reporter) as watch:
        reporter.say(f"reading {', '.join((*data.train, *data.target_lines))}")
        files = files_of(
            [*data.train, *data.target_lines, *data.valid, *data.valid_target_lines], wanted=SENTENCES
        )
        progress = progress_at(checkpoint, fingerprint_of(files))
        options = translators.options("transformer").complete(config.encoder.options)
        sides = _lines(config, data.train, data.target_lines)
        subwords = Subwords.learn(chain(*sides), size=options["pieces"])
        pairs, valid = _pairs(config, subwords, options["max_pieces"])
        counts = np.bincount(pairs.target.ids_P, minlength=len(subwords))
        counts[END] = len(pairs)
        translator = Translator.build(config, subwords, counts)
        write_file(run / "config.toml", translator.config.to_toml(home=run))
        job = _Fit(run, translator, pairs, valid, progress)
        if checkpoint is not None:
            translator.read_weights(checkpoint)
            load_rest(checkpoint, translator.head, job.optimizer)
            reporter.say(f"continuing after step {progress.step}")
        left_out = f", {pairs.num_left_out:,} left out as empty or too long" if pairs.num_left_out else ""
        reporter.say(
            f"{counted(len(pairs), 'pair')} of lines{left_out}, {len(valid) if valid else 0:,} held out, "
            f"{len(subwords):,} pieces"
        )
        watch.clock.earlier_s = progress.seconds
        watch.clock.begin_steps()
        epochs = translator.config.train.epochs
        interrupted = fit(job, watch, epochs=epochs, patient=valid is not None)
        return _finish(job, run if interrupted else target, reporter, interrupted)


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


def _finish(job: _Fit, target: Path, reporter: Reporter, interrupted: bool) -> Outcome[Translator]:
    """Score the best weights on the held-out lines, and write the model where it belongs."""
    job.optimizer.state.clear()
    take_best(job, job.take_weights, reporter, rows="lines")
    return finish(
        job,
        job.translator,
        target,
        metrics={} if job.valid is None else nll_of(job.translator, job.valid),
        num_held_out=len(job.valid or ()),
        interrupted=interrupted,
    )

"""Training a parser, from treebanks to a saved run; reads from top to bottom."""

import json
from collections.abc import Generator, Sequence
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from widemax.artifact import read_tensors, write_tensors
from widemax.errors import DataError, UsageError, counted
from widemax.losses import marginal_softmax
from widemax.optim import linear_decay
from widemax.options import checked
from widemax.parsing.attachment import Attachment
from widemax.parsing.config import ParsingConfig
from widemax.parsing.conllu import Sentence, read_conllu
from widemax.parsing.parser import Parser, form_vocabulary, lifted
from widemax.parsing.run import CONFIG, VOCABULARY, facts, load, read_vocabulary, write_config, write_parser
from widemax.storage import FINISHED, WORK, check_folder, new_folder, settle, sound
from widemax.threads import threads_for, using_threads
from widemax.training.checkpoint import (
    OPTIMIZER,
    RANDOM,
    STATE,
    Progress,
    State,
    folder_of,
    join_optimizer_state,
    keep_checkpoints,
    read_state,
    split_optimizer_state,
)
from widemax.training.evaluate import Metrics
from widemax.training.progress import PlainReporter, Reporter
from widemax.training.runs import Outcome, begin, go_on, home_of, watching
from widemax.training.steps import METRICS, Job, fit, lines_of

LEAST_BATCH_WORDS, MOST_BATCH_WORDS = 100, 500
STEPS_AN_EPOCH = 100
"""Of a small treebank, since a parser learns little in a few hundred steps."""
WARM_UP_STEPS = 200
MAX_GRADIENT = 5.0
BETAS = 0.9, 0.99
LENGTH_NOISE = 0.1
"""Sentences of a batch are of like length, give or take this share, so that batches differ between epochs."""


@checked
def train(
    config: ParsingConfig, *, reporter: Reporter | None = None, overwrite: bool = False
) -> Outcome[Parser]:
    """Train a parser as configured and save it in ``config.output.dir``.

    Args:
        config: what differs from the defaults is enough; the completed config is saved in the run.
        reporter: where progress is told; nowhere by default.
        overwrite: replace a run that is there instead of refusing. It stays until the new one is whole.

    Raises:
        UsageError: the folder already holds something, or another process writes there.
        DataError: the data cannot be used.

    Example:
        >>> config = ParsingConfig(data={"train": "train.conllu", "valid": "dev.conllu"})
        >>> outcome = train(config)  # doctest: +SKIP
    """
    run = Path(config.output.dir).expanduser()
    reporter = reporter or PlainReporter(quiet=True)
    return begin(run, partial(_train, config, run, reporter), overwrite=overwrite, reporter=reporter)


@checked
def resume(run: Path | str, *, reporter: Reporter | None = None) -> Outcome[Parser]:
    """Continue a run from its latest checkpoint to bitwise the result it would have had.

    Raises:
        UsageError: the folder holds nothing to continue, or another process writes there.
        DataError: the data have changed since.
    """
    run = home_of(run)
    reporter = reporter or PlainReporter(quiet=True)
    return go_on(run, partial(_train, None, run, reporter), load=load, reporter=reporter)


def _train(
    config: ParsingConfig | None,
    target: Path,
    reporter: Reporter,
    run: Path,
    scratch: Path,
    checkpoint: Path | None,
) -> Outcome[Parser]:
    """Train in a workspace; the config is the one saved there where none is given."""
    config = config or ParsingConfig.load(run / CONFIG)
    with watching(config.train.for_the_loop(), reporter) as watch:
        sentences, valid, fingerprint = _read(config)
        job = _Lessons(config, run, sentences, valid, fingerprint, checkpoint)
        reporter.say(
            f"{counted(len(sentences), 'sentence')}, {counted(len(valid), 'held-out sentence')}, "
            f"{counted(len(job.parser.actions), 'action')}"
        )
        watch.clock.earlier_s = job.progress.seconds
        watch.clock.begin_steps()
        interrupted = fit(job, watch, epochs=config.train.epochs, patient=True)
        return _finish(job, run if interrupted else target, reporter, interrupted=interrupted)


def _read(config: ParsingConfig) -> tuple[list[Sentence], list[Sentence], str]:
    """Training sentences, held-out ones, and what tells whether they have changed."""
    digest = sha256()

    def read(names: Sequence[str]) -> list[Sentence]:
        found = [sentence for name in names for sentence in read_conllu(Path(name))]
        for sentence in found:
            digest.update(sentence.text.encode())
        return found

    if not config.data.train:
        raise UsageError("data.train must name CoNLL-U files with trees.")
    sentences, valid = read(config.data.train), read(config.data.valid)
    if not config.data.valid:
        kept = len(sentences) - max(1, int(config.data.valid_fraction * len(sentences)))
        sentences, valid = sentences[:kept], sentences[kept:]
    if not sentences or not valid:
        raise DataError(
            f"a parser needs sentences to learn from and others to be held out; got {len(sentences)} and "
            f"{len(valid)}. Give larger files."
        )
    return sentences, valid, digest.hexdigest()


class _Lessons(Job[list[int]]):
    """A parser and its sentences; a step takes some of like length."""

    def __init__(
        self,
        config: ParsingConfig,
        run: Path,
        sentences: list[Sentence],
        valid: list[Sentence],
        fingerprint: str,
        checkpoint: Path | None,
    ) -> None:
        self.settings, self.run, self.config = config, run, config.train.for_the_loop()
        self.sentences, self.valid = sentences, valid
        self.trees = [lifted(sentence) for sentence in sentences]
        for sentence in valid:
            sentence.heads()
        self.lengths_N = np.array([len(sentence) for sentence in sentences])
        self.num_rows = len(sentences)
        num_words = int(self.lengths_N.sum())
        given = config.train.batch_words
        usual = min(MOST_BATCH_WORDS, max(LEAST_BATCH_WORDS, num_words // STEPS_AN_EPOCH))
        batch_words = usual if given == "auto" else given
        self.steps_per_epoch = max(1, round(num_words / batch_words))
        tagging = config.parser.tagging > 0
        if checkpoint is None:
            vocabulary = form_vocabulary(sentences, columns=config.data.input, tagging=tagging)
        else:
            check_folder(checkpoint, [VOCABULARY, "parser.safetensors", OPTIMIZER, RANDOM, STATE])
            vocabulary = read_vocabulary(checkpoint / VOCABULARY)
        self.parser = Parser(config.parser, config.data.input, vocabulary)
        self.optimizer = torch.optim.Adam(self.parser.scorer.parameters(), betas=BETAS, fused=True)
        self.progress = Progress(fingerprint, torch.get_num_threads())
        self.step_operations = (
            6
            * batch_words
            * sum(
                parameter.numel()
                for name, parameter in self.parser.scorer.named_parameters()
                if not name.startswith(("form", "ngram", "tag."))
            )
        )
        if checkpoint is not None:
            self._restore(checkpoint, fingerprint)
        else:
            write_config(run, config)

    def _restore(self, checkpoint: Path, fingerprint: str) -> None:
        state = read_state(checkpoint)
        if state.progress.data_fingerprint != fingerprint:
            raise DataError("the data have changed since the run began. Put them back, or start a new run.")
        self.progress = state.progress
        torch.set_num_threads(self.progress.num_threads)
        self.load_weights(checkpoint)
        tensors = read_tensors(checkpoint / OPTIMIZER)
        with sound(checkpoint / OPTIMIZER):
            join_optimizer_state(self.optimizer, tensors, state.optimizer)
        with sound(checkpoint / RANDOM):
            torch.set_rng_state(read_tensors(checkpoint / RANDOM)["torch"])

    def load_weights(self, checkpoint: Path) -> None:
        """Put the weights of a checkpoint in place, all its files checked."""
        check_folder(checkpoint)
        tensors = read_tensors(checkpoint / "parser.safetensors")
        with sound(checkpoint / "parser.safetensors"):
            self.parser.scorer.load_state_dict(tensors)

    def rate(self, step: float, total_steps: int) -> float:
        warm_up = min(WARM_UP_STEPS, max(1, total_steps // 10))
        return min(1.0, (step + 1) / warm_up) * linear_decay(step, total_steps)

    def batches(self, steps: range) -> Generator[list[int], None, None]:
        seed, K = self.config.seed, self.steps_per_epoch
        for epoch, in_epoch in groupby(steps, key=lambda step: step // K):
            random = np.random.default_rng([seed, epoch])
            noisy_N = self.lengths_N * (1 + LENGTH_NOISE * random.random(self.num_rows)) + random.random(
                self.num_rows
            )
            order_N = np.argsort(-noisy_N)
            # K parts with about as many words each.
            before_N = np.cumsum(self.lengths_N[order_N]) - self.lengths_N[order_N]
            starts_K1 = np.searchsorted(before_N, np.arange(K + 1) * self.lengths_N.sum() / K)
            places_K = random.permutation(K)
            for step in in_epoch:
                place = places_K[step % K]
                ids = order_N[starts_K1[place] : starts_K1[place + 1]]
                yield sorted(ids.tolist(), key=lambda at: -len(self.sentences[at]))

    def step(self, batch: list[int], rate: float, *, epoch: int) -> tuple[float, int]:
        if not batch:  # beside a sentence longer than a batch
            return 0.0, 0
        parser, scorer = self.parser, self.parser.scorer
        sentences = [self.sentences[at] for at in batch]
        gold = parser.gold(sentences, [self.trees[at] for at in batch])
        is_dynamic = parser.actions.system.is_dynamic
        explore = parser.config.explore if epoch and is_dynamic else 0.0
        for group in self.optimizer.param_groups:
            group["lr"] = (
                self.config.learning_rate * rate if isinstance(self.config.learning_rate, float) else 0
            )
        with using_threads(threads_for(self.step_operations)):
            scorer.train()
            words = parser.reader(sentences)
            slots_WSH, first_WD = scorer.encode(parser.with_unknown(words))
            scorer.eval()
            random = np.random.default_rng([self.config.seed, self.progress.step, 1])
            lesson = parser.lesson(slots_WSH.detach(), words.lengths_B, gold, explore=explore, random=random)
            scorer.train()
            logits_BA = scorer(slots_WSH, lesson.places_BS, lesson.relations_BS)
            masked_BA = logits_BA.masked_fill(~lesson.legal_BA, -torch.inf)
            loss_B = marginal_softmax(masked_BA, lesson.right_BA.float())
            loss = loss_B.mean()
            share = parser.config.tagging / max(1, len(gold.tags))
            for tagger, tags_W in zip(scorer.taggers, gold.tags, strict=True):
                loss = loss + share * F.cross_entropy(tagger(first_WD), tags_W)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(scorer.parameters(), MAX_GRADIENT)
            self.optimizer.step()
        return float(loss_B.detach().sum()), len(loss_B)

    def evaluate(self) -> Metrics:
        with using_threads(threads_for(self.step_operations)):
            scores = attachment(self.parser, self.valid).values()
        return {name: scores[name] for name in ("uas", "las", "clas", "mlas")}

    def save(self) -> None:
        step = self.progress.step
        with new_folder(folder_of(self.run, step), {"step": step}) as folder:
            write_tensors(folder / "parser.safetensors", self.parser.scorer.state_dict())
            tensors, numbers = split_optimizer_state(self.optimizer)
            write_tensors(folder / OPTIMIZER, tensors)
            write_tensors(folder / RANDOM, {"torch": torch.get_rng_state()})
            vocabulary = json.dumps(asdict(self.parser.vocabulary), ensure_ascii=False)
            (folder / VOCABULARY).write_text(vocabulary, encoding="utf-8")
            state = json.dumps(asdict(State(self.progress, numbers)), allow_nan=False)
            (folder / STATE).write_text(state, encoding="utf-8")
        keep_checkpoints(self.run, {step, self.progress.best_step})


def attachment(parser: Parser, sentences: Sequence[Sentence]) -> Attachment:
    """The scores of a parser on sentences with right trees."""
    scores = Attachment()
    for sentence, tree in parser.parsed(sentences):
        scores.add(sentence, *tree)
    return scores


def _finish(job: _Lessons, target: Path, reporter: Reporter, *, interrupted: bool) -> Outcome[Parser]:
    """Write the parser with the best scores on the held-out sentences where it belongs."""
    progress, parser = job.progress, job.parser
    if progress.best_step not in (0, progress.step):
        job.load_weights(folder_of(job.run, progress.best_step))
        reporter.say(f"best on the held-out sentences: step {progress.best_step}")
    values = job.evaluate()
    said = facts(values, complete=not interrupted, steps=progress.step, seconds=progress.seconds)
    with new_folder(target / WORK / FINISHED, said) as folder:
        write_parser(folder, parser, job.settings)
        (folder / METRICS).write_text(lines_of(progress), encoding="utf-8")
    settle(target)
    return Outcome(target, parser, values, {}, progress.step, progress.seconds, interrupted)

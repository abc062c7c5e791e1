"""Training a parser, from treebanks to a saved run; reads from top to bottom."""

from collections.abc import Generator, Iterator, Sequence
from hashlib import sha256
from itertools import groupby, islice
from operator import eq
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from widemax.charts import Drawing, arcs
from widemax.config import Config, FreeSection
from widemax.errors import ConfigError, DataError, counted, did_you_mean
from widemax.losses import marginal_softmax
from widemax.optim import linear_decay
from widemax.parsing.attachment import Attachment
from widemax.parsing.config import ParserConfig
from widemax.parsing.conllu import Sentence, read_conllu
from widemax.parsing.parser import Parser
from widemax.parsing.vocabulary import Vocabulary, lifted
from widemax.parsing.words import TAG_COLUMNS
from widemax.threads import threads_for, using_threads
from widemax.training.checkpoint import progress_at
from widemax.training.evaluate import Metrics
from widemax.training.progress import Reporter
from widemax.training.steps import set_rates
from widemax.training.system import SystemJob

DRAWN, DRAWN_WORDS = 3, (4, 14)
"""How many held-out sentences of how many words are drawn in the report."""
SCORES = ("uas", "las", "clas", "mlas")
LEAST_BATCH_WORDS, MOST_BATCH_WORDS = 100, 500
STEPS_AN_EPOCH = 100
"""Of a small treebank, since a parser learns little in a few hundred steps."""
WARM_UP_STEPS = 200
MAX_GRADIENT = 5.0
TRANSFORMER_RATE = 1e-3
"""Attention learns nothing at the rate of LSTMs."""
BETAS = 0.9, 0.99
LENGTH_NOISE = 0.1
"""Sentences of a batch are of like length, give or take this share, so that batches differ between epochs."""


class Training(SystemJob[list[int], Parser]):
    """A parser in training: a step takes some sentences of like length."""

    trains = Parser
    defaults: ClassVar = {"epochs": 20, "learning_rate": 8e-3, "metric": "las", "patience": 10}
    metrics = SCORES
    precisions = ("float32",)
    held_out = "sentences"
    larger_is_better = True

    def __init__(self, config: Config, run: Path, checkpoint: Path | None, reporter: Reporter) -> None:
        sentences, valid, fingerprint = _read(config)
        self.run, self.config = run, config.train
        self.progress = progress_at(checkpoint, fingerprint)
        self.sentences, self.valid, self.num_held_out = sentences, valid, len(valid)
        self.trees = [lifted(sentence) for sentence in sentences]
        for sentence in valid:
            sentence.heads()
        self.lengths_N = np.array([len(sentence) for sentence in sentences])
        self.num_rows = len(sentences)
        own = ParserConfig(**config.parser.options)
        self.model = Parser(config, Vocabulary.of(sentences, columns=config.data.input))
        num_words = int(self.lengths_N.sum())
        usual = min(MOST_BATCH_WORDS, max(LEAST_BATCH_WORDS, num_words // STEPS_AN_EPOCH))
        batch_words = usual if own.batch_words == "auto" else own.batch_words
        self.steps_per_epoch = max(1, round(num_words / batch_words))
        self.optimizer = torch.optim.Adam(self.model.encoder.parameters(), betas=BETAS, fused=True)
        num_dense = sum(
            parameter.numel()
            for name, parameter in self.model.encoder.named_parameters()
            if not name.startswith(("form", "ngram", "tag."))
        )
        self.step_operations = 6 * batch_words * num_dense

    @classmethod
    def completed(cls, config: Config) -> Config:
        data = config.data
        if not data.train or not data.valid_fraction:
            raise ConfigError(
                "a parser needs trees to learn from, and others that choose the epoch: name CoNLL-U files by "
                "data.train, and more by data.valid or a part of them by data.valid_fraction."
            )
        for column in data.input:
            if column not in TAG_COLUMNS:
                near = did_you_mean(column, list(TAG_COLUMNS))
                raise ConfigError(f"data.input of a parser names columns of tags, not {column!r}; {near}")
        own = ParserConfig(**config.parser.options)
        if own.encoder == "transformer" and config.train.learning_rate == "auto":
            config = config.updated(train={"learning_rate": TRANSFORMER_RATE})
        return super().completed(config.updated(parser=FreeSection(**own.model_dump()), output={"dir": "."}))

    def told(self) -> Iterator[str]:
        yield (
            f"{counted(self.num_rows, 'sentence')}, {counted(self.num_held_out, 'held-out sentence')}, "
            f"{counted(len(self.model.actions), 'action')}"
        )

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
        parser, scorer = self.model, self.model.scorer
        sentences = [self.sentences[at] for at in batch]
        gold = parser.gold(sentences, [self.trees[at] for at in batch])
        is_dynamic = parser.actions.system.is_dynamic
        explore = parser.settings.explore if epoch and is_dynamic else 0.0
        set_rates(self.optimizer, self.config, rate)
        with using_threads(threads_for(self.step_operations)):
            scorer.train()
            words = parser.reader(sentences)
            slots_WSH, named_WD = scorer.encode(parser.with_unknown(words))
            scorer.eval()
            random = np.random.default_rng([self.config.seed, self.progress.step, 1])
            lesson = parser.lesson(slots_WSH.detach(), words.lengths_B, gold, explore=explore, random=random)
            scorer.train()
            logits_BA = scorer(slots_WSH, lesson.places_BS, lesson.relations_BS)
            masked_BA = logits_BA.masked_fill(~lesson.legal_BA, -torch.inf)
            loss_B = marginal_softmax(masked_BA, lesson.right_BA.float())
            loss = loss_B.mean()
            share = parser.settings.tagging / max(1, len(gold.tags))
            for tagger, tags_W in zip(scorer.taggers, gold.tags, strict=True):
                loss = loss + share * F.cross_entropy(tagger(named_WD), tags_W)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(scorer.parameters(), MAX_GRADIENT)
            self.optimizer.step()
        return float(loss_B.detach().sum()), len(loss_B)

    def evaluate(self) -> Metrics:
        scores = Attachment()
        with using_threads(threads_for(self.step_operations)):
            for sentence, tree in self.model.parsed(self.valid):
                scores.add(sentence, *tree)
        values = scores.values()
        return {name: values[name] for name in SCORES}

    def drawings(self) -> Iterator[tuple[str, Drawing]]:
        """The trees of some held-out sentences, and how many of their words are right."""
        short = (each for each in self.valid if DRAWN_WORDS[0] <= len(each) <= DRAWN_WORDS[1])
        for sentence, (heads, relations) in self.model.parsed(islice(short, DRAWN)):
            words = sentence.column("FORM")
            gold = zip(sentence.heads(), sentence.column("DEPREL"), strict=True)
            right = sum(map(eq, zip(heads, relations, strict=True), gold))
            told = f"{' '.join(words)} – {right} of {counted(len(words), 'word')} as in the treebank."
            yield told, arcs(words, heads, relations)


def _read(config: Config) -> tuple[list[Sentence], list[Sentence], str]:
    """Training sentences, held-out ones, and what tells whether they have changed."""
    digest = sha256()

    def read(names: Sequence[str]) -> Iterator[Sentence]:
        for sentence in (sentence for name in names for sentence in read_conllu(Path(name))):
            digest.update(sentence.text.encode())
            yield sentence

    sentences, valid = list(read(config.data.train)), list(read(config.data.valid))
    if not config.data.valid:
        kept = len(sentences) - max(1, int(config.data.valid_fraction * len(sentences)))
        sentences, valid = sentences[:kept], sentences[kept:]
    for column in config.data.input:
        if sentences and not any(tag != "_" for each in sentences for tag in each.column(column)):
            raise DataError(
                f"no word of the training files has {column}, which data.input names; leave it out."
            )
    if not sentences or not valid:
        raise DataError(
            f"a parser needs sentences to learn from and others to be held out; got {len(sentences)} and "
            f"{len(valid)}. Give larger files."
        )
    return sentences, valid, digest.hexdigest()

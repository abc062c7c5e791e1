"""The parser: words in, a tree of dependencies out.

Shapes: B sentences or states, N words of the longest, S slots, A actions, K states kept for a sentence.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from widemax.errors import DataError
from widemax.options import checked
from widemax.parsing.actions import Actions
from widemax.parsing.config import ParserConfig, ParsingConfig
from widemax.parsing.conllu import COLUMNS, Sentence
from widemax.parsing.network import Scorer
from widemax.parsing.projective import LIFTED, lift, restore, unmarked
from widemax.parsing.slots import Slots
from widemax.parsing.transitions.base import NONE, Ints, States, transition_systems
from widemax.parsing.words import NGRAM_BUCKETS, TAG_COLUMNS, UNKNOWN, Reader, Words, tags_of

CHUNK_SENTENCES = 1024
"""Sentences that are read before any is parsed, so that those of like length go together."""
BATCH_WORDS = 2000
MIN_LIFTED = 5
"""How often a relation must be lifted for its arcs to be put back: rarer ones would be actions of no use."""


class Tree(NamedTuple):
    """The dependencies of a sentence.

    Args:
        heads: number of each word's head, counted from 1; 0 for the root.
        relations: relation of each word to its head.
    """

    heads: list[int]
    relations: list[str]


@dataclass(frozen=True)
class Vocabulary:
    """What training has seen, by its place the id of each.

    Args:
        forms, counts: forms in small letters, and how often each was seen.
        tags: of the columns that are read, as column=value.
        relations: of dependents to heads, those of lifted arcs too.
        of_root, of_word: whether a relation was seen with the root as head, and with a word.
        tagged: the values of each column that is named in training.
    """

    forms: tuple[str, ...]
    counts: tuple[int, ...]
    tags: tuple[str, ...]
    relations: tuple[str, ...]
    of_root: tuple[bool, ...]
    of_word: tuple[bool, ...]
    tagged: dict[str, tuple[str, ...]]


class Gold(NamedTuple):
    """The right trees of B sentences, lifted.

    Args:
        heads_BN: position of each word's head, n for the root's.
        relations_BN: ids.
        tags: of each column that is named, an id a word.
    """

    heads_BN: Ints
    relations_BN: Ints
    tags: list[Tensor]


class Lesson(NamedTuple):
    """States that were met on the way through some sentences, and what would have been right in each.

    Args:
        places_BS, relations_BS: what stood in the slots.
        legal_BA, right_BA: which actions were allowed, and which right.
    """

    places_BS: Tensor
    relations_BS: Tensor | None
    legal_BA: Tensor
    right_BA: Tensor


def form_vocabulary(sentences: Sequence[Sentence], *, columns: Sequence[str], tagging: bool) -> Vocabulary:
    """What a parser must know of its training sentences."""
    forms = Counter(form.lower() for sentence in sentences for form in sentence.column("FORM"))
    known = sorted(form for form, count in forms.items() if count > 1)
    tags = {tag for each in sentences for of_word in tags_of(each, columns) for tag in of_word}
    seen = Counter(
        (head == len(sentence), relation)
        for sentence in sentences
        for head, relation in zip(*lifted(sentence), strict=True)
    )
    marked = Counter({name: count for (_, name), count in seen.items() if LIFTED in name})
    rare = {name for name, count in marked.items() if count < MIN_LIFTED}
    pairs = {(is_root, unmarked(name) if name in rare else name) for is_root, name in seen}
    relations = tuple(sorted({relation for _, relation in pairs}))
    tagged = {
        column: sorted({tag for each in sentences for tag in each.column(column)}) for column in TAG_COLUMNS
    }
    return Vocabulary(
        forms=tuple(known),
        counts=tuple(forms[form] for form in known),
        tags=tuple(sorted(tags)),
        relations=relations,
        of_root=tuple((True, relation) in pairs for relation in relations),
        of_word=tuple((False, relation) in pairs for relation in relations),
        tagged={name: tuple(values) for name, values in tagged.items() if tagging and len(values) > 1},
    )


def lifted(sentence: Sentence) -> tuple[list[int], list[str]]:
    """The right tree without crossing arcs, its heads as positions, n for the root's."""
    heads = [head - 1 if head else len(sentence) for head in sentence.heads()]
    return lift(heads, sentence.column("DEPREL"))


@final
class Parser:
    """Parses sentences by a transition system whose actions a network scores.

    Args:
        config: the parser's own section.
        columns: which of "UPOS", "XPOS", "FEATS" are read beside the words.
        vocabulary: of the training sentences.

    Example:
        >>> parser = Parser.load("run")  # doctest: +SKIP
        >>> parser.parse([["I", "see", "stars"]])  # doctest: +SKIP
        [Tree(heads=[2, 0, 2], relations=['nsubj', 'root', 'obj'])]
    """

    def __init__(self, config: ParserConfig, columns: Sequence[str], vocabulary: Vocabulary) -> None:
        self.config, self.columns, self.vocabulary = config, tuple(columns), vocabulary
        self.reader = Reader(vocabulary.forms, vocabulary.tags, self.columns)
        self.actions = Actions(
            transition_systems[config.system](),
            vocabulary.relations,
            np.array(vocabulary.of_root, dtype=np.bool_),
            np.array(vocabulary.of_word, dtype=np.bool_),
        )
        self.slots = Slots(config.slots)
        self.scorer = Scorer(
            num_forms=len(vocabulary.forms),
            num_tags=len(vocabulary.tags),
            buckets=NGRAM_BUCKETS,
            num_slots=len(self.slots),
            num_actions=len(self.actions),
            num_relations=len(vocabulary.relations) + 1 if self.slots.has_dependents else 0,
            tag_sizes=tuple(map(len, vocabulary.tagged.values())),
            form_dim=config.form_dim,
            tag_dim=config.tag_dim,
            layers=config.layers,
            hidden=config.hidden,
            action_dim=config.action_dim,
            dropout=config.dropout,
        )
        self._relation_ids = {name: at for at, name in enumerate(vocabulary.relations)}
        self._tag_ids = [{tag: at for at, tag in enumerate(tags)} for tags in vocabulary.tagged.values()]
        self._counts_F = torch.tensor([0, *vocabulary.counts])

    @classmethod
    @checked
    def train(
        cls,
        treebank: Path | str | Sequence[Path | str],
        *,
        valid: Path | str | Sequence[Path | str] = (),
        out: Path | str = "run",
        overwrite: bool = False,
        **sections: Mapping[str, Any],
    ) -> Self:
        """Train a parser on CoNLL-U files and save it as a run.

        Args:
            treebank: files with right trees.
            valid: held-out ones; a tenth of ``treebank`` by default.
            out: the run folder.
            overwrite: replace a run that is there.
            sections: further keys of :class:`widemax.parsing.ParsingConfig`, such as
                ``parser={"hidden": 100}``.

        Raises:
            ConfigError: an unknown key, or a value out of range.
            DataError: a file is no CoNLL-U, or a tree is none.
            UsageError: the folder already holds something.

        Example:
            >>> parser = Parser.train("train.conllu", valid="dev.conllu", out="run")  # doctest: +SKIP
        """
        from widemax.parsing.learn import train as fit

        data = {"train": treebank, "valid": valid, **sections.pop("data", {})}
        given: dict[str, Any] = {**sections, "data": data, "output": {"dir": out}}
        parser = fit(ParsingConfig(**given), overwrite=overwrite).model
        assert isinstance(parser, cls)
        return parser

    @classmethod
    def load(cls, run: Path | str, *, trusted_key: Path | None = None) -> Self:
        """The parser of a run, all its files checked.

        Args:
            run: its folder.
            trusted_key: an Ed25519 public key in PEM; refuse a run that its owner has not signed.

        Raises:
            CorruptError: a file is missing, altered or unsafe.
            UsageError: the run is no parser's.
        """
        from widemax.parsing.run import load

        parser = load(run, trusted_key=trusted_key)
        assert isinstance(parser, cls)
        return parser

    @partial(checked, of="parser.parse")
    def parse(self, sentences: Sequence[Sentence | Sequence[str]]) -> list[Tree]:
        """The trees of sentences, each given as its words or as it was read from CoNLL-U.

        Raises:
            DataError: a sentence has no word, or lacks the tags that the parser reads.
        """
        return [tree for _, tree in self.parsed(map(_as_sentence, sentences))]

    def parsed(self, sentences: Iterable[Sentence]) -> Iterator[tuple[Sentence, Tree]]:
        """Sentences with their trees as they come, in order, a thousand in memory.

        Raises:
            DataError: a sentence lacks the tags that the parser reads.
        """
        stream = iter(sentences)
        while chunk := list(islice(stream, CHUNK_SENTENCES)):
            for sentence in chunk:
                self._check_tags(sentence)
            order = sorted(range(len(chunk)), key=lambda at: -len(chunk[at]))
            trees: dict[int, Tree] = {}
            for batch in in_batches(order, [len(chunk[at]) for at in order], BATCH_WORDS):
                found = self._parse_batch([chunk[at] for at in batch])
                trees.update(zip(batch, found, strict=True))
            yield from ((sentence, trees[at]) for at, sentence in enumerate(chunk))

    def _check_tags(self, sentence: Sentence) -> None:
        for column in self.columns:
            # Words without features are written _, tags are not.
            if column != "FEATS" and "_" in (tags := sentence.column(column)):
                line = sentence.words[tags.index("_")]
                raise DataError(
                    f"{sentence.where(line)}: {column} is missing, which this parser reads. Tag the file "
                    "first, or train a parser of words alone."
                )

    @torch.no_grad()
    def _parse_batch(self, sentences: Sequence[Sentence]) -> list[Tree]:
        """Trees of sentences, the longest first."""
        self.scorer.eval()
        words = self.reader(sentences)
        slots_WSH, _ = self.scorer.encode(words)
        search = self._greedy if self.config.beam == 1 else self._beam
        states = search(slots_WSH, words.lengths_B)
        trees = []
        for row, n in enumerate(words.lengths_B.tolist()):
            relations = [self.vocabulary.relations[at] for at in states.relations_BN[row, :n]]
            heads, relations = restore(states.heads_BN[row, :n].tolist(), relations)
            trees.append(Tree([0 if head == n else head + 1 for head in heads], relations))
        return trees

    def _greedy(self, slots_WSH: Tensor, lengths_B: Ints) -> States:
        states = States.start(lengths_B)
        starts_B = np.cumsum(lengths_B) - lengths_B
        for active in _steps(states):
            logits_BA = self._logits(slots_WSH, active, starts_B)
            logits_BA[~self.actions.legal(active)] = -np.inf
            self.actions.apply(active, logits_BA.argmax(1))
        return states

    def _beam(self, slots_WSH: Tensor, lengths_B: Ints) -> States:
        """The states of the best sum of log-probabilities, of K kept after every step for each sentence."""
        K, A = self.config.beam, len(self.actions)
        starts_B = np.cumsum(lengths_B) - lengths_B
        states = States.start(np.repeat(lengths_B, K))
        scores_BK = np.full((len(lengths_B), K), -np.inf)
        scores_BK[:, 0] = 0.0
        for step in range(2 * int(lengths_B[0])):
            B = int(np.count_nonzero(2 * lengths_B > step))
            active = states.of(slice(0, B * K))
            logits_BA = self._logits(slots_WSH, active, np.repeat(starts_B[:B], K))
            logits_BA[~self.actions.legal(active)] = -np.inf
            log_probs_BA = torch.from_numpy(logits_BA).double().log_softmax(1).numpy()
            totals = (scores_BK[:B].reshape(B * K, 1) + log_probs_BA).reshape(B, K * A)
            best_BK = np.argsort(-totals, axis=1, kind="stable")[:, :K]
            scores_BK[:B] = np.take_along_axis(totals, best_BK, axis=1)
            # Fewer than K states at first: the rest repeat the best one and never win.
            best_BK = np.where(scores_BK[:B] == -np.inf, best_BK[:, :1], best_BK)
            rows = (np.arange(B)[:, None] * K + best_BK // A).ravel()
            chosen = active.of(rows)
            self.actions.apply(chosen, (best_BK % A).ravel())
            active.put(chosen)
        return states.of(np.arange(len(lengths_B)) * K)

    def _logits(self, slots_WSH: Tensor, states: States, starts_B: Ints) -> npt.NDArray[np.float32]:
        places_BS, relations_BS = self._in_slots(slots_WSH, states, starts_B[: len(states)])
        logits_BA: npt.NDArray[np.float32] = self.scorer(slots_WSH, places_BS, relations_BS).numpy()
        return logits_BA

    def _in_slots(self, slots_WSH: Tensor, states: States, starts_B: Ints) -> tuple[Tensor, Tensor | None]:
        """Which of the encoded words stand in the slots of states, and with which relations; [B, S]."""
        words_BS = self.slots.words(states)
        root, nothing = len(slots_WSH) - 2, len(slots_WSH) - 1
        is_root_BS = words_BS == states.lengths_B[:, None]
        places_BS = np.where(
            is_root_BS, root, np.where(words_BS == NONE, nothing, starts_B[:, None] + words_BS)
        )
        if not self.slots.has_dependents:
            return torch.from_numpy(places_BS), None
        is_word_BS = (words_BS != NONE) & ~is_root_BS
        relations_BS = states.relations_BN[np.arange(len(states))[:, None], np.where(is_word_BS, words_BS, 0)]
        return torch.from_numpy(places_BS), torch.from_numpy(np.where(is_word_BS, relations_BS + 1, 0))

    def gold(self, sentences: Sequence[Sentence], trees: Sequence[tuple[list[int], list[str]]]) -> Gold:
        """The right trees of a batch, of what ``lifted`` gives for each sentence."""
        shape = len(sentences), max(map(len, sentences))
        heads_BN, relations_BN = np.full(shape, NONE), np.full(shape, NONE)
        for row, (heads, relations) in enumerate(trees):
            heads_BN[row, : len(heads)] = heads
            known = (name if name in self._relation_ids else unmarked(name) for name in relations)
            relations_BN[row, : len(heads)] = [self._relation_ids[name] for name in known]
        tags = [
            torch.tensor([ids[tag] for sentence in sentences for tag in sentence.column(column)])
            for column, ids in zip(self.vocabulary.tagged, self._tag_ids, strict=True)
        ]
        return Gold(heads_BN, relations_BN, tags)

    def with_unknown(self, words: Words) -> Words:
        """The same words, of which rare ones are now and then taken for unknown."""
        form_W = torch.from_numpy(words.form_W)
        alpha = self.config.unknown
        is_dropped_W = torch.rand(len(form_W)) * (alpha + self._counts_F[form_W]) < alpha
        return words._replace(form_W=form_W.masked_fill(is_dropped_W, UNKNOWN).numpy())

    @torch.no_grad()
    def lesson(
        self, slots_WSH: Tensor, lengths_B: Ints, gold: Gold, *, explore: float, random: np.random.Generator
    ) -> Lesson:
        """Go through sentences, the longest first, and note what is right in each state that is met.

        Args:
            slots_WSH: of the scorer.
            gold: the right trees.
            explore: how often the parser's own best action is taken instead of the best right one.
        """
        states = States.start(lengths_B)
        starts_B = np.cumsum(lengths_B) - lengths_B
        met = []
        for active in _steps(states):
            B = len(active)
            legal_BA = self.actions.legal(active)
            right_BA = self.actions.right(active, gold.heads_BN[:B], gold.relations_BN[:B], legal_BA)
            places_BS, relations_BS = self._in_slots(slots_WSH, active, starts_B[:B])
            logits_BA = self.scorer(slots_WSH, places_BS, relations_BS).numpy()
            own_B = np.where(legal_BA, logits_BA, -np.inf).argmax(1)
            best_B = np.where(right_BA, logits_BA, -np.inf).argmax(1)
            met.append((places_BS, relations_BS, torch.from_numpy(legal_BA), torch.from_numpy(right_BA)))
            self.actions.apply(active, np.where(random.random(B) < explore, own_B, best_B))
        places, relations, legal, right = zip(*met, strict=True)
        return Lesson(
            torch.cat(places),
            torch.cat(relations) if self.slots.has_dependents else None,
            torch.cat(legal),
            torch.cat(right),
        )


def _steps(states: States) -> Iterator[States]:
    """The states that are not at their end, before each step; sentences stand with the longest first."""
    lengths_B = states.lengths_B
    for step in range(2 * int(lengths_B[0])):
        yield states.of(slice(0, int(np.count_nonzero(2 * lengths_B > step))))


def in_batches(ids: Sequence[int], lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Consecutive ids, at least ``size`` words in each but the last."""
    batch: list[int] = []
    total = 0
    for at, length in zip(ids, lengths, strict=True):
        batch.append(at)
        total += length
        if total >= size:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def _as_sentence(words: Sentence | Sequence[str]) -> Sentence:
    if isinstance(words, Sentence):
        return words
    if isinstance(words, str) or not words or not all(isinstance(word, str) and word for word in words):
        raise DataError(
            "a sentence must be a list of words, such as ['I', 'see', 'stars'], with at least one."
        )
    cells = tuple((str(at), word, *["_"] * (len(COLUMNS) - 2)) for at, word in enumerate(words, start=1))
    lines = tuple("\t".join(each) + "\n" for each in cells)
    return Sentence("the sentences", 1, (*lines, "\n"), tuple(range(len(lines))), cells)

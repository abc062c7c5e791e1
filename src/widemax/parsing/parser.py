"""The parser: words in, a tree of dependencies out.

Shapes: B sentences or states, N words of the longest, S slots, A actions, K states kept for a sentence.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self, final

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from widemax.artifact.facts import CONFIG
from widemax.artifact.system import SavedSystem
from widemax.config import Config
from widemax.errors import DataError
from widemax.options import checked
from widemax.parsing.actions import Actions
from widemax.parsing.config import ParserConfig
from widemax.parsing.conllu import Sentence, sentence_of
from widemax.parsing.network import Scorer
from widemax.parsing.projective import restore, unmarked
from widemax.parsing.slots import Slots
from widemax.parsing.transitions.base import NONE, Ints, States, transition_systems
from widemax.parsing.vocabulary import Vocabulary
from widemax.parsing.words import NGRAM_BUCKETS, UNKNOWN, Reader, Words
from widemax.storage import sound
from widemax.task import System

CHUNK_SENTENCES = 1024
"""Sentences that are read before any is parsed, so that those of like length go together."""
BATCH_WORDS = 2000
Beam = Annotated[int, Field(ge=1, le=1024)]
VOCABULARY = "vocabulary.json"


class Tree(NamedTuple):
    """The dependencies of a sentence.

    Args:
        heads: number of each word's head, counted from 1; 0 for the root.
        relations: relation of each word to its head.
    """

    heads: list[int]
    relations: list[str]


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


@final
class Parser(SavedSystem):
    """Parses sentences by a transition system whose actions a network scores.

    Args:
        config: its [parser] is :class:`widemax.parsing.ParserConfig`; ``data.input`` names which of "UPOS",
            "XPOS", "FEATS" are read beside the words.
        vocabulary: of the training sentences.

    Attributes:
        can_tag: whether it gives itself the tags that it reads where a sentence lacks them.

    Example:
        >>> parser = Parser.load("run")  # doctest: +SKIP
        >>> parser.parse([["I", "see", "stars"]])  # doctest: +SKIP
        [Tree(heads=[2, 0, 2], relations=['nsubj', 'root', 'obj'])]
    """

    task = System.PARSING
    classes_files = (VOCABULARY,)
    head = None

    def __init__(self, config: Config, vocabulary: Vocabulary) -> None:
        self.config, self.columns, self.vocabulary = config, config.data.input, vocabulary
        self.settings = own = ParserConfig(**config.parser.options)
        self.reader = Reader(vocabulary.forms, vocabulary.tags, self.columns)
        self.actions = Actions(
            transition_systems[own.system](),
            vocabulary.relations,
            np.array(vocabulary.of_root, dtype=np.bool_),
            np.array(vocabulary.of_word, dtype=np.bool_),
        )
        self.slots = Slots(own.slots)
        self.named = {
            column: tags for column, tags in vocabulary.tagged.items() if own.tagging and len(tags) > 1
        }
        """The columns of tags that the network names, and the values of each."""
        self.encoder = self.scorer = Scorer(
            num_forms=len(vocabulary.forms),
            num_tags=len(vocabulary.tags),
            buckets=NGRAM_BUCKETS,
            num_slots=len(self.slots),
            num_actions=len(self.actions),
            num_relations=len(vocabulary.relations) + 1 if self.slots.has_dependents else 0,
            encoder=own.encoder,
            tag_sizes=tuple(map(len, self.named.values())),
            form_dim=own.form_dim,
            tag_dim=own.tag_dim,
            layers=own.layers,
            hidden=own.hidden,
            action_dim=own.action_dim,
            dropout=own.dropout,
        )
        self._relation_ids = {name: at for at, name in enumerate(vocabulary.relations)}
        self._tag_ids = [{tag: at for at, tag in enumerate(tags)} for tags in self.named.values()]
        self.can_tag = any(column in self.named for column in self.columns)
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
            sections: further keys of a config, such as ``parser={"hidden": 100}``.

        Raises:
            ConfigError: an unknown key, or a value out of range.
            DataError: a file is no CoNLL-U, or a tree is none.
            UsageError: the folder already holds something.

        Example:
            >>> parser = Parser.train("train.conllu", valid="dev.conllu", out="run")  # doctest: +SKIP
        """
        from widemax.training.loop import train

        data = {"train": treebank, "valid": valid, "task": cls.task, **sections.pop("data", {})}
        given: dict[str, Any] = {**sections, "data": data, "output": {"dir": out}}
        parser = train(Config(**given), overwrite=overwrite).model
        assert isinstance(parser, cls)
        return parser

    @classmethod
    def untrained(cls, folder: Path) -> Self:
        with sound(folder / CONFIG):
            return cls(Config.load(folder / CONFIG), Vocabulary.read(folder / VOCABULARY))

    def write_classes(self, folder: Path) -> None:
        self.vocabulary.write(folder / VOCABULARY)

    def facts(self) -> dict[str, Any]:
        return super().facts() | {"num_classes": len(self.actions), "dim": self.settings.action_dim}

    @partial(checked, of="parser.parse")
    def parse(self, sentences: Sequence[Sentence | Sequence[str]], *, beam: Beam | None = None) -> list[Tree]:
        """The trees of sentences, each given as its words or as it was read from CoNLL-U.

        Args:
            sentences: lists of words, or sentences of ``read_conllu``.
            beam: how many states are kept at once; what the config says by default.

        Raises:
            DataError: a sentence has no word, or lacks the tags that the parser reads.
        """
        whole = (words if isinstance(words, Sentence) else sentence_of(words) for words in sentences)
        return [tree for _, tree in self.parsed(whole, beam=beam)]

    def parsed(
        self, sentences: Iterable[Sentence], *, beam: int | None = None
    ) -> Iterator[tuple[Sentence, Tree]]:
        """Sentences with their trees as they come, in order, a thousand in memory.

        Raises:
            DataError: a sentence lacks the tags that the parser reads.
        """
        stream = iter(sentences)
        while chunk := list(islice(stream, CHUNK_SENTENCES)):
            order = sorted(range(len(chunk)), key=lambda at: -len(chunk[at]))
            trees: dict[int, Tree] = {}
            for batch in in_batches(order, [len(chunk[at]) for at in order], BATCH_WORDS):
                found = self._parse_batch([chunk[at] for at in batch], beam or self.settings.beam)
                trees.update(zip(batch, found, strict=True))
            yield from ((sentence, trees[at]) for at, sentence in enumerate(chunk))

    def _is_untagged(self, sentence: Sentence) -> npt.NDArray[np.bool_]:
        """[N] which words lack a tag that is read: _, where training has seen none.

        Words without features are written _ too: those lack them that have no UPOS either.
        """
        is_untagged_N = np.zeros(len(sentence), dtype=np.bool_)
        for column in self.columns:
            told = "UPOS" if column == "FEATS" else column
            if "_" not in self.vocabulary.tagged.get(told, ()):
                is_untagged_N |= np.array(sentence.column(told)) == "_"
        return is_untagged_N

    def _words(self, sentences: Sequence[Sentence]) -> Words:
        """The words of sentences with their tags, of which the network gives those that are absent.

        Raises:
            DataError: a tag is absent, and the network has not learned to give it.
        """
        untagged = [self._is_untagged(sentence) for sentence in sentences]
        for sentence, is_N in zip(sentences, untagged, strict=True):
            if is_N.any() and not self.can_tag:
                raise DataError(
                    f"{sentence.where(sentence.words[is_N.argmax()])}: this parser reads "
                    f"{', '.join(self.columns)}, and some of it is missing. Tag the file first, or train "
                    "with parser.tagging above 0."
                )
        words = self.reader(sentences)
        if not any(is_N.any() for is_N in untagged):
            return words
        named = zip(self.named.items(), self.scorer.tags(words), strict=True)
        given = {column: iter([tags[at] for at in ids_W.tolist()]) for (column, tags), ids_W in named}
        tagged = []
        for sentence, is_N in zip(sentences, untagged, strict=True):
            columns = {}
            for column in self.columns:
                own = columns[column] = sentence.column(column)
                for at, name in enumerate(islice(given.get(column, iter(())), len(own))):
                    if is_N[at] and own[at] == "_":
                        own[at] = name
            tagged.append(sentence_of(sentence.column("FORM"), **columns))
        return self.reader(tagged)

    @torch.no_grad()
    def _parse_batch(self, sentences: Sequence[Sentence], beam: int) -> list[Tree]:
        """Trees of sentences, the longest first."""
        self.scorer.eval()
        words = self._words(sentences)
        slots_WSH, _ = self.scorer.encode(words)
        n_B = words.lengths_B
        states = self._greedy(slots_WSH, n_B) if beam == 1 else self._beam(slots_WSH, n_B, beam)
        trees = []
        for row, n in enumerate(n_B.tolist()):
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

    def _beam(self, slots_WSH: Tensor, lengths_B: Ints, K: int) -> States:
        """The states of the best sum of log-probabilities, of K kept after every step for each sentence."""
        A = len(self.actions)
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
            for column, ids in zip(self.named, self._tag_ids, strict=True)
        ]
        return Gold(heads_BN, relations_BN, tags)

    def with_unknown(self, words: Words) -> Words:
        """The same words, of which rare ones are now and then taken for unknown."""
        form_W = torch.from_numpy(words.form_W)
        alpha = self.settings.unknown
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

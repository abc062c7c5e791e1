"""The saved language model: its vocabulary, its network and its head; loading runs no code from it."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from widemax.artifact.facts import CONFIG, LABELS
from widemax.artifact.system import SavedSystem
from widemax.artifact.tables import read_pieces, write_pieces
from widemax.classes import Classes
from widemax.config import Config
from widemax.errors import ConfigError, DataError
from widemax.heads import AdaptiveHead, LinearHead, heads
from widemax.language.decoder import Decoder, decoders
from widemax.language.sampling import Temperature, TopP, sample
from widemax.language.tokens import ListedVocabulary, Stream, SubwordVocabulary, Vocabulary, lines_of
from widemax.options import AtLeast1, checked
from widemax.sequences import Subwords
from widemax.sequences.subwords import SUBWORDS
from widemax.storage import check_folder, sound
from widemax.task import System

MOST_NATS = 700.0
"""Of more the exponential is no float."""
USUAL_DECODER = "lstm"
MOST_FOR_EXACT = 10_000
"""Of more classes the head "auto" is adaptive: as good at the same epochs, in a third of the time or less."""
ROWS_AT_ONCE, TOKENS_AT_ONCE = 16, 128
"""Places of a text that are read together, and how many tokens of each at a time."""
AtLeast0 = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class TokenAnswers(NamedTuple):
    """What a model says of each token of a text, given those before it.

    Attributes:
        log_probs_N: float32, the log-probability of the token among all classes, in nats.
        ranks_N: int32, its rank among all classes, 1 for the most probable one.
    """

    log_probs_N: np.ndarray
    ranks_N: np.ndarray


def perplexity_of(nll: float) -> float:
    """The perplexity of nats a token, which stays a number however many these are."""
    return math.exp(min(nll, MOST_NATS))


@dataclass(frozen=True, eq=False)
class LanguageModel(SavedSystem):
    """A model of the next token of a text.

    Args:
        config: what it was trained with.
        vocabulary: the tokens that are classes.
        counts: int64 [C], how often each stands in the training text.
        encoder: the network that reads the text.
        head: chooses the next token; its weights are the vectors of tokens ("tied weights").

    Example:
        >>> model = LanguageModel.load("run")  # doctest: +SKIP
        >>> model.perplexity("to be or not to be\\n")  # doctest: +SKIP
        97.2
        >>> model.continue_("to be or", tokens=4, seed=1)  # doctest: +SKIP
        ' not to be ,'
    """

    task = System.LANGUAGE
    classes_files = (LABELS,)

    config: Config
    vocabulary: Vocabulary
    counts: np.ndarray
    encoder: Decoder
    head: LinearHead | AdaptiveHead

    @classmethod
    def build(cls, config: Config, vocabulary: Vocabulary, counts: np.ndarray) -> Self:
        """A model before its training, with the completed config.

        Args:
            config: what differs from the defaults is enough.
            vocabulary: the tokens that are classes.
            counts: int64 [C], how often each stands in the training text.

        Raises:
            ConfigError: a head without vectors of classes, or which makes no softmax.
            OptionError: an option that does not exist, or a wrong value.
        """
        decoder_kind, decoder = build_decoder(config)
        usual = "exact" if len(vocabulary) <= MOST_FOR_EXACT else "adaptive"
        kind = usual if config.head.kind == "auto" else config.head.kind
        if kind not in TIED or config.head.weight is not None:
            raise ConfigError(
                f"head.kind must be {' or '.join(map(repr, TIED))} in a language model, without a tower; "
                f"got {kind!r}."
            )
        options = heads.options(kind).complete({**TIED[kind], **config.head.options})
        head = heads[kind](Classes(len(vocabulary), torch.from_numpy(counts)), decoder.dim, **options)
        assert isinstance(head, LinearHead | AdaptiveHead)
        if head.normalizer != "softmax":
            raise ConfigError("one token follows another: head.loss must be that of a softmax.")
        own = decoders.options(decoder_kind).complete(config.encoder.options)
        config = config.updated(
            encoder=config.encoder.completed(decoder_kind, own), head=config.head.completed(kind, options)
        )
        return cls(config, vocabulary, counts, decoder, head)

    @classmethod
    def untrained(cls, folder: Path) -> Self:
        with sound(folder / CONFIG):
            config = Config.load(folder / CONFIG)
            unit = build_decoder(config)[1].unit
        labels, counts = read_pieces(folder / LABELS)
        vocabulary: Vocabulary
        if unit == "subword":
            check_folder(folder, [SUBWORDS])
            vocabulary = SubwordVocabulary(Subwords.read(folder / SUBWORDS, labels))
        else:
            with sound(folder / LABELS):
                vocabulary = ListedVocabulary(unit, labels)
        with sound(folder / CONFIG):
            return cls.build(config, vocabulary, counts)

    def write_classes(self, folder: Path) -> None:
        if isinstance(self.vocabulary, SubwordVocabulary):
            self.vocabulary.subwords.write(folder / SUBWORDS)
        write_pieces(folder / LABELS, self.vocabulary.labels, self.counts)

    def embedded(self, ids: Tensor) -> Tensor:
        """[..., D] the vectors of tokens [...], which the head compares hidden vectors with, times √D."""
        vectors: Tensor = self.head.embed(ids) * self.head.dim**0.5
        return vectors

    @torch.no_grad()
    def answers(self, stream: Stream) -> TokenAnswers:
        """What it says of each token of a text, among all classes.

        The first token follows a newline. Of a long text several places are read together, each after the
        ``context`` tokens before it, so that a token is told from all before it or from so many at least.
        """
        log_probs_N, ranks_N = torch.empty(len(stream)), torch.empty(len(stream), dtype=torch.int32)
        for places, hidden, ids in self._hidden_of(stream):
            found = self.head.answer(hidden, ids, k=1)
            log_probs_N[places], ranks_N[places] = found.label_log_probs, found.label_ranks.int()
        return TokenAnswers(log_probs_N.numpy(), ranks_N.numpy())

    @torch.no_grad()
    def log_probs(self, stream: Stream) -> np.ndarray:
        """float32 [N] the log-probabilities of :meth:`answers`, in less time than with the ranks."""
        log_probs_N = torch.empty(len(stream))
        for places, hidden, ids in self._hidden_of(stream):
            log_probs_N[places] = self.head.log_probs(hidden, ids[:, None]).squeeze(1)
        return log_probs_N.numpy()

    def _hidden_of(self, stream: Stream) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Places [P] of a text, their hidden vectors [P, D], and the tokens [P] that stand there."""
        decoder, num_tokens = self.encoder.eval(), len(stream)
        ids_N = torch.from_numpy(stream.ids_N.astype(np.int64))
        read_N = torch.cat([torch.tensor([self.vocabulary.end]), ids_N[:-1]])
        segment = decoder.segment(num_tokens)
        for first_B in torch.split(torch.arange(0, num_tokens, segment), ROWS_AT_ONCE):
            start_B = (first_B - decoder.context).clamp(min=0)
            end_B = (first_B + segment).clamp(max=num_tokens)
            state, width = None, int((end_B - start_B).max())
            for some_T in torch.split(torch.arange(width), TOKENS_AT_ONCE):
                at_BT = start_B[:, None] + some_T
                asked_BT = (at_BT >= first_B[:, None]) & (at_BT < end_B[:, None])
                vectors = self.embedded(read_N[at_BT.clamp(max=num_tokens - 1)])
                hidden_BTD, state = decoder(vectors, state)
                if asked_BT.any():
                    places = at_BT[asked_BT]
                    yield places, hidden_BTD[asked_BT], ids_N[places]

    @checked
    def perplexity(self, text: str | Iterable[str]) -> float:
        """exp of the mean negative log-likelihood a token, each among all classes.

        Args:
            text: as one, or as lines, each with its newline.

        Raises:
            DataError: a text without a token.
        """
        lines = lines_of(text) if isinstance(text, str) else text
        stream = Stream.of(lines, self.vocabulary)
        if not len(stream):
            raise DataError("a text without a token has no perplexity. Give more text.")
        return perplexity_of(-float(self.log_probs(stream).mean(dtype=np.float64)))

    @checked
    def continue_(
        self,
        text: str,
        *,
        tokens: AtLeast0 = 100,
        temperature: Temperature = 1.0,
        top_k: AtLeast1 | None = None,
        top_p: TopP | None = None,
        seed: Seed = 0,
        before_step: Callable[[], object] | None = None,
    ) -> str:
        """What may follow a text, token by token; the class of unknown tokens is left out.

        Args:
            text: which is to be continued; it follows a newline.
            tokens: how many follow.
            temperature, top_k, top_p: of :func:`~widemax.language.sample`; a temperature of 0 takes the most
                probable token each time.
            seed: of the randomness: the same one continues alike.
            before_step: called before each token; what it raises ends the continuation.
        """
        generator = torch.Generator().manual_seed(seed)
        ids = [id_ for row in self.vocabulary.encode(lines_of(text)) for id_ in row]
        options: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        tokens_after = self._following([self.vocabulary.end, *ids], generator, options)
        new = []
        for _ in range(tokens):
            if before_step is not None:
                before_step()
            new.append(next(tokens_after))
        following = self.vocabulary.decode([*ids, *new])[len(self.vocabulary.decode(ids)) :]
        is_apart = self.encoder.unit == "word" and text[-1:].isspace()
        return following.removeprefix(" ") if is_apart else following

    @torch.no_grad()
    def _following(
        self, ids: list[int], generator: torch.Generator, options: dict[str, Any]
    ) -> Iterator[int]:
        """One token after another, each of which is read once; what does not fit in the network is left."""
        decoder, state = self.encoder.eval(), None
        unread = list(ids)
        while True:
            room = decoder.room(state)
            if len(unread) > room:
                ids, state = ids[-max(decoder.context, 1) :], None
                unread = ids
            hidden_1TD, state = decoder(self.embedded(torch.tensor([unread])), state)
            logits_1C = self.head.logits(hidden_1TD[:, -1])
            logits_1C[:, self.vocabulary.unknown] = -torch.inf
            new = int(sample(logits_1C, generator=generator, **options)[0])
            yield new
            ids, unread = [*ids, new], [new]


TIED: dict[str, dict[str, Any]] = {"exact": {}, "adaptive": {"div_value": 2.0}, "sampled": {}}
"""The heads whose weights can be the vectors of tokens, and what they take where a config names nothing.

Clusters that narrow by 4 cost 7 % of perplexity on held-out documents, by 2 nothing, at the same epochs.
"""


def build_decoder(config: Config) -> tuple[str, Decoder]:
    """The network that a config names, and its name.

    Raises:
        ConfigError: there is no such network.
        OptionError: an option that does not exist, or a wrong value.
    """
    kind = USUAL_DECODER if config.encoder.kind == "auto" else config.encoder.kind
    if kind not in decoders.names():
        raise ConfigError(
            f"encoder.kind must be {' or '.join(map(repr, decoders.names()))} in a language model; "
            f"got {kind!r}."
        )
    return kind, decoders[kind](**decoders.options(kind).complete(config.encoder.options))

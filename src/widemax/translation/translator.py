"""The saved translator: its pieces, its network and its head; loading runs no code from it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
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
from widemax.errors import ConfigError
from widemax.heads import LinearHead, heads
from widemax.options import AtLeast1, checked
from widemax.sequences import Subwords, beam_search
from widemax.sequences.subwords import END, START, SUBWORDS
from widemax.storage import sound
from widemax.task import System
from widemax.translation.pairs import Pieces
from widemax.translation.transformer import EncoderDecoder, translators

LINES_AT_ONCE = 64
"""Lines that are translated together; they are sorted by length, so that little is padding."""
MORE_PIECES = 1.5, 10
"""A translation has at most so many times the pieces of its source, and so many more."""


class Translation(NamedTuple):
    """A line in the other language.

    Attributes:
        text: the line.
        score: its log-probability, divided by the length penalty.
        others: the next best that the search found, where more than one was asked for.
    """

    text: str
    score: float
    others: tuple["Translation", ...] = ()


@dataclass(frozen=True, eq=False)
class Translator(SavedSystem):
    """A model that translates line by line.

    Args:
        config: what it was trained with.
        subwords: the pieces of both languages.
        counts: int64 [V], how often each piece stands in the targets.
        encoder: the network.
        head: chooses the next piece; its weights are the vectors of pieces.

    Example:
        >>> translator = Translator.load("run")  # doctest: +SKIP
        >>> next(translator.translate(["a dog runs ."])).text  # doctest: +SKIP
        'ein hund rennt .'
    """

    task = System.TRANSLATE
    classes_files = LABELS, SUBWORDS

    config: Config
    subwords: Subwords
    counts: np.ndarray
    encoder: EncoderDecoder
    head: LinearHead

    @classmethod
    def build(cls, config: Config, subwords: Subwords, counts: np.ndarray) -> Self:
        """A translator before its training, with the completed config.

        Args:
            config: what differs from the defaults is enough.
            subwords: the pieces of both languages.
            counts: int64 [V], how often each piece stands in the targets, the end of lines included.

        Raises:
            ConfigError: a head without a weight row a class, or which makes no softmax.
            OptionError: an option that does not exist, or a wrong value.
        """
        if config.encoder.kind not in ("auto", "transformer"):
            raise ConfigError(
                f"encoder.kind must be 'transformer' to translate; got {config.encoder.kind!r}."
            )
        kind = "exact" if config.head.kind == "auto" else config.head.kind
        member = heads[kind]
        if not issubclass(member, LinearHead) or config.head.weight is not None:
            raise ConfigError(f"head.kind must be 'exact' or 'sampled' to translate; got {kind!r}.")
        options = translators.options("transformer").complete(config.encoder.options)
        encoder = translators["transformer"](**options)
        asked: dict[str, Any] = {"bias": False, **config.head.options}
        if "loss" not in asked:
            asked = {**member.training_options, **asked}
        if "sparse" in heads.options(kind).keywords:
            asked["sparse"] = False  # what comes through the embedding is dense
        head_options = heads.options(kind).complete(asked)
        head = member(Classes(len(subwords), torch.from_numpy(counts)), encoder.dim, **head_options)
        if head.normalizer != "softmax":
            raise ConfigError("one piece follows another: head.loss must be that of a softmax to translate.")
        config = config.updated(
            encoder=config.encoder.completed("transformer", options),
            head=config.head.completed(kind, head_options),
        )
        return cls(config, subwords, counts, encoder, head)

    @classmethod
    def untrained(cls, folder: Path) -> Self:
        labels, counts = read_pieces(folder / LABELS)
        subwords = Subwords.read(folder / SUBWORDS, labels)
        with sound(folder / CONFIG):
            return cls.build(Config.load(folder / CONFIG), subwords, counts)

    def write_classes(self, folder: Path) -> None:
        self.subwords.write(folder / SUBWORDS)
        write_pieces(folder / LABELS, self.subwords.pieces, self.counts)

    @property
    def table(self) -> Tensor:
        """[V, D] the vectors of pieces."""
        return self.head.weight

    @checked
    def translate(
        self,
        lines: Iterable[str],
        *,
        beam: AtLeast1 = 5,
        length_penalty: Annotated[float, Field(ge=0)] = 0.6,
        num_best: AtLeast1 = 1,
        before_step: Callable[[], object] | None = None,
    ) -> Iterator[Translation]:
        """The translation of each line, in order, as lines come.

        Args:
            lines: texts, as long as there are any.
            beam: hypotheses that are kept; 1 takes the most probable piece each time.
            length_penalty, num_best: of :func:`~widemax.sequences.beam_search`.
            before_step: called before each step of the search; what it raises ends the search.
        """
        coming = iter(lines)
        options = {"beam": beam, "length_penalty": length_penalty, "num_best": num_best}
        while part := list(islice(coming, LINES_AT_ONCE)):
            yield from self._translated(part, before_step, **options)

    @torch.no_grad()
    def _translated(
        self, lines: list[str], before_step: Callable[[], object] | None, **options: Any
    ) -> list[Translation]:
        pieces = Pieces.of(iter(lines), self.subwords)
        asked = np.flatnonzero(pieces.lengths > 0)
        found = [Translation("", 0.0)] * len(lines)
        if not len(asked):
            return found
        encoder = self.encoder.eval()
        source = pieces.padded(asked, last=END, most=encoder.max_pieces)
        memory, where = encoder.encode(source, self.table)
        caches = encoder.decoder.caches()
        beams = 1  # hypotheses of a line

        def best(latest_R: Tensor, n: int) -> tuple[Tensor, Tensor]:
            if before_step is not None:
                before_step()
            hidden_R1D = encoder.decode(latest_R[:, None], self.table, memory, where, caches)
            chosen = self.head.topk(hidden_R1D[:, 0], n)
            return chosen.class_ids, chosen.log_probs

        def take(rows_R: Tensor) -> None:
            nonlocal beams, where
            lines = (rows_R // beams).unique_consecutive()  # type: ignore[no-untyped-call]
            beams = len(rows_R) // len(lines)
            where = where[lines]
            for own, across in caches:
                own.take(rows_R)
                across.take(lines)

        times, more = MORE_PIECES
        hypotheses = beam_search(
            *(best, take, len(asked)),
            start=START,
            end=END,
            max_length=[round(times * length) + more for length in pieces.lengths[asked].tolist()],
            **options,
        )
        for line, tokens, score, others in zip(asked.tolist(), *hypotheses, strict=True):
            text, *texts = self.subwords.decode([tokens, *(each for each, _ in others)])
            next_best = zip(texts, (each for _, each in others), strict=True)
            found[line] = Translation(text, score, tuple(Translation(*each) for each in next_best))
        return found

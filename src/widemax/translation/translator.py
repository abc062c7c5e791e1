"""The saved translator: its pieces, its network and its head; loading runs no code from it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import Field
from torch import Tensor

from widemax.artifact import (
    CONFIG,
    ENCODER,
    LABELS,
    read_head,
    read_network,
    read_system,
    write_head,
    write_tensors,
)
from widemax.classes import Classes
from widemax.config import Config
from widemax.data import LabelVocabulary
from widemax.errors import ConfigError, CorruptError
from widemax.heads import LinearHead, heads
from widemax.options import checked
from widemax.sequences import Subwords, beam_search
from widemax.sequences.subwords import END, START
from widemax.storage import saving, sound
from widemax.task import System
from widemax.translation.pairs import Pieces
from widemax.translation.transformer import EncoderDecoder, translators

SUBWORDS = "subwords.model"
LINES_AT_ONCE = 64
"""Lines that are translated together; they are sorted by length, so that little is padding."""
MORE_PIECES = 1.5, 10
"""A translation has at most so many times the pieces of its source, and so many more."""
AtLeast1 = Annotated[int, Field(ge=1)]


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
class Translator:
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

    task: ClassVar[System] = System.TRANSLATE

    config: Config
    subwords: Subwords
    counts: np.ndarray
    encoder: EncoderDecoder
    head: LinearHead

    @classmethod
    def build(cls, config: Config, subwords: Subwords, counts: np.ndarray) -> "Translator":
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
        config = config.model_copy(
            update={
                "encoder": config.encoder.completed("transformer", options),
                "head": config.head.completed(kind, head_options),
            }
        )
        return cls(config, subwords, counts, encoder, head)

    @classmethod
    @checked
    def load(cls, run: Path | str, *, trusted_key: Path | str | None = None) -> "Translator":
        """Read the translator of a run, all its files checked.

        Raises:
            CorruptError: a file is missing or altered, or tensors do not fit.
            UsageError: the folder holds no translator.
        """
        files = [CONFIG, LABELS, ENCODER, SUBWORDS]
        return read_system(run, System.TRANSLATE, files, cls._read, trusted_key=trusted_key)

    @classmethod
    def _read(cls, folder: Path) -> "Translator":
        subwords = Subwords((folder / SUBWORDS).read_bytes())
        with sound(folder / LABELS):
            vocabulary = LabelVocabulary.from_table(pq.read_table(folder / LABELS))
        if vocabulary.labels.to_pylist() != subwords.pieces:
            raise CorruptError(
                f"{folder / LABELS} must hold the pieces of {SUBWORDS}. Restore them from a copy."
            )
        with sound(folder / CONFIG):
            made = cls.build(Config.load(folder / CONFIG), subwords, vocabulary.counts)
        made.read_weights(folder / "weights")
        return made

    def read_weights(self, folder: Path) -> None:
        """Take over the weights in a folder.

        Raises:
            CorruptError: they are damaged or do not fit.
        """
        read_network(folder / Path(ENCODER).name, self.encoder)
        read_head(folder, self.head)

    def facts(self) -> dict[str, Any]:
        """What the manifest says of it beside its files."""
        return {
            "widemax_version": version("widemax"),
            "num_classes": self.head.num_classes,
            "dim": self.head.dim,
            "dtype": str(self.table.dtype).removeprefix("torch."),
            "task": System.TRANSLATE,
        }

    def write(self, folder: Path, *, home: Path) -> None:
        """Write its files, without the manifest, into an existing folder that is to stand at ``home``."""
        with saving(str(folder)):
            (folder / "weights").mkdir()
            write_tensors(folder / ENCODER, self.encoder.state_dict())
            write_head(folder / "weights", self.head)
            (folder / SUBWORDS).write_bytes(self.subwords.model)
            vocabulary = LabelVocabulary(pa.array(self.subwords.pieces), self.counts)
            pq.write_table(vocabulary.to_table(), folder / LABELS)
            (folder / CONFIG).write_text(self.config.to_toml(home=home), encoding="utf-8")

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

"""Runs that are no classifiers behind HTTP: sentences become trees, lines translations, texts go on.

A system is served by one class here: what a body may hold, how bounded it is, and what is answered to a row.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from threading import Event
from typing import Annotated, Any, ClassVar

from pydantic import Field, TypeAdapter

from widemax.errors import DataError, UsageError, shown
from widemax.options import Options
from widemax.serving.batches import GoneError
from widemax.serving.bodies import whole
from widemax.task import System

MAX_ROWS = 64
MAX_CHARACTERS = 5_000
"""Of a line or a text."""
MAX_WORDS = 1_000
MAX_BEAM = 16
MAX_TOKENS = 1_000

Beam = Annotated[int, Field(ge=1, le=MAX_BEAM)]


@dataclass(frozen=True)
class Asked:
    """What a request asks: rows, and the same options for all of them.

    Attributes:
        over: set once nobody waits for the answer any more.
    """

    rows: Sequence[Any]
    options: Mapping[str, Any]
    over: Event = field(default_factory=Event)


@dataclass(frozen=True, eq=False)
class ServedSystem(ABC):
    """A run of a system as it answers requests.

    Attributes:
        name: what it is called in addresses.
        folder: where it was read.
        model: what answers.
        sha256: of its manifest, which holds the hashes of all its files.
        facts: what its manifest says.
    """

    name: str
    folder: Path
    model: Any
    sha256: str
    facts: Mapping[str, Any]

    reply: ClassVar[dict[str, Any]]
    """The schemas of what is answered to a row."""

    @property
    @abstractmethod
    def row(self) -> dict[str, Any]:
        """The JSON schema of a row."""

    @property
    @abstractmethod
    def example(self) -> dict[str, Any]:
        """A body that can be sent as it stands."""

    @abstractmethod
    def question(self, *, inputs: Any) -> Asked:
        """What a body asks; the keywords are its keys."""

    @abstractmethod
    def answers(
        self, rows: Sequence[Any], *, before_step: Callable[[], None], **options: Any
    ) -> Iterable[dict[str, Any]]:
        """What is answered to rows; ``before_step`` is called now and then, and may raise."""

    def read(self, body: Mapping[str, Any]) -> Asked:
        """What a body asks.

        Raises:
            DataError: a row is none.
            UsageError: an unknown key, a value out of range, or too many rows.
        """
        return self.question(**self._keys().complete(whole(body)))

    @classmethod
    def _keys(cls) -> Options:
        """What a body may hold, the keywords of ``question``."""
        return Options(cls.question, of="the body")

    def predict(self, asked: Sequence[Asked]) -> list[list[dict[str, Any]] | Exception]:
        """The answers to some requests; those with the same options are computed together."""
        results: list[list[dict[str, Any]] | Exception] = [[] for _ in asked]
        done: set[int] = set()
        for first, one in enumerate(asked):
            if first not in done:
                alike = [at for at, other in enumerate(asked) if other.options == one.options]
                done.update(alike)
                rows = [row for at in alike for row in asked[at].rows]
                before_step = partial(check_somebody_waits, [asked[at].over for at in alike])
                answers = iter(list(self.answers(rows, before_step=before_step, **one.options)))
                for at in alike:
                    results[at] = [{"row": row, **next(answers)} for row in range(len(asked[at].rows))]
        return results

    @cached_property
    def said(self) -> dict[str, Any]:
        """What stands beside every answer."""
        return {"model": self.name, "sha256": self.sha256}

    @cached_property
    def description(self) -> dict[str, Any]:
        """What ``/v1/model`` says."""
        return {
            **self.said,
            "task": self.model.task.value,
            "num_classes": self.facts.get("num_classes"),
            "example": self.example,
            "metrics": self.facts["metrics"],
            "widemax_version": self.facts["widemax_version"],
        }

    @property
    def body(self) -> dict[str, Any]:
        """The schema of a body."""
        rows = {"type": "array", "items": self.row, "minItems": 1, "maxItems": MAX_ROWS}
        alone = self.row.get("anyOf", [self.row])[0]
        keys = {
            name: {**TypeAdapter(key.annotation).json_schema(), "default": key.default}
            for name, key in self._keys().keywords.items()
            if name != "inputs"
        }
        return {
            "type": "object",
            "required": ["inputs"],
            "properties": {"inputs": {"anyOf": [rows, alone]}, **keys},
            "additionalProperties": False,
            "example": self.example,
        }


def check_somebody_waits(overs: Sequence[Event]) -> None:
    """Let a computation go on as long as somebody waits for what comes of it.

    Raises:
        GoneError: nobody does.

    Example:
        >>> gone, stays = Event(), Event()
        >>> gone.set()
        >>> check_somebody_waits([gone, stays])
    """
    if all(over.is_set() for over in overs):
        raise GoneError("the client has gone.")


def texts_of(inputs: Any) -> list[str]:
    """The texts of a body, of bounded number and length.

    Raises:
        DataError: one is none, or is too long.
        UsageError: there are none or too many.

    Example:
        >>> texts_of(["a dog", "a cat"])
        ['a dog', 'a cat']
    """
    rows = rows_of(inputs)
    for number, text in enumerate(rows):
        if not isinstance(text, str) or len(text) > MAX_CHARACTERS:
            got = f"{len(text):,} characters" if isinstance(text, str) else shown(text)
            raise DataError(
                f"row {number}: it must be a text of at most {MAX_CHARACTERS:,} characters; got {got}."
            )
    return rows


def rows_of(inputs: Any) -> list[Any]:
    """The rows of a body; one that is no list is the only one.

    Raises:
        UsageError: there are none or too many.
    """
    rows = inputs if isinstance(inputs, list) else [inputs]
    if not 1 <= len(rows) <= MAX_ROWS:
        raise UsageError(f"inputs must hold 1 to {MAX_ROWS:,} rows; got {len(rows):,}.")
    return rows


TEXT: dict[str, Any] = {"type": "string", "maxLength": MAX_CHARACTERS}


class ServedTranslator(ServedSystem):
    """A line of text is answered by its translation."""

    row: ClassVar = TEXT
    reply: ClassVar = {
        "translation": {"type": "string"},
        "score": {"type": "number", "description": "The log-probability, divided by the length penalty."},
        "alternatives": {
            "type": "array",
            "description": "The next best that the beam has found, k − 1 at most.",
            "items": {
                "type": "object",
                "properties": {"translation": {"type": "string"}, "score": {"type": "number"}},
            },
        },
        "cut": {"type": "boolean", "description": "Whether the line was longer than the model reads."},
    }
    example: ClassVar = {"inputs": ["a dog runs ."], "beam": 5, "k": 3}

    def question(self, *, inputs: Any, beam: Beam = 5, k: Beam = 1) -> Asked:
        """Lines, how many hypotheses are kept of each, and how many of them are told."""
        return Asked(texts_of(inputs), {"beam": beam, "num_best": k})

    def answers(self, rows: Sequence[str], **options: Any) -> Iterable[dict[str, Any]]:
        """The translation of each line; line breaks in it are spaces."""
        lines = [" ".join(row.splitlines()) for row in rows]
        lengths = map(len, self.model.subwords.encode(lines))
        for found, length in zip(self.model.translate(lines, **options), lengths, strict=True):
            others = [{"translation": other.text, "score": other.score} for other in found.others]
            is_cut = length > self.model.encoder.max_pieces
            yield {"translation": found.text, "score": found.score, "alternatives": others, "cut": is_cut}


class ServedParser(ServedSystem):
    """A sentence is answered by its words, and by the head and the relation of each."""

    reply: ClassVar = {
        "words": {"type": "array", "items": {"type": "string"}},
        "heads": {
            "type": "array",
            "description": "The number of each word's head from 1; 0 of the root.",
            "items": {"type": "integer", "minimum": 0},
        },
        "relations": {"type": "array", "items": {"type": "string"}},
    }

    @property
    def row(self) -> dict[str, Any]:
        """A text, or words; where the parser reads tags also an object of words and these."""
        text = {**TEXT, "minLength": 1, "pattern": r"\S"}
        words = {"type": "array", "items": text, "minItems": 1, "maxItems": MAX_WORDS}
        names = ["words", *self.model.columns]
        tagged = {"type": "object", "required": names, "additionalProperties": False}
        tagged["properties"] = dict.fromkeys(names, words)
        if not self.model.columns:
            return {"anyOf": [text, words]}
        return {"anyOf": [text, words, tagged]} if self.model.can_tag else tagged

    @property
    def example(self) -> dict[str, Any]:
        """A sentence."""
        words = ["The", "dog", "sees", "a", "bird", "."]
        tags = {column: ["X"] * len(words) for column in self.model.columns}
        return {"inputs": [{"words": words, **tags} if tags else words]}

    def question(self, *, inputs: Any, beam: Beam | None = None) -> Asked:
        """Sentences, and how many states are kept of each."""
        sentences = [self._sentence(number, row) for number, row in enumerate(rows_of(inputs))]
        return Asked(sentences, {"beam": beam})

    def _sentence(self, number: int, row: Any) -> Any:
        from widemax.parsing import sentence_of, words_in

        columns = self.model.columns
        if columns and (isinstance(row, dict) or not self.model.can_tag):
            names = ["words", *columns]
            if not isinstance(row, dict) or set(row) != set(names):
                raise DataError(f"row {number}: it must be an object of {', '.join(names)}, a list each.")
            words, tags = row["words"], {column: row[column] for column in columns}
        else:
            words, tags = words_in(row) if isinstance(row, str) else row, {}
        for name, values in {"words": words, **tags}.items():
            if not isinstance(values, list) or not 1 <= len(values) <= MAX_WORDS:
                raise DataError(
                    f"row {number}: {name} must be a list of 1 to {MAX_WORDS:,} texts, or a text."
                )
            if len(values) != len(words) or not all(map(_is_word, values)):
                raise DataError(f"row {number}: {name} must hold a text for each word, none of them empty.")
        return sentence_of(words, **tags)

    def answers(
        self, rows: Sequence[Any], *, before_step: Callable[[], None], **options: Any
    ) -> Iterable[dict[str, Any]]:
        """The tree of each sentence."""
        for sentence, tree in self.model.parsed(rows, **options):
            before_step()
            yield {"words": sentence.column("FORM"), **tree._asdict()}


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and len(value) <= MAX_CHARACTERS


class ServedLanguageModel(ServedSystem):
    """A text is answered by what may follow it."""

    row: ClassVar = TEXT
    reply: ClassVar = {"continuation": {"type": "string"}}
    example: ClassVar = {"inputs": ["The king"], "tokens": 20, "temperature": 0.8}

    def question(
        self,
        *,
        inputs: Any,
        tokens: Annotated[int, Field(ge=0, le=MAX_TOKENS)] = 100,
        temperature: Annotated[float, Field(ge=0, le=100)] = 1.0,
        top_k: Annotated[int, Field(ge=1, le=2**31)] | None = None,
        top_p: Annotated[float, Field(gt=0, le=1)] | None = None,
        seed: Annotated[int, Field(ge=0, le=2**31)] = 0,
    ) -> Asked:
        """Texts, how many tokens follow, and how they are drawn."""
        options = {"tokens": tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}
        return Asked(texts_of(inputs), options)

    def predict(self, asked: Sequence[Asked]) -> list[list[dict[str, Any]] | Exception]:
        """The answers to some requests, one after another: a row is drawn by its number in its request."""
        return [answer for one in asked for answer in super(ServedLanguageModel, self).predict([one])]

    def answers(self, rows: Sequence[str], *, seed: int = 0, **options: Any) -> Iterable[dict[str, Any]]:
        """What follows each text."""
        for number, text in enumerate(rows):
            yield {"continuation": self.model.continue_(text, seed=seed + number, **options)}


SERVED: Mapping[object, type[ServedSystem]] = {
    System.LANGUAGE: ServedLanguageModel,
    System.PARSING: ServedParser,
    System.TRANSLATE: ServedTranslator,
}
"""What serves a run of each system."""

"""Texts as one stream of tokens: words, pieces of words, or characters. Shapes: N tokens, C classes."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple, final

import numpy as np

from widemax.data.formats.text import numbered_lines, text_of
from widemax.errors import CorruptError
from widemax.options import checked
from widemax.sequences import Subwords
from widemax.sequences.subwords import END, UNKNOWN

UNKNOWN_LABEL, NEWLINE = "<unk>", "\n"
LINES_AT_ONCE = 4096
Unit = Literal["word", "subword", "character"]


@checked
def read_lines(paths: Sequence[str | Path], *, encoding: str | None = None) -> Iterator[str]:
    """The lines of text files, one file after another, zipped or not, each with the newline it ends in.

    Raises:
        DataError: a file cannot be read, or a line is no text.
        UsageError: there is no such file, or no such encoding.
    """
    for place, line in numbered_lines(paths, encoding=encoding):
        yield text_of(line, place).replace("\r\n", NEWLINE)


def lines_of(text: str) -> list[str]:
    r"""The lines of a text, each with the newline it ends in.

    Example:
        >>> lines_of("to be\nor")
        ['to be\n', 'or']
    """
    return list(StringIO(text.replace("\r\n", NEWLINE)))


class Sizes(NamedTuple):
    """How many classes a vocabulary may have, and how often a token must occur to be one."""

    most: int
    min_count: int


class Vocabulary(ABC):
    """The tokens that are classes, and how a text becomes a stream of them and the reverse.

    Attributes:
        labels: [C] the token of each class.
        unknown: the class of every token that has none of its own.
        end: the class of the newline.
    """

    labels: list[str]
    unknown: int
    end: int

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """The classes of the tokens of each line, its newline included."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of classes."""


def words_of(line: str) -> list[str]:
    """The words of a line, between white space, and its newline.

    Example:
        >>> words_of("to  be\\n")
        ['to', 'be', '\\n']
    """
    return [*line.split(), *([NEWLINE] if line.endswith(NEWLINE) else ())]


def joined(words: Iterable[str]) -> str:
    """Words with a space between those of a line.

    Example:
        >>> joined(["to", "be", "\\n", "or"])
        'to be\\nor'
    """
    return " ".join(words).replace(f" {NEWLINE}", NEWLINE).replace(f"{NEWLINE} ", NEWLINE)


@final
class ListedVocabulary(Vocabulary):
    """Words or characters of a list; every other one is of the class unknown.

    Args:
        unit: "word" or "character".
        labels: [C]; the unknown and the newline come first.

    Raises:
        CorruptError: other labels come first.

    Example:
        >>> words = ListedVocabulary.learn("word", ["to be\\n", "or not to be\\n"], Sizes(99, min_count=2))
        >>> words.labels
        ['<unk>', '\\n', 'be', 'to']
        >>> words.encode(["to see\\n"]), words.decode([3, 2, 1])
        ([[3, 0, 1]], 'to be\\n')
    """

    unknown, end = 0, 1

    def __init__(self, unit: Unit, labels: list[str]) -> None:
        if labels[:2] != [UNKNOWN_LABEL, NEWLINE]:
            raise CorruptError("the first labels of a language model must be the unknown and the newline.")
        cuts: dict[str, Callable[[str], Iterable[str]]] = {"word": words_of, "character": iter}
        self.cut, self.join = cuts[unit], {"word": joined, "character": "".join}[unit]
        self.labels, self.ids = labels, {label: id_ for id_, label in enumerate(labels)}

    @classmethod
    def learn(cls, unit: Unit, lines: Iterable[str], sizes: Sizes) -> "ListedVocabulary":
        """The most frequent tokens of lines, equal ones in their own order."""
        vocabulary = cls(unit, [UNKNOWN_LABEL, NEWLINE])
        counts = Counter(token for line in lines for token in vocabulary.cut(line))
        kept = sorted(
            (-count, token)
            for token, count in counts.items()
            if count >= sizes.min_count and token not in vocabulary.ids
        )
        return cls(unit, [*vocabulary.labels, *(token for _, token in kept[: sizes.most - 2])])

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        get = self.ids.get
        return [[get(token, self.unknown) for token in self.cut(line)] for line in lines]

    def decode(self, ids: Sequence[int]) -> str:
        return self.join(self.labels[id_] for id_ in ids)


@final
class SubwordVocabulary(Vocabulary):
    """Pieces of words, and bytes where no piece fits; the newline ends a line.

    Example:
        >>> pieces = SubwordVocabulary(Subwords.learn(["to be or not"] * 9, size=300))
        >>> pieces.decode(pieces.encode(["to be\\n"])[0])
        'to be\\n'
    """

    unknown, end = UNKNOWN, END

    def __init__(self, subwords: Subwords) -> None:
        self.subwords, self.labels = subwords, subwords.pieces

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        rows = self.subwords.encode([line.removesuffix(NEWLINE) for line in lines])
        pairs = zip(rows, lines, strict=True)
        return [[*row, self.end] if line.endswith(NEWLINE) else row for row, line in pairs]

    def decode(self, ids: Sequence[int]) -> str:
        rows: list[list[int]] = [[]]
        for id_ in ids:
            if id_ == self.end:
                rows.append([])
            else:
                rows[-1].append(id_)
        return NEWLINE.join(self.subwords.decode(rows))


def learn_vocabulary(unit: Unit, lines: Iterable[str], sizes: Sizes) -> Vocabulary:
    """The vocabulary of a text.

    Raises:
        DataError: no text of which subwords can be learned.
    """
    if unit != "subword":
        return ListedVocabulary.learn(unit, lines, sizes)
    return SubwordVocabulary(Subwords.learn((line.removesuffix(NEWLINE) for line in lines), size=sizes.most))


@dataclass(frozen=True, eq=False)
class Stream:
    """A text as its tokens, and its size in units that do not depend on them.

    Args:
        ids_N: int32, the class of each token.
        num_characters, num_bytes: of the text, newlines included; bytes in UTF-8.
        num_lines: that it has.
    """

    ids_N: np.ndarray
    num_characters: int
    num_bytes: int
    num_lines: int

    def __len__(self) -> int:
        return len(self.ids_N)

    @classmethod
    def of(cls, lines: Iterable[str], vocabulary: Vocabulary) -> "Stream":
        """That of lines, a few at a time."""
        coming, parts = iter(lines), [np.empty(0, np.int32)]
        num_characters = num_bytes = num_lines = 0
        while some := list(islice(coming, LINES_AT_ONCE)):
            parts.append(np.fromiter((id_ for row in vocabulary.encode(some) for id_ in row), np.int32))
            num_characters += sum(map(len, some))
            num_bytes += sum(len(line.encode()) for line in some)
            num_lines += len(some)
        return cls(np.concatenate(parts), num_characters, num_bytes, num_lines)

"""CoNLL-U, the files of Universal Dependencies, read sentence by sentence and written back as they were.

A sentence is no row of columns, so this is no member of ``data.formats``: what is written out is the file
that was read, byte by byte, but for the tree. Shapes: N words of a sentence.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from widemax.data.formats.text import open_text
from widemax.errors import BadRowError, DataError, counted

COLUMNS = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")
_HEAD, _DEPREL, _DEPS = 6, 7, 8
_ID = re.compile(r"([1-9][0-9]*)|([1-9][0-9]*)-([1-9][0-9]*)|([0-9]+)\.([1-9][0-9]*)")
_SENT_ID = re.compile(r"#\s*sent_id\s*=\s*(.*?)\s*")
_WORD = re.compile(r"\w+(?:[-'’.,:/@&]\w+)*|[^\w\s]")
MAX_SENTENCE_LINES = 1 << 20


@dataclass(frozen=True)
class Sentence:
    """One sentence as it stands in a file.

    Args:
        source: the name of the file, for messages.
        line: the number of its first line in the file, from 1.
        lines: all its lines with their ends: comments, words, ranges of words written as one, empty nodes,
            and the empty line that ends it.
        words: which of the lines are words, in order.
        cells: the ten columns of each word.
    """

    source: str
    line: int
    lines: tuple[str, ...]
    words: tuple[int, ...]
    cells: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.words)

    @property
    def sent_id(self) -> str | None:
        """What the comment ``# sent_id = …`` says."""
        for line in self.lines:
            found = _SENT_ID.fullmatch(line.rstrip("\r\n"))
            if found:
                return found[1]
        return None

    def column(self, name: str) -> list[str]:
        """One of the ten columns, such as "FORM", of the words [N]."""
        at = COLUMNS.index(name)
        return [cells[at] for cells in self.cells]

    def heads(self) -> list[int]:
        """The number of each word's head, counted from 1; 0 is the root's.

        Raises:
            BadRowError: see :meth:`tree_problems`.
        """
        for problem in self.tree_problems():
            raise BadRowError(problem)
        return [int(head) for head in self.column("HEAD")]

    def where(self, line: int) -> str:
        """How messages name a line of this sentence, counted from 0."""
        name = self.sent_id
        told = f"sentence {name!r}" if name else f"the sentence of line {self.line}"
        return f"{self.source}, line {self.line + line} ({told})"

    def tree_problems(self) -> Iterator[str]:
        """A sentence for each reason why HEAD and DEPREL are no tree with one root."""
        heads = []
        for word, (line, cells) in enumerate(zip(self.words, self.cells, strict=True), start=1):
            head = cells[_HEAD]
            heads.append(int(head) if re.fullmatch(r"0|[1-9][0-9]{0,8}", head) else -1)
            if not 0 <= heads[-1] <= len(self):
                yield (
                    f"{self.where(line)}: HEAD of word {word} must be a number from 0 to {len(self)}; "
                    f"got {head!r}. Correct it."
                )
            if cells[_DEPREL] == "_":
                yield f"{self.where(line)}: DEPREL of word {word} is missing. Name the relation to its head."
        roots = [word for word, head in enumerate(heads) if head == 0]
        if all(0 <= head <= len(self) for head in heads):
            if not roots:
                yield f"{self.where(self.words[0])}: no word is the root. Give one word the HEAD 0."
            for word in roots[1:]:
                yield (
                    f"{self.where(self.words[word])}: word {word + 1} is a second root, beside word "
                    f"{roots[0] + 1}. Give one of them another HEAD than 0."
                )
            for cycle in _cycles(heads):
                told = " → ".join(str(word) for word in (*cycle, cycle[0]))
                yield f"{self.where(self.words[cycle[0] - 1])}: the heads of words go round: {told}."

    def with_tree(self, heads: Sequence[int], relations: Sequence[str]) -> str:
        """The text of the sentence with another tree; DEPS of its words is emptied, all else is as it was.

        Args:
            heads: [N] numbers of the heads from 1, 0 for the root.
            relations: [N] relations to the heads.
        """
        lines = list(self.lines)
        for line, head, relation in zip(self.words, heads, relations, strict=True):
            cells = lines[line].split("\t")
            cells[_HEAD], cells[_DEPREL], cells[_DEPS] = str(head), relation, "_"
            lines[line] = "\t".join(cells)
        return "".join(lines)

    @property
    def text(self) -> str:
        """The sentence as it was read."""
        return "".join(self.lines)


def _cycles(heads: Sequence[int]) -> Iterator[list[int]]:
    """Each cycle once, as numbers of words from 1."""
    seen = [0] * (len(heads) + 1)
    for start in range(1, len(heads) + 1):
        word, path = start, []
        while word and not seen[word]:
            seen[word] = start
            path.append(word)
            word = heads[word - 1]
        if word and seen[word] == start:
            yield path[path.index(word) :]


def sentences(lines: Iterable[bytes], source: str) -> Iterator[Sentence | BadRowError]:
    """Each sentence of a file's lines as they come, or the error that says why it is none.

    Args:
        lines: UTF-8, each with its end.
        source: the name of the file, for messages.

    Example:
        >>> (one,) = sentences([b"1\\tHi\\t_\\t_\\t_\\t_\\t0\\troot\\t_\\t_\\n", b"\\n"], "greeting.conllu")
        >>> one.column("FORM"), one.heads()
        (['Hi'], [0])
    """
    block: list[bytes] = []
    number = first = 0
    for number, line in enumerate(lines, start=1):
        if not block:
            first = number
        block.append(line)
        if len(block) > MAX_SENTENCE_LINES:
            raise DataError(
                f"{source}, line {first}: {MAX_SENTENCE_LINES:,} lines without an empty one. Is it CoNLL-U? "
                "An empty line ends each sentence."
            )
        if not line.strip(b"\r\n") and any(line.strip(b"\r\n") for line in block):
            yield _sentence(block, source, first)
            block = []
    if any(line.strip(b"\r\n") for line in block):
        yield _sentence(block, source, first)


def read_conllu(path: Path | str) -> Iterator[Sentence]:
    """The sentences of a file, zipped or not, one at a time.

    Raises:
        BadRowError: names the line and the sentence whose columns or ids are wrong.
        DataError: the file is damaged.
    """
    with open_text(Path(path)) as file:
        for sentence in sentences(file, str(path)):
            if isinstance(sentence, BadRowError):
                raise sentence
            yield sentence


def _sentence(block: Sequence[bytes], source: str, first: int) -> Sentence | BadRowError:
    lines = []
    for at, raw in enumerate(block):
        try:
            lines.append(raw.decode())
        except UnicodeDecodeError:
            return BadRowError(f"{source}, line {first + at} is not UTF-8. Convert the file.")
    read = Sentence(source, first, tuple(lines), (), ())
    words: list[int] = []
    cells: list[tuple[str, ...]] = []
    range_end = empty = 0
    for at, line in enumerate(lines):
        text = line.rstrip("\r\n")
        if not text or (text.startswith("#") and not words):
            continue
        columns = tuple(text.split("\t"))
        if len(columns) != len(COLUMNS) or not all(columns):
            told = counted(len(columns), "column") if len(columns) != len(COLUMNS) else "an empty one"
            return BadRowError(
                f"{read.where(at)} must have {len(COLUMNS)} columns, separated by tabs and none empty; "
                f"got {told}. An absent value is written _."
            )
        found = _ID.fullmatch(columns[0])
        wanted = len(words) + 1
        if not found:
            return BadRowError(f"{read.where(at)}: ID must be like 3, 3-4 or 3.1; got {columns[0]!r}.")
        word, start, end, before, place = (int(part) if part else None for part in found.groups())
        if word is not None:
            if word != wanted:
                return BadRowError(f"{read.where(at)}: the next ID must be {wanted}; got {word}.")
            words.append(at)
            cells.append(columns)
            empty = 0
        elif start is not None and end is not None:
            if start != wanted or end <= start or start <= range_end:
                return BadRowError(
                    f"{read.where(at)}: the words {columns[0]} must begin with the next ID, {wanted}, be at "
                    "least two, and not overlap with others."
                )
            range_end = end
        else:
            empty += 1
            if (before, place) != (len(words), empty):
                return BadRowError(
                    f"{read.where(at)}: the ID of this empty node must be {len(words)}.{empty}; "
                    f"got {columns[0]}."
                )
    if not words:
        return BadRowError(f"{read.where(0)} has no word. Remove it.")
    if range_end > len(words):
        return BadRowError(f"{read.where(words[-1])}: words up to {range_end} are named, but it is the last.")
    return Sentence(source, first, tuple(lines), tuple(words), tuple(cells))


def sentence_of(words: Sequence[str], **columns: Sequence[str]) -> Sentence:
    """A sentence of its words, and of what else is known of each, such as ``UPOS``.

    Raises:
        DataError: it has no word, or something in it is none.

    Example:
        >>> sentence_of(["It", "sings"], UPOS=["PRON", "VERB"]).column("UPOS")
        ['PRON', 'VERB']
    """
    if isinstance(words, str) or not words or not all(isinstance(word, str) and word for word in words):
        raise DataError(
            "a sentence must be a list of words, such as ['I', 'see', 'stars'], with at least one."
        )
    told = {"ID": map(str, range(1, len(words) + 1)), "FORM": words, **columns}
    empty = ["_"] * len(words)
    cells = tuple(zip(*(told.get(name, empty) for name in COLUMNS), strict=True))
    lines = tuple("\t".join(each) + "\n" for each in cells)
    return Sentence("the sentences", 1, (*lines, "\n"), tuple(range(len(lines))), cells)


def words_in(text: str) -> list[str]:
    """The words of a text: what stands between spaces, marks before and after it apart.

    A treebank may cut words otherwise, as in "do n't"; give a parser words where you have them.

    Example:
        >>> words_in("He said: (Don't pay 3,50 $!)")
        ['He', 'said', ':', '(', "Don't", 'pay', '3,50', '$', '!', ')']
    """
    return _WORD.findall(text)

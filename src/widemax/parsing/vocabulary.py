"""What training has seen of words, tags and relations."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from widemax.options import from_json
from widemax.parsing.conllu import Sentence
from widemax.parsing.projective import LIFTED, lift, unmarked
from widemax.parsing.words import TAG_COLUMNS, tags_of
from widemax.storage import read_json, sound

MIN_LIFTED = 5
"""How often a relation must be lifted for its arcs to be put back: rarer ones would be actions of no use."""


@dataclass(frozen=True)
class Vocabulary:
    """What training has seen, by its place the id of each.

    Args:
        forms, counts: forms in small letters, and how often each was seen.
        tags: of the columns that are read, as column=value.
        relations: of dependents to heads, those of lifted arcs too.
        of_root, of_word: whether a relation was seen with the root as head, and with a word.
        tagged: the values of each column of tags.
    """

    forms: tuple[str, ...]
    counts: tuple[int, ...]
    tags: tuple[str, ...]
    relations: tuple[str, ...]
    of_root: tuple[bool, ...]
    of_word: tuple[bool, ...]
    tagged: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, sentences: Sequence[Sentence], *, columns: Sequence[str]) -> Self:
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
        return cls(
            forms=tuple(known),
            counts=tuple(forms[form] for form in known),
            tags=tuple(sorted(tags)),
            relations=relations,
            of_root=tuple((True, relation) in pairs for relation in relations),
            of_word=tuple((False, relation) in pairs for relation in relations),
            tagged={
                column: tuple(sorted({tag for each in sentences for tag in each.column(column)}))
                for column in TAG_COLUMNS
            },
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """A saved vocabulary.

        Raises:
            CorruptError: it is none.
        """
        values = read_json(path)
        with sound(path):
            found = from_json(cls, values)
            relations = len(found.relations)
            sizes = (len(found.of_root), len(found.of_word), len(found.counts))
            if sizes != (relations, relations, len(found.forms)) or not relations:
                raise ValueError("its lists are not of one length")
        return found

    def write(self, path: Path) -> None:
        """Save it as JSON."""
        path.write_text(json.dumps(asdict(self), ensure_ascii=False), encoding="utf-8")


def lifted(sentence: Sentence) -> tuple[list[int], list[str]]:
    """The right tree without crossing arcs, its heads as positions, n for the root's."""
    heads = [head - 1 if head else len(sentence) for head in sentence.heads()]
    return lift(heads, sentence.column("DEPREL"))

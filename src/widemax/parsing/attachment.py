"""How many words hang where they should, as the evaluation of Universal Dependencies counts them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from widemax.parsing.conllu import Sentence

CONTENT = frozenset(
    [
        *("nsubj", "obj", "iobj", "csubj", "ccomp", "xcomp", "obl", "vocative", "expl", "dislocated"),
        *("advcl", "advmod", "discourse", "nmod", "appos", "nummod", "acl", "amod", "conj", "fixed"),
        *("flat", "compound", "list", "parataxis", "orphan", "goeswith", "reparandum", "root", "dep"),
    ]
)
FUNCTIONAL = frozenset(["aux", "cop", "mark", "det", "clf", "case", "cc"])
UNIVERSAL_FEATURES = frozenset(
    [
        *("PronType", "NumType", "Poss", "Reflex", "Foreign", "Abbr", "Gender", "Animacy", "Number", "Case"),
        *("Definite", "Degree", "VerbForm", "Mood", "Tense", "Aspect", "Voice", "Evident", "Polarity"),
        *("Person", "Polite"),
    ]
)
LENGTHS = (10, 20, 30, 40)
"""The longest sentences of each group; one more group holds the rest."""


class Attachment:
    """Attachment scores over sentences whose words are given.

    UAS is the share of words with the right head, LAS that with the right relation too, subtypes left out.
    CLAS is the F1 of content words, those with one of the relations ``CONTENT``, whose head and relation are
    right; for MLAS their UPOS, universal FEATS and function words must be right as well.

    Example:
        >>> from widemax.parsing.conllu import sentences
        >>> words = [b"1\\tHi" + b"\\t_" * 4 + b"\\t0\\troot\\t_\\t_"]
        >>> words.append(b"2\\tyou" + b"\\t_" * 4 + b"\\t1\\tvocative\\t_\\t_")
        >>> scores = Attachment()
        >>> scores.add(*sentences(words, "greeting.conllu"), [0, 1], ["root", "dep"])
        >>> scores.values()["uas"], scores.values()["las"]
        (1.0, 0.5)

    Source: Zeman et al., "CoNLL 2018 Shared Task: Multilingual Parsing from Raw Text to Universal
    Dependencies", §6.
    """

    def __init__(self) -> None:
        self.num_sentences = 0
        self._counts: Counter[str] = Counter()
        self._of_relation: dict[str, Counter[str]] = {}
        self._of_length: dict[str, Counter[str]] = {}

    def add(
        self,
        gold: Sentence,
        heads: Sequence[int],
        relations: Sequence[str],
        *,
        upos: Sequence[str] | None = None,
        feats: Sequence[str] | None = None,
    ) -> None:
        """Count one sentence.

        Args:
            gold: with the right tree.
            heads: [N] answered, 0 for the root.
            relations: [N] answered.
            upos, feats: [N] answered, those of ``gold`` by default.
        """
        right = _Tree(gold.heads(), gold.column("DEPREL"), gold.column("UPOS"), gold.column("FEATS"))
        told = _Tree(
            heads, relations, gold.column("UPOS") if upos is None else upos, feats or gold.column("FEATS")
        )
        self.num_sentences += 1
        of_length = self._of_length.setdefault(_length_group(len(gold)), Counter())
        for word in range(len(gold)):
            relation, answered = right.relations[word], told.relations[word]
            is_head = right.heads[word] == told.heads[word]
            is_arc = is_head and relation == answered
            found = {"words": 1, "uas": is_head, "las": is_arc}
            self._counts.update(found)
            of_length.update(found)
            self._counts["content"] += relation in CONTENT
            self._counts["answered_content"] += answered in CONTENT
            if is_arc and relation in CONTENT:
                self._counts["clas"] += 1
                self._counts["mlas"] += right.morphology(word) == told.morphology(word)
            for name, key in ((relation, "right"), (answered, "answered")):
                self._of_relation.setdefault(name, Counter())[key] += 1
            self._of_relation[relation]["correct"] += is_arc

    def values(self) -> dict[str, Any]:
        """``sentences``, ``words``, ``uas``, ``las``, ``clas`` and ``mlas``, these from 0 to 1."""
        counts = self._counts
        content = counts["content"] + counts["answered_content"]
        return {
            "sentences": self.num_sentences,
            "words": counts["words"],
            "uas": _share(counts["uas"], counts["words"]),
            "las": _share(counts["las"], counts["words"]),
            "clas": _share(2 * counts["clas"], content),
            "mlas": _share(2 * counts["mlas"], content),
        }

    def by_relation(self) -> dict[str, dict[str, float]]:
        """Of each relation, the most frequent first, how many words have it, and the F1 of its arcs."""
        order = sorted(self._of_relation, key=lambda name: (-self._of_relation[name]["right"], name))
        found = ((name, self._of_relation[name]) for name in order)
        return {
            name: {
                "words": each["right"],
                "f1": _share(2 * each["correct"], each["right"] + each["answered"]),
            }
            for name, each in found
        }

    def by_length(self) -> dict[str, dict[str, float]]:
        """Scores of sentences of each length."""
        groups = [_length_group(length) for length in (*LENGTHS, LENGTHS[-1] + 1)]
        found = ((name, self._of_length[name]) for name in groups if name in self._of_length)
        return {
            name: {
                "words": each["words"],
                **{key: _share(each[key], each["words"]) for key in ("uas", "las")},
            }
            for name, each in found
        }


class _Tree:
    def __init__(
        self, heads: Sequence[int], relations: Sequence[str], upos: Sequence[str], feats: Sequence[str]
    ) -> None:
        self.heads = heads
        self.relations = [relation.split(":")[0] for relation in relations]
        self._tags = [(tag, _universal(features)) for tag, features in zip(upos, feats, strict=True)]
        self._function_words: dict[int, list[int]] = {}
        for word, relation in enumerate(self.relations):
            if relation in FUNCTIONAL:
                self._function_words.setdefault(heads[word] - 1, []).append(word)

    def morphology(self, word: int) -> Any:
        """A word's tags, and its function words with their relations and tags."""
        below = self._function_words.get(word, [])
        return self._tags[word], [(each, self.relations[each], self._tags[each]) for each in below]


def _universal(features: str) -> list[str]:
    return sorted(each for each in features.split("|") if each.split("=", 1)[0] in UNIVERSAL_FEATURES)


def _length_group(length: int) -> str:
    lower = 1
    for longest in LENGTHS:
        if length <= longest:
            return f"{lower}–{longest} words"
        lower = longest + 1
    return f"over {LENGTHS[-1]} words"


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0

"""Open English WordNet as a reverse dictionary: a definition, and a word it defines."""

import csv
import gzip
from collections import Counter, defaultdict
from hashlib import sha256
from pathlib import Path

from widemax.data.sets import sets
from widemax.data.sets.base import PublicSet

_TEST_PAIRS = 5_000
_COLUMNS = ("definition", "word", "pos", "synset")
_Pair = tuple[str, str, str, str]


@sets.register("open_english_wordnet")
class OpenEnglishWordnet(PublicSet):
    """185,152 pairs of a definition and one of 128,044 words.

    The test holds out 5,000 pairs: all pairs of some definitions, chosen by hash, each of whose words keeps
    another definition in train, so that every test word can be learned and no test definition is seen in
    training.
    """

    title = "Open English WordNet"
    licence = "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/, and the WordNet licence"
    attribution = (
        "John P. McCrae, Alexandre Rademaker, Francis Bond, Ewa Rudnicka, Christiane Fellbaum: English "
        "WordNet 2019, GWC 2019; derived from Princeton WordNet. Changed: one row a (definition, word) pair."
    )
    url = "https://github.com/globalwordnet/english-wordnet"
    files = {"oewn_synsets.tsv.gz": "4ba5fb2da7cb6f10596cc43c533b1f123d3755b7fbe13451badb515057390cfd"}
    by_hand = (
        "No address offers this table, which was made of the files in src/yaml of "
        "https://github.com/globalwordnet/english-wordnet; make your own of them, as CSV, say."
    )
    inputs = ("definition",)
    target = "word"

    def prepare(self, source: Path, into: Path) -> None:
        with gzip.open(source / "oewn_synsets.tsv.gz", "rt", encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            pairs = [
                (row["definition"], word, row["pos"], row["synset"])
                for row in rows
                for word in row["lemmas"].split("|")
            ]
        held_out = held_out_definitions(pairs)
        for split in self.splits:
            kept = [pair for pair in pairs if (pair[0] in held_out) == (split == "test")]
            self.write(into, split, dict(zip(_COLUMNS, map(list, zip(*kept, strict=True)), strict=True)))


def held_out_definitions(pairs: list[_Pair], *, num_pairs: int = _TEST_PAIRS) -> set[str]:
    """Definitions with ``num_pairs`` pairs in all, whose every word keeps a pair elsewhere."""
    left = Counter(word for _, word, _, _ in pairs)
    words = defaultdict(list)
    for definition, word, _, _ in pairs:
        words[definition].append(word)
    held_out: set[str] = set()
    # An order that looks random and is the same on every machine.
    for definition in sorted(words, key=lambda d: sha256(f"widemax test\0{d}".encode()).digest()):
        needed = Counter(words[definition])
        if needed.total() <= num_pairs and all(left[word] > count for word, count in needed.items()):
            held_out.add(definition)
            left.subtract(needed)
            num_pairs -= needed.total()
        if not num_pairs:
            break
    return held_out

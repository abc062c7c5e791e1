"""The English Web Treebank of Universal Dependencies, whose sentences come with their trees."""

import gzip
from pathlib import Path

from widemax.data.sets import sets
from widemax.data.sets.base import PublicSet

_FILES = {"train": "train", "valid": "dev", "test": "test"}


@sets.register("ud_english_ewt")
class UDEnglishEWT(PublicSet):
    """16,622 sentences of weblogs, newsgroups, e-mails, reviews and answers, each in CoNLL-U too."""

    title = "Universal Dependencies: English Web Treebank"
    licence = "Creative Commons Attribution-ShareAlike 4.0"
    attribution = (
        "Natalia Silveira, Timothy Dozat, Marie-Catherine de Marneffe, Samuel Bowman, Miriam Connor, John "
        "Bauer, Christopher D. Manning: A gold standard dependency corpus for English, LREC 2014."
    )
    url = "https://github.com/UniversalDependencies/UD_English-EWT"
    files = {
        "en_ewt-ud-train.conllu.gz": "3fb78e2b55482c8ee00caa653af436c88c9e5bc9a73ce26e4ae3ddc79d2b7e7b",
        "en_ewt-ud-dev.conllu.gz": "531a54ff90d6ab12201c5a50c3e78e6ddac4de69abc4bce5d275d3cd29efe2b6",
        "en_ewt-ud-test.conllu.gz": "e266e515a0a7547657ed3d90d9ba46487d6bd251f27ad4269d4e8a427c8555cd",
    }
    by_hand = f"Take the release of {url} whose files have these hashes, and pack them by gzip."
    splits = tuple(_FILES)
    inputs = ("text",)
    target = "genre"

    def prepare(self, source: Path, into: Path) -> None:
        for split, part in _FILES.items():
            with gzip.open(source / f"en_ewt-ud-{part}.conllu.gz", "rt", encoding="utf-8") as file:
                sentences = file.read().rstrip("\n").split("\n\n")
            told = [_comments(sentence) for sentence in sentences]
            columns = {
                "text": [each["text"] for each in told],
                "genre": [each["sent_id"].partition("-")[0] for each in told],
                "conllu": [f"{sentence}\n\n" for sentence in sentences],
            }
            self.write(into, split, columns)


def _comments(sentence: str) -> dict[str, str]:
    """The named comments of a sentence in CoNLL-U."""
    lines = (line[2:].partition(" = ") for line in sentence.splitlines() if line.startswith("# "))
    return {name: value for name, _, value in lines}

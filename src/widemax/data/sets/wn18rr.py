"""WN18RR: facts of WordNet, of which one entity is to be found."""

import csv
import io
import tarfile
from pathlib import Path

from widemax.data.sets import sets
from widemax.data.sets.base import PublicSet, on_github

_ARCHIVE = "WN18RR.tar.gz"
_COLUMNS = ("head", "relation", "tail")


@sets.register("wn18rr")
class WN18RR(PublicSet):
    """93,003 facts (head, relation, tail) among 40,943 synsets and 11 relations.

    No relation is the inverse of another, as in WN18, where looking the inverse up gave the answers away.
    """

    title = "WN18RR: relations between the synsets of WordNet"
    licence = "the WordNet licence, https://wordnet.princeton.edu/license-and-commercial-use"
    attribution = (
        "Tim Dettmers, Pasquale Minervini, Pontus Stenetorp, Sebastian Riedel: Convolutional 2D Knowledge "
        "Graph Embeddings, AAAI 2018; derived from Princeton WordNet."
    )
    url = "https://github.com/TimDettmers/ConvE"
    files = {_ARCHIVE: "2fdf6896e29b6de4dd17f93784900d7922372c872872838897be7067c5aa845e"}
    downloads = on_github("TimDettmers/ConvE", "f3c0eb286025410fa5b4c04696c918264163d0ca", "", _ARCHIVE)
    download_bytes = 892_861
    splits = ("train", "valid", "test")
    inputs = ("head", "relation")
    target = "tail"

    def prepare(self, source: Path, into: Path) -> None:
        with tarfile.open(source / _ARCHIVE) as archive:
            for split in self.splits:
                member = archive.extractfile(f"{split}.txt")
                assert member is not None
                with io.TextIOWrapper(member, "utf-8") as lines:
                    columns = map(list, zip(*csv.reader(lines, delimiter="\t"), strict=True))
                self.write(into, split, dict(zip(_COLUMNS, columns, strict=True)))

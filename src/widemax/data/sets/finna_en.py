"""Finna: titles of library works and their subject headings."""

import shutil
from pathlib import Path

from widemax.data.sets import sets
from widemax.data.sets.base import PublicSet


@sets.register("finna_en")
class FinnaEn(PublicSet):
    """570,330 training and 64,355 test titles with several of 27,754 subjects, named in subjects.parquet."""

    title = "English titles of Finna with subjects of the General Finnish Ontology (YSO)"
    licence = "CC0 1.0, https://creativecommons.org/publicdomain/zero/1.0/"
    attribution = "Finna.fi metadata, as packed by the National Library of Finland in Annif-corpora."
    url = "https://github.com/NatLibFi/Annif-corpora"
    files = {
        "train.parquet": "255c71b8bfcc20a5a9b79665e6f098798bb56d249bb4d2a8d581f05f6b9ed0db",
        "test.parquet": "ff00f7e87a6b8f48051f74fa07e929cc317c17c63107848747424e12aff0b6d2",
        "subjects.parquet": "32f635076c111de7d14d8da5517dae6f857b9e2d9768faf9b4ef4ec793934d2e",
    }
    by_hand = (
        "No address offers these tables, which hold the titles and subjects of subjects/yso-finna-en in "
        "https://github.com/NatLibFi/Annif-corpora, one row a title; make your own of them, as CSV, say."
    )
    inputs = ("text",)
    target = "subjects"

    def prepare(self, source: Path, into: Path) -> None:
        for split in self.splits:
            shutil.copyfile(source / f"{split}.parquet", self.path(into, split))
        shutil.copyfile(source / "subjects.parquet", into / "subjects.parquet")

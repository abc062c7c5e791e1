"""Definitions whose word is to be found: the usual test of reverse dictionaries."""

import gzip
import json
from pathlib import Path

from widemax.data.sets import sets
from widemax.data.sets.base import PublicSet, on_github

_FILE = "data_test_500_rand1_{}.json.gz"


@sets.register("reverse_dictionary_eval")
class ReverseDictionaryEval(PublicSet):
    """500 definitions seen and 500 unseen by the models of the paper.

    Many stand word for word in WordNet: leave those synsets out of the training.
    """

    title = "Reverse dictionary test of Hill et al."
    licence = "none stated"
    attribution = (
        "Felix Hill, Kyunghyun Cho, Anna Korhonen, Yoshua Bengio: Learning to Understand Phrases by "
        "Embedding the Dictionary, TACL 2016; as packed by thunlp/MultiRD."
    )
    url = "https://github.com/thunlp/MultiRD"
    files = {
        _FILE.format("seen"): "0973746270d0c88860031120b9ae1c1f4d896df867262add6bd29ca1927e9144",
        _FILE.format("unseen"): "3a4ee329f7912ee02d1b99994e41e67a6f7d715dce5c4ea7e995650b7990dcd5",
    }
    downloads = on_github(
        "zhaowres/ReverseDictionary",
        "b443958d3eec9333175383312f83a38f152997ca",
        "data/",
        *(name.removesuffix(".gz") for name in files),
    )
    download_bytes = 156_885 + 158_183
    splits = ("seen", "unseen")
    inputs = ("definition",)
    target = "word"

    def prepare(self, source: Path, into: Path) -> None:
        for split in self.splits:
            with gzip.open(source / _FILE.format(split), "rt", encoding="utf-8") as file:
                rows = json.load(file)
            columns = {
                "definition": [row["definitions"] for row in rows],
                "word": [row["word"] for row in rows],
            }
            self.write(into, split, columns)

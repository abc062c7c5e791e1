"""Definitions whose word is to be found: the usual test of reverse dictionaries."""

import gzip
import json
from pathlib import Path

from widemax.data.sets import sets
from widemax.data.sets.base import PublicSet

_FILE = "data_test_500_rand1_{}.json.gz"


@sets.register("reverse_dictionary_eval")
class ReverseDictionaryEval(PublicSet):
    """500 definitions seen and 500 unseen by the models of the paper.

    Many stand word for word in WordNet: leave those synsets out of the training.
    """

    name = "reverse_dictionary_eval"
    title = "Reverse dictionary test of Hill et al."
    licence = "none stated"
    attribution = (
        "Felix Hill, Kyunghyun Cho, Anna Korhonen, Yoshua Bengio: Learning to Understand Phrases by "
        "Embedding the Dictionary, TACL 2016; as packed by thunlp/MultiRD."
    )
    url = "https://github.com/thunlp/MultiRD"
    files = {
        _FILE.format("seen"): "8e3fbf0ff36773279f49cd47302924671f424c596356372803f3c918e9eeee6b",
        _FILE.format("unseen"): "3f72d53d644daf765633fb3fc10142e1452fa765bea0ca336a18f172278183d8",
    }
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

"""CLINC150: short requests to an assistant and their intents; bundled with the package."""

import gzip
import json
from pathlib import Path

from widemax.data.sets import sets
from widemax.data.sets.base import PublicSet


@sets.register("clinc150")
class Clinc150(PublicSet):
    """18,000 requests of 150 intents, made by ``get("clinc150", into=…)`` from the original file.

    train joins the original train and val splits; oos_test holds 1,000 requests outside all intents, labeled
    "oos".
    """

    title = "CLINC150: an evaluation data set for intent classification and out-of-scope prediction"
    licence = "CC BY 3.0, https://creativecommons.org/licenses/by/3.0/"
    attribution = (
        "Stefan Larson, Anish Mahendran, Joseph J. Peper, Christopher Clarke, Andrew Lee, Parker Hill, "
        "Jonathan K. Kummerfeld, Kevin Leach, Michael A. Laurenzano, Lingjia Tang, Jason Mars: An Evaluation "
        "Dataset for Intent Classification and Out-of-Scope Prediction, EMNLP-IJCNLP 2019. "
        "Changed: JSON to Parquet, train and val joined."
    )
    url = "https://github.com/clinc/oos-eval"
    files = {"data_full.json.gz": "36923c3705a59e08fe9c3883d8bc2dd966ef93e22cb78ac41171782a698d56e0"}
    splits = ("train", "test", "oos_test")
    inputs = ("text",)
    target = "intent"
    bundled = True

    def prepare(self, source: Path, into: Path) -> None:
        with gzip.open(source / "data_full.json.gz", "rt", encoding="utf-8") as file:
            original = json.load(file)
        splits = {
            "train": original["train"] + original["val"],
            "test": original["test"],
            "oos_test": original["oos_test"],
        }
        for split, rows in splits.items():
            self.write(into, split, {"text": [row[0] for row in rows], "intent": [row[1] for row in rows]})

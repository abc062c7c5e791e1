"""From a definition to the word. Shapes: B definitions asked, K most words looked at."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sklearn.feature_extraction.text import TfidfVectorizer

from widemax import charts
from widemax.charts import Panel
from widemax.config import Config
from widemax.data import resolve
from widemax.recipes.base import Array, Recipe, Results, recipes
from widemax.recipes.known import Known
from widemax.training.loop import train

TESTS = {"WordNet": "open_english_wordnet:test", "unseen": "reverse_dictionary_eval:unseen"}
TOPS = (1, 10, 100)
PEER = "the words of the nearest definitions by TF-IDF, in this same run"
MEASURED = "the words of the nearest definitions by TF-IDF (benchmarks/reverse_dictionary.py)"
QUESTIONS = ("a person who studies the stars", "the fear of spiders", "a tool for driving nails")
ROWS_AT_ONCE = 100
HEADS: dict[str, dict[str, Any]] = {
    "counts": {"head": {"kind": "counts"}, "train": {}},
    "tower": {
        "head": {"kind": "sampled", "weight": {"kind": "tower"}, "sampler": "uniform", "num_sampled": 2048},
        "encoder": {"dim": 512},
        "train": {"epochs": 6, "refit": False},
    },
}


@recipes.register("reverse-dictionary")
class ReverseDictionary(Recipe):
    """Definitions of Open English WordNet, and which of 128,000 words they define."""

    title = "Reverse dictionary: the word that is on the tip of the tongue"
    description = (
        "A head that counts, and a softmax whose class weights a tower makes of the letters of the words, "
        "learn from 180,000 pairs of a definition and a word. Both are asked for the words of definitions "
        "that they have not seen: 5,000 held-out pairs of WordNet, and the 500 of Hill et al. (TACL 2016), "
        "which are taken out of the training where they stand in it word for word. Beside them answers who "
        "looks up the most similar known definitions."
    )
    data = ("open_english_wordnet", "reverse_dictionary_eval")
    full_time = "10 min"
    known = {  # noqa: RUF012 - read only
        "WordNet: nearest definitions, top 1, 10, 100": Known.near(
            0.044, 0.134, 0.282, within=0.01, digits=3, source=MEASURED
        )
    }

    def run(self, results: Results, *, quick: bool, seed: int) -> None:
        rows = pq.read_table(resolve(["open_english_wordnet"])[0], columns=["definition", "word"])
        tests = {name: pq.read_table(resolve([source])[0]) for name, source in TESTS.items()}
        is_asked = pc.is_in(words_of(rows["definition"]), words_of(tests["unseen"]["definition"]))
        rows = rows.filter(pc.invert(is_asked))
        heads = {"counts": HEADS["counts"]} if quick else HEADS
        with TemporaryDirectory() as folder:
            models = {}
            for head, sections in heads.items():
                config = Config(
                    data={"input": "definition", "target": "word", "kinds": {"definition": "text"}},
                    output={"dir": str(Path(folder, head))},
                    **{**sections, "train": {**sections["train"], "seed": seed}},
                )
                models[head] = train(config, data=rows).model
        neighbors = Neighbors(rows["definition"].to_pylist(), rows["word"].to_pylist())
        panels = []
        for name, test in tests.items():
            asked, words = (
                test[column].to_pylist()[: 200 if quick else None] for column in rows.column_names
            )
            found = {"nearest definitions": recalls(neighbors.words(asked, k=TOPS[-1]), words)}
            for head, model in models.items():
                answers = [[p.label for p in row] for row in model.predict(asked, k=TOPS[-1])]
                found[head] = recalls(answers, words)
                for top in TOPS:
                    theirs = float(found["nearest definitions"][top - 1])
                    peer = Known.at_least(theirs, digits=3, source=PEER)
                    results.obtain(f"{name}, {head}: top {top}", found[head][top - 1], known=peer)
            if name == "WordNet":
                results.obtain(
                    "WordNet: nearest definitions, top 1, 10, 100",
                    *(found["nearest definitions"][top - 1] for top in TOPS),
                )
            panels.append(Panel(name, x="words looked at", y="share found", log_x=True))
            places_K = np.arange(1, TOPS[-1] + 1)
            panels[-1].lines({who: (places_K, recall_K) for who, recall_K in found.items()})
        for head, model in models.items():
            for question, row in zip(QUESTIONS, model.predict(list(QUESTIONS), k=5), strict=True):
                results.find(f"“{question}”, {head}: {', '.join(p.label for p in row)}")
        results.draw(
            charts.figure(*panels),
            "recall",
            title="How many words must be looked at",
            caption="The share of definitions whose word is among the first so many answers.",
            alt="Two panels of three rising curves; that of the tower is far above the other two.",
        )


def words_of(texts: Any) -> Any:
    """Texts as small words alone: the same definition may have other capitals and marks elsewhere."""
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(pc.utf8_lower(texts), r"[^\pL\pN]+", " "))


class Neighbors:
    """The words of the most similar definitions: cosine of TF-IDF vectors of words."""

    def __init__(self, definitions: Sequence[str], words: Sequence[str]) -> None:
        self.words_N = words
        self.vectorizer = TfidfVectorizer(sublinear_tf=True)
        self.known = self.vectorizer.fit_transform(definitions)

    def words(self, asked: Sequence[str], *, k: int) -> list[list[str]]:
        """The words of each definition's nearest ones, best first, each once."""
        answers = []
        for start in range(0, len(asked), ROWS_AT_ONCE):
            vectors = self.vectorizer.transform(asked[start : start + ROWS_AT_ONCE])
            for similarity_N in (vectors @ self.known.T).toarray():
                # A word has several definitions, so more than k of them are looked at.
                nearest = np.argpartition(-similarity_N, min(2 * k, len(similarity_N) - 1))[: 2 * k]
                order = nearest[np.argsort(-similarity_N[nearest], kind="stable")]
                answers.append(list(dict.fromkeys(self.words_N[place] for place in order))[:k])
        return answers


def recalls(answers: Sequence[Sequence[str]], words: Sequence[str]) -> Array:
    """[K] the share of words among the first 1, 2, … answers."""
    place_B = [row.index(word) if word in row else -1 for row, word in zip(answers, words, strict=True)]
    found_K = np.bincount([place for place in place_B if place >= 0], minlength=TOPS[-1])
    return np.asarray(found_K.cumsum() / len(words))

"""Subjects of library titles, as many of each as it seems to have.

Shapes: B titles, K suggestions a title, N thresholds.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from widemax import charts
from widemax.charts import Panel
from widemax.config import Config
from widemax.data import resolve
from widemax.recipes.base import Array, Recipe, Results, recipes
from widemax.recipes.known import Known
from widemax.training.evaluate import evaluate
from widemax.training.loop import train

PECOS = (
    "PECOS XR-Linear, TF-IDF of words and pairs, the same 200,000 and 20,000 titles (benchmarks/finna_en.py)"
)
OMIKUJI = "Omikuji, three Bonsai-like trees, the same titles (benchmarks/finna_en.py)"
LIPTON = (
    "Lipton, Elkan, Narayanaswamy, Optimal Thresholding of Classifiers to Maximize F1 Measure, ECML 2014: "
    "the best threshold is half the best F1, so below 0.5"
)
FIXED = "as many subjects for every title, the best such number, in this run"
METRICS = {
    "p@1": (Known.at_least(0.3098, digits=4, source=PECOS), Known.at_least(0.3207, digits=4, source=OMIKUJI)),
    "p@3": (Known.at_least(0.1872, digits=4, source=PECOS), Known.at_least(0.1976, digits=4, source=OMIKUJI)),
    "p@5": (Known.at_least(0.1350, digits=4, source=PECOS), Known.at_least(0.1446, digits=4, source=OMIKUJI)),
    "psp@1": (Known.at_least(0.247, digits=4, source=PECOS), Known.at_least(0.254, digits=4, source=OMIKUJI)),
}
MOST = 20
SHOWN = 3


@recipes.register("subject-indexing")
class SubjectIndexing(Recipe):
    """Titles of Finna, and which of 23,000 subjects they have."""

    title = "Subject indexing: from a title to its subjects"
    description = (
        "A head that counts learns in one pass which words of 200,000 library titles go with which of 23,000 "
        "subjects. A title has 2.4 subjects on average, but some have one and some ten, so suggestions are "
        "those whose probability reaches a threshold. Training fits it on held-out titles, for the best F1."
    )
    data = ("finna_en",)
    full_time = "1 min"
    known = {  # noqa: RUF012 - read only
        **{f"{name}, beside PECOS": METRICS[name][0] for name in METRICS},
        **{f"{name}, beside Omikuji": METRICS[name][1] for name in METRICS},
        "the threshold with the best micro F1 is below 0.5": Known.yes(source=LIPTON),
    }

    def run(self, results: Results, *, quick: bool, seed: int) -> None:
        titles, asked = first_rows("train", 200_000, quick=quick), first_rows("test", 20_000, quick=quick)
        with TemporaryDirectory() as folder:
            config = Config(
                data={"input": "text", "target": "subjects", "kinds": {"text": "text"}},
                head={"kind": "counts"},
                train={"seed": seed},
                output={"dir": str(Path(folder, "run"))},
            )
            model = train(config, data=titles).model
        values = evaluate(model, asked)
        for name in METRICS:
            results.obtain(f"{name}, beside PECOS", values[name])
            results.obtain(f"{name}, beside Omikuji", values[name])
        fitted: float = values["threshold"]
        results.obtain("the threshold with the best micro F1 is below 0.5", fitted < 0.5)

        suggested, subjects = model.predict(asked, k=MOST), asked["subjects"].to_pylist()
        probs_BK, right_BK = answered(suggested, subjects)
        num_labels = sum(map(len, subjects))
        f1_K = f1_of_firsts(right_BK, num_labels)
        peer = Known.at_least(float(f1_K.max()), digits=4, source=FIXED)
        results.obtain("micro F1 above the threshold", values["f1"], known=peer)
        above = [[p for p in row if p.probability >= fitted] for row in suggested]
        results.find(
            f"Above {fitted:.3f} a title gets {sum(map(len, above)) / len(above):.1f} suggestions on "
            f"average, from none ({np.mean([not row for row in above]):.0%} of the titles) to "
            f"{max(map(len, above))}; the same number for every title is best at {f1_K.argmax() + 1}."
        )
        names = names_of_subjects()
        for title, row in list(zip(asked["text"].to_pylist(), above, strict=True))[:SHOWN]:
            told = ", ".join(f"{names.get(p.label, p.label)} ({p.probability:.2f})" for p in row)
            results.find(f"“{title}”: {told or 'none'}")
        thresholds_N = np.geomspace(0.005, 0.95, 100)
        _draw(results, thresholds_N, f1_above(probs_BK, right_BK, num_labels, thresholds_N), fitted, f1_K)


def first_rows(split: str, num_rows: int, *, quick: bool) -> pa.Table:
    """The first titles of a split, a tenth of them if quick."""
    return pq.read_table(resolve([f"finna_en:{split}"])[0]).slice(0, num_rows // 10 if quick else num_rows)


def names_of_subjects() -> dict[str, str]:
    """What subjects are called, by their identifiers."""
    table = pq.read_table(Path(resolve(["finna_en"])[0]).parent / "subjects.parquet")
    return dict(zip(table["subject"].to_pylist(), table["name"].to_pylist(), strict=True))


def answered(suggested: Sequence[Sequence[Any]], subjects: Sequence[Sequence[Any]]) -> tuple[Array, Array]:
    """[B, K] the probabilities of suggestions, and whether they are right."""
    probs = [[p.probability for p in row] for row in suggested]
    right = [[p.label in mine for p in row] for row, mine in zip(suggested, map(set, subjects), strict=True)]
    return np.array(probs), np.array(right)


def f1_of_firsts(right_BK: Array, num_labels: int) -> Array:
    """[K] micro F1 of the first 1, 2, … suggestions of every title."""
    given_K = len(right_BK) * np.arange(1, right_BK.shape[1] + 1)
    return np.asarray(2 * right_BK.sum(0).cumsum() / (given_K + num_labels))


def f1_above(probs_BK: Array, right_BK: Array, num_labels: int, thresholds_N: Array) -> Array:
    """[N] micro F1 of the suggestions that reach each threshold."""
    given = [probs_BK >= threshold for threshold in thresholds_N]
    return np.array([2 * right_BK[each].sum() / (each.sum() + num_labels) for each in given])


def _draw(results: Results, thresholds_N: Array, f1_N: Array, fitted: float, f1_K: Array) -> None:
    best = max(f1_N.max(), f1_K.max())
    limits = (0.0, 1.15 * best)
    by_threshold = Panel("those above a threshold", x="threshold", y="micro F1", log_x=True, y_range=limits)
    by_threshold.lines({"test titles": (thresholds_N, f1_N)})
    by_threshold.mark(fitted, "fitted on held-out titles", height=0.9)
    by_number = Panel("as many for every title", x="suggestions a title", y="micro F1", y_range=limits)
    by_number.lines({"test titles": (np.arange(1, len(f1_K) + 1), f1_K)})
    results.draw(
        charts.figure(by_threshold, by_number),
        "f1",
        title="How many subjects to suggest",
        caption="Micro F1 of the suggestions for the test titles. Left, those whose probability reaches a "
        "threshold; the mark is the one that training chose. Right, the same number for every title.",
        alt="Two curves with one maximum each. The left one is higher, and the mark stands near its top.",
    )

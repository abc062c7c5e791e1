"""CLINC150 from raw text with default settings, beside TF-IDF of words and characters with a linear SVM."""

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import is_quick, report, script
from benchmarks.runs import rounded, text_and_labels, train_and_evaluate

SEEDS = (0, 1, 2)


def linear_svm() -> dict[str, float]:
    """scikit-learn: TF-IDF of words 1–2 and characters 2–5, LinearSVC."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.svm import LinearSVC

    from widemax.data import resolve

    texts, intents = text_and_labels(resolve(["clinc150"])[0], "text", "intent")
    test_texts, test_intents = text_and_labels(resolve(["clinc150:test"])[0], "text", "intent")
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True)
    model = make_pipeline(make_union(words, characters), LinearSVC())
    started = time.perf_counter()
    model.fit(texts, intents)
    seconds = time.perf_counter() - started
    return {"train_s": seconds, "accuracy": float(model.score(test_texts, test_intents))}


def out_of_scope_auroc(run: Path) -> float:
    """How well the largest probability tells questions within the 150 intents from others."""
    from dataclasses import replace

    import numpy as np

    from widemax.artifact import Model
    from widemax.data import Dataset, resolve
    from widemax.evaluation import auroc

    model = Model.load(run)

    def confidence(data: str) -> np.ndarray:
        dataset = Dataset(resolve([data]), replace(model.schema, target=None))
        return np.concatenate(
            [model.topk(batch.columns, 1).log_probs[:, 0].numpy() for batch in dataset.batches(512)]
        )

    return auroc(confidence("clinc150:test"), confidence("clinc150:oos_test"))


def main(argv: Sequence[str]) -> dict[str, Any]:
    peer = linear_svm()
    rows = []
    for seed in SEEDS[:1] if is_quick() else SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            result = train_and_evaluate("clinc150", "clinc150:test", "intent", seed=seed, run=run)
            result |= {"oos_auroc": out_of_scope_auroc(run)}
        result |= {f"peer_{name}": value for name, value in peer.items()}
        report("clinc150", [result], seed=seed)
        rows.append(result)
    worst = min(rows, key=lambda row: row["accuracy"])
    names = ("accuracy", "ece", "oos_auroc", "train_s", "peer_accuracy", "peer_train_s")
    return {
        "benchmark": "clinc150",
        "ratio": statistics.median(row["train_s"] for row in rows) / peer["train_s"],
        "accuracies": [round(row["accuracy"], 4) for row in rows],
        "aurocs": [round(row["oos_auroc"], 4) for row in rows],
        **{f"worst_{name}": value for name, value in rounded(worst, names).items()},
    }


if __name__ == "__main__":
    script(main)

"""Definition → one of 128,044 words with the sampled head, beside the words of the nearest definitions."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import report, script
from benchmarks.runs import rounded, text_and_labels, train_and_evaluate

DATA = "open_english_wordnet"
TOPS = (1, 10, 100)


def nearest_definitions() -> dict[str, float]:
    """TF-IDF of words: the answer is the words of the most similar training definitions, best first."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    from widemax.data import resolve

    texts, words = text_and_labels(resolve([DATA])[0], "definition", "word")
    test_texts, test_words = text_and_labels(resolve([f"{DATA}:test"])[0], "definition", "word")
    started = time.perf_counter()
    vectorizer = TfidfVectorizer(sublinear_tf=True)
    known = vectorizer.fit_transform(texts)
    asked = vectorizer.transform(test_texts)
    hits = dict.fromkeys(TOPS, 0)
    for start in range(0, len(test_texts), 100):
        similarity = (asked[start : start + 100] @ known.T).toarray()
        nearest = np.argpartition(-similarity, 200, axis=1)[:, :200]
        for row, candidates in enumerate(nearest):
            order = candidates[np.argsort(-similarity[row, candidates], kind="stable")]
            ranked = list(dict.fromkeys(words[index] for index in order))
            for top in TOPS:
                hits[top] += test_words[start + row] in ranked[:top]
    seconds = time.perf_counter() - started
    return {"seconds": seconds, **{f"top{top}": hits[top] / len(test_texts) for top in TOPS}}


def top_accuracies(run: Path) -> dict[str, float]:
    """Share of test rows whose word is among the first 1, 10 and 100 of all words; exact."""
    from widemax.artifact import Model
    from widemax.data import Dataset, resolve
    from widemax.training.evaluate import answered_rows, dataset_rows

    model = Model.load(run)
    dataset = Dataset(resolve([f"{DATA}:test"]), model.schema)
    ranks = np.concatenate([rows.ranks_B for rows in answered_rows(model, dataset_rows(model, dataset))])
    return {f"top{top}": float(((ranks > 0) & (ranks <= top)).mean()) for top in TOPS}


def main(argv: Sequence[str]) -> dict[str, Any]:
    peer = nearest_definitions()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        options = ("--input", "definition", "--set", "head.kind=sampled")
        result = train_and_evaluate(DATA, f"{DATA}:test", "word", *options, seed=0, run=run)
        result |= top_accuracies(run)
    result |= {f"peer_{name}": value for name, value in peer.items()}
    report("reverse_dictionary", [result], seed=0)
    tops = [f"{prefix}top{top}" for prefix in ("", "peer_") for top in TOPS]
    return {
        "benchmark": "reverse_dictionary",
        "ratio": result["top10"] / peer["top10"],
        **rounded(result, ["train_s", "train_peak_mb", "evaluate_s", "evaluate_peak_mb", *tops]),
    }


if __name__ == "__main__":
    script(main)

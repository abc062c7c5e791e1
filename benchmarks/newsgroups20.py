"""20 Newsgroups from raw text with default settings, beside TF-IDF of words with a linear SVM."""

import time
from collections.abc import Sequence
from typing import Any

from benchmarks.measure import report, script
from benchmarks.runs import rounded, text_and_labels, train_and_evaluate


def linear_svm() -> dict[str, float]:
    """scikit-learn: TF-IDF of words 1–2, LinearSVC."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    from widemax.data import resolve

    texts, groups = text_and_labels(resolve(["newsgroups20"])[0], "text", "group")
    test_texts, test_groups = text_and_labels(resolve(["newsgroups20:test"])[0], "text", "group")
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2), LinearSVC())
    started = time.perf_counter()
    model.fit(texts, groups)
    seconds = time.perf_counter() - started
    return {"train_s": seconds, "accuracy": float(model.score(test_texts, test_groups))}


def main(argv: Sequence[str]) -> dict[str, Any]:
    peer = linear_svm()
    result = train_and_evaluate("newsgroups20", "newsgroups20:test", "group", "--input", "text", seed=0)
    result |= {f"peer_{name}": value for name, value in peer.items()}
    report("newsgroups20", [result], seed=0)
    names = ("accuracy", "ece", "train_s", "train_peak_mb", "peer_accuracy", "peer_train_s")
    return {
        "benchmark": "newsgroups20",
        "ratio": result["train_s"] / peer["train_s"],
        **rounded(result, names),
    }


if __name__ == "__main__":
    script(main)

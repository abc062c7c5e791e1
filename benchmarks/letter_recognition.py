"""Letter Recognition, 16 numbers to 26 letters, default settings, beside scikit-learn's MLPClassifier."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.measure import report, script
from benchmarks.runs import rounded, train_and_evaluate


def multilayer_perceptron() -> dict[str, float]:
    """scikit-learn: standardized inputs, one hidden layer of 512, otherwise its defaults."""
    import pyarrow.parquet as pq
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from widemax.data import resolve

    def rows(name: str) -> tuple[np.ndarray, list[str]]:
        table = pq.read_table(resolve([name])[0])
        letters = table["letter"].to_pylist()
        return np.column_stack([table[c].to_numpy() for c in table.column_names if c != "letter"]), letters

    model = make_pipeline(
        StandardScaler(), MLPClassifier((512,), early_stopping=True, max_iter=50, random_state=0)
    )
    started = time.perf_counter()
    model.fit(*rows("letter_recognition"))
    seconds = time.perf_counter() - started
    return {"train_s": seconds, "accuracy": float(model.score(*rows("letter_recognition:test")))}


def main(argv: Sequence[str]) -> dict[str, Any]:
    peer = multilayer_perceptron()
    result = train_and_evaluate("letter_recognition", "letter_recognition:test", "letter", seed=0)
    result |= {f"peer_{name}": value for name, value in peer.items()}
    report("letter_recognition", [result], seed=0)
    names = ("accuracy", "ece", "train_s", "peer_accuracy", "peer_train_s")
    return {
        "benchmark": "letter_recognition",
        "ratio": result["train_s"] / peer["train_s"],
        **rounded(result, names),
    }


if __name__ == "__main__":
    script(main)

"""How fast do titles become hashed n-grams, training read its rows, and a model get evaluated on finna_en?

    python -m benchmarks.text_feed

Featurizing with the default text encoder (words 1-2, characters 2-4, counted) is timed beside scikit-learn's
HashingVectorizer on the same titles: with words 1-2 alone, and with words 1-2 and characters 2-4 as widemax
has them. The ratio is of titles a second to those of the latter, which uses one core as widemax does here;
two threads are recorded beside it.
Then the training rows are read as `widemax train` reads them, and a model trained for a minute is evaluated.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import report, script
from benchmarks.runs import widemax

SEED = 0
ROWS, CHUNK_ROWS, ROUNDS = 65_536, 4096, 3
TRAIN_S = 60
OPTIONS = ("--set", "head.kind=sampled", "--set", "head.loss=binary_cross_entropy")


def featurize_rows_per_s(path: Path) -> dict[str, float]:
    """Titles a second, the best of rounds in which all take turns."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from sklearn.feature_extraction.text import HashingVectorizer

    from widemax.encoders import encoders
    from widemax.training.feed import in_threads

    texts = pq.read_table(path, columns=["text"])["text"].combine_chunks().cast(pa.large_string())
    chunks = [texts.slice(start, CHUNK_ROWS) for start in range(0, ROWS, CHUNK_ROWS)]
    encoder = encoders["text"]([("text", "text")])
    options: dict[str, Any] = {"n_features": 1 << 22, "alternate_sign": False, "norm": None}
    words = HashingVectorizer(ngram_range=(1, 2), **options)
    chars = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 4), **options)

    def featurize(chunk: Any) -> Any:
        return encoder.featurize({"text": chunk})

    def vectorize(*vectorizers: Any) -> None:
        for chunk in chunks:
            for vectorizer in vectorizers:
                vectorizer.transform(chunk.to_pylist())

    contenders: dict[str, Callable[[], object]] = {
        "widemax": lambda: [featurize(chunk) for chunk in chunks],
        "widemax, threads": lambda: list(in_threads(featurize, chunks)),
        "HashingVectorizer, words": lambda: vectorize(words),
        "HashingVectorizer, words and characters": lambda: vectorize(words, chars),
    }
    best_s = dict.fromkeys(contenders, float("inf"))
    for _ in range(ROUNDS):
        for name, work in contenders.items():
            started = time.perf_counter()
            work()
            best_s[name] = min(best_s[name], time.perf_counter() - started)
    return {name: round(ROWS / seconds) for name, seconds in best_s.items()}


def read_s(path: Path) -> float:
    """Seconds from the training file to encoded rows on disk."""
    from widemax.data import Dataset, infer_schema
    from widemax.encoders import encoders
    from widemax.training.feed import read_training

    started = time.perf_counter()
    schema = infer_schema([path], target="subjects")
    with tempfile.TemporaryDirectory() as scratch:
        encoder = encoders["text"]([("text", "text")])
        read_training(Dataset([path], schema), encoder, Path(scratch), seed=SEED, fitted=False)
        return round(time.perf_counter() - started, 2)


def evaluate_s() -> dict[str, float]:
    """Seconds of `widemax evaluate` on all test rows: of the evaluation, and of the whole command."""
    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(folder) / "run")
        options = ("--target", "subjects", "--seed", str(SEED), "--time-limit", f"{TRAIN_S}s", *OPTIONS)
        widemax("train", "finna_en", "--out", run, *options)
        evaluated = widemax("evaluate", run, "finna_en:test")
    return {
        "evaluate_s": evaluated.values["seconds"],
        "evaluate_command_s": round(evaluated.seconds, 2),
        "evaluate_peak_mb": evaluated.peak_bytes // 2**20,
    }


def main(argv: Sequence[str]) -> dict[str, Any]:
    from widemax.data import resolve

    (path,) = resolve(["finna_en"])
    rows_per_s = featurize_rows_per_s(path)
    seconds = read_s(path)
    result: dict[str, Any] = {f"{name} rows_per_s": speed for name, speed in rows_per_s.items()}
    result |= {"read_s": seconds, "read_share_of_4_minutes": round(seconds / 240, 4)} | evaluate_s()
    report("text_feed", [result], seed=SEED)
    peer = "HashingVectorizer, words and characters"
    ratio = round(rows_per_s["widemax"] / rows_per_s[peer], 2)
    return {"benchmark": "text_feed", "ratio": ratio} | result


if __name__ == "__main__":
    script(main)

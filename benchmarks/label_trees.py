"""What do texts with several labels reach by default beside Omikuji and linear SVMs, and what does it cost?

Texts with several labels, made of data at hand: bodies of 20 Newsgroups with the words of their header lines,
words of bookmarks with their tags (delicious), definitions of Open English WordNet with all lemmas and
hypernyms, some and many, and titles of finna_en with their subjects. Peers read TF-IDF of words and pairs of
words; each side has a process of its own. Of large sets some rows are read.
``python -m benchmarks.label_trees headers`` asks for one set.
"""

import gzip
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.finna_en import first_rows
from benchmarks.measure import is_quick, report, run_fresh, script
from benchmarks.runs import data_folder, rounded, train_and_evaluate
from widemax.classes import inverse_propensity

SETS = "headers", "delicious", "wordnet", "whole_wordnet", "finna_en"
NAMES = "p@1", "p@5", "psp@1", "train_cpu_s"
HEADERS = "From", "Subject", "Organization", "Keywords", "Summary"
LEAST_ROWS, QUICK_ROWS, PLACES = 10, 1_000, 5
TRAIN_ROWS, TEST_ROWS = 8_000, 2_000
MANY_ROWS = 50_000
"""For tens of thousands of labels."""
LONG_ROWS = 4_000
"""Of texts of hundreds of words, so that all sets take less than ten minutes of two cores."""
MOST_FEATURES, MOST_ONE_AGAINST_REST = 300_000, 2_048

Rows = list[tuple[str, list[str]]]


def headers(split: str) -> Iterator[tuple[str, list[str]]]:
    """The body of each message, and the words of its header lines."""
    with gzip.open(data_folder() / "newsgroups20" / f"20news-bydate-{split}.jsonl.gz", "rt") as file:
        for line in file:
            head, _, body = json.loads(line)["text"].partition("\n\n")
            lines = [at.partition(":") for at in head.split("\n")]
            told = " ".join(value for name, _, value in lines if name in HEADERS)
            words = "".join(letter if letter.isalpha() else " " for letter in told.lower()).split()
            yield body, sorted({word for word in words if len(word) > 2})


def delicious(split: str) -> Iterator[tuple[str, list[str]]]:
    """The words of each bookmark, in the order of their names, and its tags."""
    path = data_folder() / "mulan_delicious" / f"delicious-{split}.arff.gz"
    names = []
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            if line.startswith("@attribute"):
                names.append(line.split()[1])
            elif line.startswith("{"):
                own = [names[int(entry.split()[0])] for entry in line.strip("{}\n").split(",") if entry]
                tags = [name for name in own if name.startswith("TAG_")]
                yield " ".join(name for name in own if not name.startswith("TAG_")), tags


def wordnet() -> Iterator[tuple[str, list[str]]]:
    """Each definition with its examples, and its lemmas and hypernyms."""
    with gzip.open(data_folder() / "open_english_wordnet" / "oewn_synsets.tsv.gz", "rt") as file:
        names = next(file).rstrip("\n").split("\t")
        for line in file:
            row = dict(zip(names, line.rstrip("\n").split("\t"), strict=True))
            labels = [f"lemma {name}" for name in row["lemmas"].split("|")]
            labels += [f"above {name}" for name in row["hypernyms"].split("|") if name]
            yield f"{row['definition']} {row['examples']}", labels


def some(rows: Iterable[tuple[str, list[str]]], num_rows: int) -> Rows:
    """So many of the rows, in an order drawn once."""
    every = list(rows)
    return [every[row] for row in np.random.default_rng(0).permutation(len(every))[:num_rows]]


def made(name: str, folder: Path) -> tuple[str, str]:
    """Files of the training and of the test rows of a set."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if name == "finna_en":
        return first_rows(folder, "train", TRAIN_ROWS), first_rows(folder, "test", TEST_ROWS)
    if name.endswith("wordnet"):
        num_rows = TRAIN_ROWS if name == "wordnet" else MANY_ROWS
        rows = some(wordnet(), num_rows + TEST_ROWS)
        test, train = rows[:TEST_ROWS], rows[TEST_ROWS:]
    else:
        read_rows = {"headers": headers, "delicious": delicious}[name]
        num_rows = LONG_ROWS if name == "headers" else TRAIN_ROWS
        train, test = some(read_rows("train"), num_rows), some(read_rows("test"), TEST_ROWS)
    if is_quick():
        train, test = train[:QUICK_ROWS], test[:QUICK_ROWS]
    counts = Counter(label for _, labels in train for label in labels)
    least = 2 if name.endswith("wordnet") else LEAST_ROWS
    paths = []
    for split, part in (("train", train), ("test", test)):
        kept = [(text, [label for label in labels if counts[label] >= least]) for text, labels in part]
        texts, labels = zip(*[row for row in kept if row[1]], strict=True)
        paths.append(str(folder / f"{split}.parquet"))
        pq.write_table(pa.table({"text": texts, "subjects": labels}), paths[-1])
    return paths[0], paths[1]


def read(path: str) -> tuple[list[str], list[list[str]]]:
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["text", "subjects"])
    return table["text"].to_pylist(), table["subjects"].to_pylist()


def peer(kind: str, train: str, test: str) -> dict[str, Any]:
    """Fit one peer, and score what it finds."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import MultiLabelBinarizer

    (texts, labels), (test_texts, test_labels) = read(train), read(test)
    started = time.process_time()
    vectors = TfidfVectorizer(ngram_range=(1, 2), min_df=2, max_features=MOST_FEATURES, sublinear_tf=True)
    features = vectors.fit_transform(texts).astype(np.float32)
    binarizer = MultiLabelBinarizer(sparse_output=True)
    right = binarizer.fit_transform(labels)
    found = {"omikuji": omikuji, "svm": svm}[kind](features, right, vectors.transform(test_texts))
    seconds = time.process_time() - started
    number_of = {label: at for at, label in enumerate(binarizer.classes_)}
    worth_C = inverse_propensity(np.asarray(right.sum(axis=0)).ravel(), len(texts))
    hits, gains, best = [], [], []
    for row, own in zip(found["best"], test_labels, strict=True):
        ids = {number_of[label] for label in own if label in number_of}
        hits.append([at in ids for at in row])
        gains.append(worth_C[row[0]] * hits[-1][0])
        best.append(max((worth_C[at] for at in ids), default=0.0))
    precisions = np.array(hits, float)
    return {
        "p@1": precisions[:, 0].mean(),
        "p@5": precisions.sum(1).mean() / PLACES,
        "psp@1": float(np.sum(gains) / np.sum(best)),
        "train_cpu_s": found["fitted"] - started,
        "train_process_cpu_s": found["fitted"],
        "predict_cpu_s": seconds - (found["fitted"] - started),
    }


def omikuji(features: Any, right: Any, test: Any) -> dict[str, Any]:
    """Three trees of Bonsai's kind."""
    from omikuji import Model

    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        whole = np.flatnonzero(np.diff(features.indptr))  # it reads no row without a feature
        file.write(f"{len(whole)} {features.shape[1]} {right.shape[1]}\n")
        for row in whole:
            own, vector = right[[row]].indices, features[[row]]
            pairs = " ".join(f"{at}:{x:.6g}" for at, x in zip(vector.indices, vector.data, strict=True))
            file.write(f"{','.join(map(str, own))} {pairs}\n")
        file.flush()
        bonsai = Model.default_hyper_param()
        bonsai.cluster_balanced, bonsai.cluster_k, bonsai.collapse_every_n_layers = False, 100, 0
        bonsai.min_branch_size, bonsai.n_trees = 100, 3
        model = Model.train_on_data(file.name, bonsai, n_threads=1)
    fitted = time.process_time()
    best = []
    for row in range(test.shape[0]):
        vector = test[[row]]
        answers = model.predict(
            list(zip(vector.indices.tolist(), vector.data.tolist(), strict=True)), top_k=PLACES
        )
        ids = [at for at, _ in answers]
        best.append(ids + [-1] * (PLACES - len(ids)))
    return {"fitted": fitted, "best": best}


def svm(features: Any, right: Any, test: Any) -> dict[str, Any]:
    """A linear support vector machine for each label, against all rows without it."""
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.svm import LinearSVC

    model = OneVsRestClassifier(LinearSVC()).fit(features, right)
    fitted = time.process_time()
    scores = model.decision_function(test)
    return {"fitted": fitted, "best": np.argsort(-scores, axis=1)[:, :PLACES].tolist()}


def main(argv: Sequence[str]) -> dict[str, Any]:
    if argv and argv[0] == "--peer":
        return peer(*argv[1:])
    summary: dict[str, Any] = {"benchmark": "label_trees"}
    ratios = []
    for name in argv or SETS:
        with tempfile.TemporaryDirectory() as folder:
            train, test = made(name, Path(folder))
            own = train_and_evaluate(train, test, "subjects", seed=0)
            rows = [{"data": name, "model": "widemax", **own}]
            kinds = ["omikuji"] * bool(find_spec("omikuji"))
            kinds += ["svm"] * (own["num_classes"] <= MOST_ONE_AGAINST_REST)
            for kind in kinds:
                values = run_fresh("benchmarks.label_trees", "--peer", kind, train, test)
                rows.append({"data": name, "model": kind, "num_classes": own["num_classes"], **values})
        report("label_trees", rows, seed=0)
        for row in rows:
            summary |= {f"{name} {row['model']} {key}": value for key, value in rounded(row, NAMES).items()}
        if len(rows) > 1:
            ratios.append(own["p@1"] / max(row["p@1"] for row in rows[1:]))
    return summary | ({"ratio": min(ratios)} if ratios else {})


if __name__ == "__main__":
    script(main)

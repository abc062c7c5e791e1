"""Short and long texts with default settings, beside scikit-learn's linear classifiers of TF-IDF.

python -m benchmarks.text [SET ...] [--seed N] [--held-out]
"""

import argparse
import csv
import gzip
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

import numpy as np

from benchmarks.measure import is_quick, script
from benchmarks.runs import beside_peers, data_folder, text_and_labels, train_and_evaluate

FEW_ROWS, FEW_CLASSES = 5_500, 97
PASSAGE_WORDS = 60


class Texts(NamedTuple):
    """The training rows, then the test rows."""

    texts: Sequence[str]
    labels: Sequence[str]
    num_train: int

    def rows(self, order: Any, num_train: int) -> "Texts":
        return Texts([self.texts[row] for row in order], [self.labels[row] for row in order], num_train)

    def held_out(self) -> "Texts":
        """A fifth of the training rows takes the place of the test rows: defaults are chosen by it."""
        return self.rows(np.random.default_rng(1).permutation(self.num_train), self.num_train * 4 // 5)

    def frequent(self, num_classes: int) -> "Texts":
        """The rows of the most frequent classes of training."""
        kept = {label for label, _ in Counter(self.labels[: self.num_train]).most_common(num_classes)}
        places = [place for place, label in enumerate(self.labels) if label in kept]
        return self.rows(places, sum(place < self.num_train for place in places))

    def few(self) -> "Texts":
        """Some training rows of some classes, and all their test rows."""
        most = self.frequent(FEW_CLASSES)
        train = np.random.default_rng(0).permutation(most.num_train)[:FEW_ROWS]
        return most.rows([*train, *range(most.num_train, len(most.texts))], len(train))

    def write(self, folder: Path) -> tuple[str, str]:
        """Files of the training and of the test rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table({"text": self.texts, "label": self.labels})
        paths = str(folder / "train.parquet"), str(folder / "test.parquet")
        pq.write_table(table[: self.num_train], paths[0])
        pq.write_table(table[self.num_train :], paths[1])
        return paths


def catalog(name: str, label: str) -> Texts:
    """A data set with its own test rows."""
    from widemax.data import resolve

    train, test = (text_and_labels(resolve([part])[0], "text", label) for part in (name, f"{name}:test"))
    return Texts(train[0] + test[0], train[1] + test[1], len(train[0]))


def split(rows: Sequence[tuple[str, str]]) -> Texts:
    """A fifth of the different rows for the test."""
    different = sorted({*rows})
    order = np.random.default_rng(0).permutation(len(different))
    texts, labels = zip(*different, strict=True)
    return Texts(texts, labels, 0).rows(order, len(order) * 4 // 5)


def passages() -> Texts:
    """Posts cut into pieces; the pieces of a test post are for the test."""
    whole = catalog("newsgroups20", "group")
    texts: list[str] = []
    labels: list[str] = []
    num_train = 0
    for place, (text, label) in enumerate(zip(whole.texts, whole.labels, strict=True)):
        words = text.split()
        starts = range(0, max(1, len(words) - PASSAGE_WORDS // 2), PASSAGE_WORDS)
        texts += (" ".join(words[start : start + PASSAGE_WORDS]) for start in starts)
        labels += [label] * len(starts)
        if place < whole.num_train:
            num_train = len(texts)
    train = np.random.default_rng(0).permutation(num_train)[:50_000]
    return Texts(texts, labels, 0).rows([*train, *range(num_train, len(texts), 4)], len(train))


def definitions(label: str) -> Texts:
    """What Open English WordNet says a word means, to its subject or to its first broader word."""
    path = data_folder() / "open_english_wordnet" / "oewn_synsets.tsv.gz"
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return split([(row["definition"], row[label].split("|")[0].split()[0]) for row in rows if row[label]])


def sentences() -> Texts:
    """Sentences of the Brown corpus to the genre of the text they are from."""
    rows = []
    with ZipFile(data_folder() / "brown" / "brown.zip") as archive:
        listed = next(Path(name) for name in archive.namelist() if name.endswith("cats.txt"))
        for line in archive.read(str(listed)).decode().splitlines():
            if line:
                name, genre = line.split()
                for tagged in archive.read(str(listed.parent / name)).decode().splitlines():
                    rows.append((" ".join(word.rpartition("/")[0] for word in tagged.split()), genre))
    return split([row for row in rows if row[0]])


def titles() -> Texts:
    """Titles of library works to their first subject."""
    from widemax.data import resolve

    texts, subjects = text_and_labels(resolve(["finna_en"])[0], "text", "subjects")
    return split([(text, str(some[0])) for text, some in zip(texts, subjects, strict=True) if some])


SETS: dict[str, Callable[[], Texts]] = {
    "few-intents": lambda: catalog("clinc150", "intent").few(),
    "few-hypernyms": lambda: definitions("hypernyms").few(),
    "few-titles": lambda: titles().few(),
    "intents": lambda: catalog("clinc150", "intent"),
    "titles": lambda: titles().frequent(300),
    "lexfiles": lambda: definitions("lexfile"),
    "genres": sentences,
    "passages": passages,
    "newsgroups": lambda: catalog("newsgroups20", "group"),
}


def peers(data: Texts) -> list[dict[str, Any]]:
    """Words alone and with characters, each with both classifiers.

    The time of each is that of a program of its own: what it imports, features, and the fit.
    """
    started = time.process_time()
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.svm import LinearSVC

    imports_s = time.process_time() - started
    from widemax.evaluation.calibration import ConfidenceBins

    rows = []
    cut, labels = data.num_train, np.array(data.labels)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    characters = TfidfVectorizer(ngram_range=(2, 5), sublinear_tf=True, analyzer="char_wb")
    for features, parts in {"words": [words], "words and characters": [words, characters]}.items():
        started = time.process_time()
        train = hstack([part.fit_transform(data.texts[:cut]) for part in parts]).tocsr()
        features_s = imports_s + time.process_time() - started
        test = hstack([part.transform(data.texts[cut:]) for part in parts]).tocsr()
        for model in (LinearSVC(), LogisticRegression()):
            started = time.process_time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the default iterations are what is compared
                model.fit(train, labels[:cut])
            cpu_s = features_s + time.process_time() - started
            right = model.predict(test) == labels[cut:]
            row = {"model": f"{type(model).__name__}, {features}", "accuracy": float(right.mean())}
            if isinstance(model, LogisticRegression):
                probs = model.predict_proba(test)
                bins = ConfidenceBins()
                bins.update(probs.max(axis=1), right)
                nll = log_loss(labels[cut:], probs, labels=model.classes_)
                row |= {"ece": bins.calibration_error(), "nll": nll}
            rows.append(row | {"cpu_s": cpu_s})
    return rows


def compare(name: str, *, seed: int, held_out: bool) -> list[dict[str, Any]]:
    """One row for widemax and one for each peer."""
    data = SETS[name]()
    if held_out:
        data = data.held_out()
    with tempfile.TemporaryDirectory() as folder:
        options = ("--set", "data.kinds.text=text")
        ours = train_and_evaluate(*data.write(Path(folder)), "label", *options, seed=seed)
    measured = {"accuracy": ours["accuracy"], "ece": ours["ece"], "nll": ours["nll"]}
    measured |= {"cpu_s": ours["train_cpu_s"], "peak_mb": ours["train_peak_mb"]}
    rows = [{"model": "widemax", **measured}, *peers(data)]
    return [{"set": name, "rows": "held out" if held_out else "test", **row} for row in rows]


def main(argv: Sequence[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="text")
    # argparse holds an empty list against the choices as if it were one of them.
    parser.add_argument("sets", nargs="*", choices=[*SETS, []], default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out", action="store_true")
    options = parser.parse_args(argv)
    names = options.sets or [each for each in SETS if each.startswith("few") or not is_quick()]
    return beside_peers(
        "text",
        names,
        lambda name: compare(name, seed=options.seed, held_out=options.held_out),
        seed=options.seed,
    )


if __name__ == "__main__":
    script(main)

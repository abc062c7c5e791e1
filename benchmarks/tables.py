"""Tables of numbers with default settings, beside scikit-learn's usual classifiers with theirs.

python -m benchmarks.tables [NAME ...] [--seed N]
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.measure import is_quick, script
from benchmarks.runs import beside_peers, train_and_evaluate


class Table(NamedTuple):
    """Columns and labels of training and test rows; the peers see ``numbers`` alone."""

    columns: dict[str, Any]
    labels: Sequence[Any]
    numbers: Any
    num_train: int

    def write(self, folder: Path) -> tuple[str, str]:
        """Files of the training and of the test rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table({**self.columns, "label": self.labels})
        paths = str(folder / "train.parquet"), str(folder / "test.parquet")
        pq.write_table(table[: self.num_train], paths[0])
        pq.write_table(table[self.num_train :], paths[1])
        return paths


def places(
    num_rows: int, num_zones: int, num_clusters: int, *, flavor: float = 0.0
) -> Callable[[int], Table]:
    """Name, coordinates and population of made towns to the zone they lie in.

    Towns stand in clusters as people do; zones are the cells of a weighted Voronoi diagram of bent
    coordinates, half of them around towns, so that they are of every size. Populations say nothing about the
    zone. Names do in a share ``flavor`` of their syllables, which are those of the zone; only coordinates go
    to the peers.
    """

    def make(seed: int) -> Table:
        rng = np.random.default_rng(seed)
        clusters = np.c_[rng.uniform(-55, 70, num_clusters), rng.uniform(-170, 178, num_clusters)]
        sizes = rng.pareto(1.2, num_clusters) + 0.2
        home = rng.choice(num_clusters, num_rows, p=sizes / sizes.sum())
        spread = np.exp(rng.normal(1, 0.8, num_clusters))
        towns = (clusters[home] + rng.normal(size=(num_rows, 2)) * spread[home, None]).round(4)
        anywhere = np.c_[rng.uniform(-60, 75, num_zones), rng.uniform(-180, 180, num_zones)]
        among = towns[rng.choice(num_rows, num_zones // 2)] + rng.normal(size=(num_zones // 2, 2)) * 2
        seats = np.r_[among, anywhere[num_zones // 2 :]]
        reach = rng.gamma(1, 30, num_zones)
        zones = np.array([(((point - bent(seats)) ** 2).sum(1) - reach).argmin() for point in bent(towns)])
        syllables = np.array(["ka", "lo", "mi", "ra", "ten", "burg", "ville", "sto", "no", "wick"])
        chosen = rng.integers(10, size=(num_rows, 4))
        if flavor:
            own = rng.integers(10, size=(num_zones, 4))[zones]
            chosen = np.where(rng.random(chosen.shape) < flavor, own, chosen)
        columns = {
            "name": ["".join(parts) for parts in syllables[chosen]],
            "latitude": towns[:, 0],
            "longitude": towns[:, 1],
            "population": np.where(rng.random(num_rows) < 0.3, 0, np.exp(rng.normal(7, 2, num_rows))).round(),
        }
        return Table(columns, [f"zone {zone}" for zone in zones], towns, num_rows * 4 // 5)

    return make


def bent(points: Any) -> Any:
    """Coordinates bent, so that the borders between zones are."""
    north, east = points.T
    bent_north = north + 1.5 * np.sin(east / 4) + 0.5 * np.sin(1.3 * east)
    return np.c_[bent_north, 0.8 * (east + 1.5 * np.sin(north / 5) + 0.5 * np.sin(1.1 * north))]


def catalog(name: str, label: str) -> Callable[[int], Table]:
    """A data set with its own test rows; a vector becomes a column for each of its numbers."""

    def read(seed: int) -> Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        from widemax.data import resolve

        train, test = (pq.read_table(resolve([part])[0]) for part in (name, f"{name}:test"))
        both = pa.concat_tables([train, test])
        inputs = [each for each in both.column_names if each != label]
        numbers = np.column_stack([np.array(both[each].to_pylist(), float) for each in inputs])
        return Table(by_place(numbers), both[label].to_pylist(), numbers, len(train))

    return read


def bundled(name: str) -> Callable[[int], Table]:
    """A data set that comes with scikit-learn, a fifth of its rows for the test."""

    def read(seed: int) -> Table:
        from sklearn import datasets

        numbers, classes = getattr(datasets, f"load_{name}")(return_X_y=True)
        order = np.random.default_rng(seed).permutation(len(classes))
        numbers, labels = numbers[order], [f"class {each}" for each in classes[order]]
        return Table(by_place(numbers), labels, numbers, len(labels) * 4 // 5)

    return read


def by_place(numbers: Any) -> dict[str, Any]:
    return {f"x{place}": column for place, column in enumerate(np.asarray(numbers, float).T)}


TABLES: dict[str, Callable[[int], Table]] = {
    "places_10k": places(10_000, 80, 60),
    "places_50k": places(50_000, 250, 300),
    "places_136k": places(136_000, 564, 800, flavor=0.3),
    "letter": catalog("letter_recognition", "letter"),
    "yeast": catalog("mulan_yeast", "labels"),
    "scene": catalog("mulan_scene", "labels"),
    "emotions": catalog("mulan_emotions", "labels"),
    "digits": bundled("digits"),
    "cancer": bundled("breast_cancer"),
    "wine": bundled("wine"),
}

LARGE = ("places_50k", "places_136k")
"""Left out of a quick run."""


def peers(seed: int, *, several: bool) -> dict[str, Any]:
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.multioutput import MultiOutputClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    boosting: Any = HistGradientBoostingClassifier(random_state=seed)
    return {
        "boosting": MultiOutputClassifier(boosting) if several else boosting,
        "forest": RandomForestClassifier(random_state=seed),
        "neighbors": make_pipeline(StandardScaler(), KNeighborsClassifier()),
        "perceptron": make_pipeline(StandardScaler(), MLPClassifier(random_state=seed)),
    }


def first_right(model: Any, numbers: Any, truth: Any) -> float:
    """The share of rows whose likeliest class is right."""
    if truth.ndim == 1:
        return float(model.score(numbers, truth))
    probs = model.predict_proba(numbers)
    if isinstance(probs, list):  # one array of [absent, present] for each class
        probs = np.column_stack([each[:, 1] for each in probs])
    return float(truth[np.arange(len(truth)), probs.argmax(axis=1)].mean())


def compare(name: str, *, seed: int) -> list[dict[str, Any]]:
    """One row for widemax and one for each peer."""
    import warnings

    from sklearn.preprocessing import MultiLabelBinarizer

    table = TABLES[name](seed)
    with tempfile.TemporaryDirectory() as folder:
        ours = train_and_evaluate(*table.write(Path(folder)), "label", seed=seed)
    several = not isinstance(table.labels[0], str)
    accuracy = ours["p@1" if several else "accuracy"]
    rows = [{"table": name, "model": "widemax", "accuracy": accuracy, "seconds": ours["train_s"]}]
    truth = MultiLabelBinarizer().fit_transform(table.labels) if several else np.array(table.labels)
    cut = table.num_train
    for peer, model in peers(seed, several=several).items():
        fitted = np.arange(cut)
        if peer == "boosting" and not several:  # which holds out rows of every class
            _, places, counts = np.unique(truth[:cut], return_inverse=True, return_counts=True)
            fitted = fitted[counts[places] > 1]
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the default iterations are what is compared
            model.fit(table.numbers[fitted], truth[fitted])
        seconds = time.perf_counter() - started
        accuracy = first_right(model, table.numbers[cut:], truth[cut:])
        rows.append({"table": name, "model": peer, "accuracy": accuracy, "seconds": seconds})
    return rows


def main(argv: Sequence[str]) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="tables")
    # argparse holds an empty list against the choices as if it were one of them.
    parser.add_argument("tables", nargs="*", choices=[*TABLES, []], default=[])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    names = options.tables or [name for name in TABLES if not is_quick() or name not in LARGE]
    return beside_peers("tables", names, lambda name: compare(name, seed=options.seed), seed=options.seed)


if __name__ == "__main__":
    script(main)

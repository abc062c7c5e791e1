"""Four classifiers on the same pixels of small photographs: neighbors, two linear ones, a net.

Shapes: N photographs of H by W pixels in 3 colors, B held-out ones, D = 3HW features, F folds, K numbers of
neighbors, M nearest ones, P settings, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from widemax import charts
from widemax.charts import Panel
from widemax.data import resolve
from widemax.estimators import LinearSVM, NearestNeighborsClassifier, SoftmaxRegression, TwoLayerNet
from widemax.recipes.base import Array, Recipe, Results, recipes
from widemax.recipes.known import Known

NEIGHBORS, SVM, SOFTMAX, NET = "nearest neighbors", "SVM", "softmax", "two-layer net"
NUMBERS_K = np.array([1, 3, 5, 8, 10, 12, 15, 20, 50, 100])
CS231N = "Li, Karpathy, Johnson et al., CS231n (Stanford, 2016), assignment 1"
ORDER = f"test accuracy: {NEIGHBORS} < {SVM}, {SOFTMAX} < {NET}"
LINEAR = Known.near(
    0.37,
    within=0.04,
    digits=3,
    source=f"{CS231N}, svm and softmax: 0.35 to 0.39 from 49,000 rows; two standard errors of the test rows",
)
KNOWN = {
    f"test accuracy, {NEIGHBORS}": Known.near(
        0.28,
        within=0.02,
        digits=3,
        source=f"{CS231N}, knn: about 0.28 from 5,000 rows; two standard errors of the test rows",
    ),
    f"test accuracy, {SVM}": LINEAR,
    f"test accuracy, {SOFTMAX}": LINEAR,
    f"test accuracy, {NET}": Known.at_least(
        0.45,
        digits=3,
        source="scikit-learn's MLPClassifier with 500 hidden units from the same rows, 0.45 to 0.46; "
        f"{CS231N}, two_layer_net: 0.48 to 0.52 from 49,000 rows",
    ),
    ORDER: Known.yes(source=f"{CS231N}: 0.28; 0.35 to 0.39; 0.48 to 0.52"),
}


@dataclass(frozen=True)
class Settings:
    """One photograph in how many is taken, and what is chosen among."""

    every: int
    penalties: tuple[float, ...]
    rates: tuple[float, ...]
    decays: tuple[float, ...]
    hidden_units: int
    epochs: int


FULL = Settings(
    every=1,
    penalties=(3e-5, 1e-4, 3e-4, 1e-3),
    rates=(3e-4, 1e-3),
    decays=(1, 3, 10),
    hidden_units=500,
    epochs=15,
)
QUICK = Settings(every=8, penalties=(3e-5, 3e-4), rates=(1e-3,), decays=(1, 3), hidden_units=100, epochs=6)


@recipes.register("classifiers-cifar10")
class ClassifiersCifar10(Recipe):
    """What CS231n begins with: neighbors, an SVM, a softmax and one hidden layer, on raw pixels."""

    title = "Four classifiers on the pixels of small photographs"
    description = (
        "Photographs of 32 by 32 pixels show ten kinds of things and animals; 1,000 of each are there to "
        "learn from. Four classifiers get the same pixels, less the mean photograph and divided by one "
        "number: the nearest neighbors; a linear SVM with the hinge of Weston and Watkins, as in CS231n; "
        "softmax regression; and a net with one hidden layer. Whatever has to be chosen is chosen on "
        "held-out training rows."
    )
    data = ("cifar10",)
    full_time = "4 min"
    known = KNOWN

    def run(self, results: Results, *, quick: bool, seed: int) -> None:
        settings = QUICK if quick else FULL
        train, test = (read_photos(split, every=settings.every) for split in ("train", "test"))
        rows, test_rows = standardized(train, test)
        chosen = choose(results, rows, settings, seed=seed)
        guesses = {name: choice.model.predict(test_rows.values_ND) for name, choice in chosen.items()}
        accuracy = {name: float((guesses_N == test.names_N).mean()) for name, guesses_N in guesses.items()}
        for name, value in accuracy.items():
            results.obtain(f"test accuracy, {name}", value)
        linear = accuracy[SVM], accuracy[SOFTMAX]
        results.obtain(ORDER, accuracy[NEIGHBORS] < min(linear) and max(linear) < accuracy[NET])
        _find(results, len(rows), chosen, accuracy)
        _draw_accuracies(results, chosen, accuracy)
        for name in (SVM, SOFTMAX):
            _draw_templates(results, name, chosen[name].model)
        _draw_hidden(results, chosen[NET].model)
        _draw_confusion(results, test.names_N, guesses[NET])
        _draw_neighbors(results, chosen[NEIGHBORS].model, train, test, test_rows, seed=seed)


@dataclass(frozen=True)
class Photos:
    """Some photographs, in bytes, and the names of what they show."""

    pixels_NHW3: Array
    names_N: Array


def read_photos(split: str, *, every: int = 1) -> Photos:
    """One photograph in ``every`` of a split, "train" or "test"."""
    (path,) = resolve([f"cifar10:{split}"])
    table = pq.read_table(path)
    pixels_NHW3 = table["image"].combine_chunks().to_numpy_ndarray()
    return Photos(pixels_NHW3[::every], np.array(table["label"].to_pylist())[::every])


@dataclass(frozen=True)
class Split:
    """Features, and the names of the classes."""

    values_ND: Array
    names_N: Array

    def __len__(self) -> int:
        return len(self.names_N)

    def take(self, places: Array) -> "Split":
        return Split(self.values_ND[places], self.names_N[places])


def standardized(train: Photos, test: Photos) -> tuple[Split, Split]:
    """Pixels less the mean training photograph, divided by one number: neighbors stay who they are."""
    splits = [
        photos.pixels_NHW3.reshape(len(photos.names_N), -1).astype(np.float32) for photos in (train, test)
    ]
    mean_D = splits[0].mean(axis=0)
    scale = (splits[0] - mean_D).std()
    one, other = ((values_ND - mean_D) / scale for values_ND in splits)
    return Split(one, train.names_N), Split(other, test.names_N)


@dataclass(frozen=True)
class Choice:
    """A classifier fitted to all training rows, what was chosen, and its accuracy on held-out ones."""

    model: Any
    words: str
    held_out: float


def choose(results: Results, rows: Split, settings: Settings, *, seed: int) -> dict[str, Choice]:
    """The four classifiers, each as it does best on held-out training rows; draws how well."""
    splits = StratifiedKFold(5, shuffle=True, random_state=seed).split(rows.values_ND, rows.names_N)
    folds = list(splits)
    accuracy_FK = accuracies_by_k([(rows.take(part), rows.take(held)) for part, held in folds])
    _draw_folds(results, accuracy_FK)
    mean_K = accuracy_FK.mean(axis=0)
    k = int(NUMBERS_K[mean_K.argmax()])
    neighbors = NearestNeighborsClassifier(n_neighbors=k).fit(rows.values_ND, rows.names_N)
    chosen = {NEIGHBORS: Choice(neighbors, f"k = {k}", float(mean_K.max()))}

    penalties = {"C": settings.penalties}
    net = TwoLayerNet(
        hidden_units=settings.hidden_units, epochs=settings.epochs, batch_size=100, random_state=seed
    )
    searches = {
        SVM: (LinearSVM(loss="weston_watkins", tol=0.01), penalties),
        SOFTMAX: (SoftmaxRegression(tol=1e-3, random_state=seed), penalties),
        NET: (net, {"learning_rate": settings.rates, "weight_decay": settings.decays}),
    }
    scores = {}
    for name, (model, grid) in searches.items():
        # One fold for each: five would take five times as long.
        search = GridSearchCV(model, grid, cv=folds[:1]).fit(rows.values_ND, rows.names_N)
        words = ", ".join(
            f"{option.replace('_', ' ')} {value:g}" for option, value in search.best_params_.items()
        )
        chosen[name] = Choice(search.best_estimator_, words, float(search.best_score_))
        scores[name] = search.cv_results_["mean_test_score"]
    _draw_tried(
        results,
        "penalties",
        {name: (settings.penalties, scores[name]) for name in (SVM, SOFTMAX)},
        x="C, the inverse strength of the penalty",
        title="The linear classifiers: how strong a penalty",
    )
    of_rate = np.split(scores[NET], len(settings.rates))
    _draw_tried(
        results,
        "decays",
        {
            f"learning rate {rate:g}": (settings.decays, of)
            for rate, of in zip(settings.rates, of_rate, strict=True)
        },
        x="weight decay",
        title="The two-layer net: learning rate and weight decay",
    )
    return chosen


def accuracies_by_k(folds: Sequence[tuple[Split, Split]]) -> Array:
    """[F, K] accuracy on the held-out rows of each fold, by each of ``NUMBERS_K`` neighbors in the others."""
    accuracy_FK = np.empty((len(folds), len(NUMBERS_K)))
    for fold, (part, held) in enumerate(folds):
        model = NearestNeighborsClassifier(n_neighbors=int(NUMBERS_K.max()))
        model.fit(part.values_ND, part.names_N)
        # The most neighbors hold the fewer ones, so that one search is enough.
        labels_BM = model.labels_[model.kneighbors(held.values_ND)[1]]
        votes_BMC = np.cumsum(labels_BM[..., None] == np.arange(len(model.classes_)), axis=1)
        guesses_BK = model.classes_[votes_BMC[:, NUMBERS_K - 1].argmax(axis=2)]
        accuracy_FK[fold] = (guesses_BK == held.names_N[:, None]).mean(axis=0)
    return accuracy_FK


def templates(weights: Array) -> Array:
    """[N, 32, 32, 3] weights, [N, D], as colors: gray is 0, and all but the largest of an image fit."""
    limit_N1 = np.quantile(np.abs(weights), 0.995, axis=1, keepdims=True)
    return np.asarray(np.clip(0.5 + weights / (2 * limit_N1), 0, 1).reshape(-1, 32, 32, 3))


def _find(
    results: Results, num_rows: int, chosen: Mapping[str, Choice], accuracy: Mapping[str, float]
) -> None:
    for name, choice in chosen.items():
        results.find(
            f"{name}: {accuracy[name]:.3f} of the test rows are right, with {choice.words}, after "
            f"{num_rows:,} training rows."
        )


def _draw_folds(results: Results, accuracy_FK: Array) -> None:
    mean_K, spread_K = accuracy_FK.mean(axis=0), accuracy_FK.std(axis=0)
    every_FK = np.broadcast_to(NUMBERS_K, accuracy_FK.shape)
    panel = Panel(
        width=768,
        x="number of neighbors k",
        y="accuracy on the held-out fold",
        log_x=True,
        x_ticks={k: str(k) for k in NUMBERS_K.tolist()},
    )
    places_N2 = np.stack([every_FK.ravel(), accuracy_FK.ravel()], axis=1)
    panel.scatter(places_N2, np.zeros(len(places_N2)), ["a fold"])
    bars_K3 = np.stack([mean_K - spread_K, mean_K + spread_K, np.full_like(mean_K, np.nan)], axis=1)
    panel.lines({"mean of the five folds": (NUMBERS_K, mean_K), "": (NUMBERS_K.repeat(3), bars_K3.ravel())})
    best = mean_K.argmax()
    results.draw(
        charts.figure(panel),
        "folds",
        title="How many neighbors: cross-validation",
        caption="Each fold of the training rows is asked once, the four others answer. Bars are one standard "
        "deviation of the folds.",
        alt=f"The mean lies between {mean_K.min():.3f} at k = {NUMBERS_K[mean_K.argmin()]} and "
        f"{mean_K[best]:.3f} at k = {NUMBERS_K[best]}; a standard deviation is about "
        f"{spread_K.mean():.3f}.",
    )


def _draw_tried(
    results: Results, name: str, series: Mapping[str, tuple[Sequence[float], Array]], *, x: str, title: str
) -> None:
    tried, _ = next(iter(series.values()))
    shown = {value: f"{value:g}" for value in tried}
    panel = Panel(width=672, x=x, y="accuracy on the held-out fold", log_x=True, x_ticks=shown)
    panel.lines(series, markers=True)
    results.draw(
        charts.figure(panel),
        name,
        title=title,
        caption="A fifth of the training rows is asked, the others answer.",
        alt=f"By {x}. "
        + "; ".join(
            f"{what}: {', '.join(f'{score:.3f}' for score in scores)}" for what, (_, scores) in series.items()
        )
        + ".",
    )


def _draw_accuracies(results: Results, chosen: Mapping[str, Choice], accuracy: Mapping[str, float]) -> None:
    series = {
        "held-out training rows": [choice.held_out for choice in chosen.values()],
        "test rows": list(accuracy.values()),
    }
    panel = Panel(width=768, y="accuracy")
    panel.bars(list(chosen), series, digits=3)
    results.draw(
        charts.figure(panel),
        "accuracies",
        title="Four classifiers, the same pixels",
        caption="Guessing gives 0.1. Held-out rows were used to choose and are therefore a little too good; "
        "then all training rows were learned from.",
        alt="; ".join(f"{name}: {value:.3f} of the test rows" for name, value in accuracy.items()) + ".",
    )


def _draw_templates(results: Results, name: str, model: LinearSVM | SoftmaxRegression) -> None:
    results.draw(
        charts.images(templates(model.coef_), list(model.classes_), columns=5, size=120),
        f"templates-{name.lower()}",
        title=f"What each class looks for: {name}",
        caption="The weights of a class as colors. Gray does not matter; where a template is bluer than "
        "gray, a photograph bluer than the mean one speaks for the class, and so on.",
        alt="Ten grainy images. The frog is a green blob, the automobile a bright body under something blue, "
        "and the ship has blue edges; most others have no clear shape.",
    )


def _draw_hidden(results: Results, net: TwoLayerNet) -> None:
    size_H = np.linalg.norm(net.hidden_coef_, axis=1) * np.linalg.norm(net.coef_, axis=0)
    units = np.argsort(-size_H, kind="stable")[:40]
    titles = list(net.classes_[net.coef_[:, units].argmax(axis=0)])
    results.draw(
        charts.images(templates(net.hidden_coef_[units]), titles, columns=10),
        "hidden",
        title="What the hidden units look for",
        caption="Weights of the forty units that count most, with the class that each speaks for most. Gray "
        "does not matter.",
        alt="Forty images of colored blobs, edges and grains; few of them look like a thing.",
    )


def _draw_confusion(results: Results, names_N: Array, guesses_N: Array) -> None:
    names = np.unique(names_N)
    share_CC = 100 * confusion_matrix(names_N, guesses_N, labels=names, normalize="true")
    panel = Panel(width=710, height=590, x="class given", y="class shown")
    panel.cells(share_CC, rows=list(names), columns=list(names), limit=100, digits=0)
    off_CC = share_CC - np.diag(np.diag(share_CC))
    shown, given = np.unravel_index(off_CC.argmax(), off_CC.shape)
    best, worst = np.diag(share_CC).argmax(), np.diag(share_CC).argmin()
    words = (
        f"right most often for {names[best]} ({share_CC[best, best]:.0f} %) and least for {names[worst]} "
        f"({share_CC[worst, worst]:.0f} %); the most common mistake is {names[given]} for {names[shown]} "
        f"({share_CC[shown, given]:.0f} %)"
    )
    results.find(f"{NET}: {words}.")
    results.draw(
        charts.figure(panel),
        "confusion",
        title=f"What the {NET} takes for what",
        caption="Per cent of the test photographs of a class; a row adds up to 100.",
        alt=f"A table of ten by ten shares with a dark diagonal: {words}.",
    )


def _draw_neighbors(
    results: Results,
    model: NearestNeighborsClassifier,
    train: Photos,
    test: Photos,
    test_rows: Split,
    *,
    seed: int,
) -> None:
    asked_N = np.random.default_rng(seed).choice(len(test_rows), 6, replace=False)
    _, nearest_NM = model.set_params(n_neighbors=5).kneighbors(test_rows.values_ND[asked_N])
    pictures, titles = [], []
    for asked, nearest_M in zip(asked_N, nearest_NM, strict=True):
        name = test.names_N[asked]
        pictures += [test.pixels_NHW3[asked], *train.pixels_NHW3[nearest_M]]
        titles += [f"{name}\nasked"]
        titles += [f"{found}\n{'right' if found == name else 'wrong'}" for found in train.names_N[nearest_M]]
    right = sum(title.endswith("right") for title in titles)
    results.draw(
        charts.images(np.stack(pictures), titles, columns=6, size=120),
        "neighbors",
        title="Six test photographs and their nearest neighbors",
        caption="Left the test photograph, then the five training photographs whose pixels are nearest. "
        "Neighbors share colors and backgrounds more than things.",
        alt=f"Of the thirty neighbors {right} show what the test photograph shows: "
        + "; ".join(titles).replace("\n", " is ")
        + ".",
    )

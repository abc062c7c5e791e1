"""Several right labels a row: sigmoid against softmax, thresholds, F-scores, label correlations.

Shapes: B rows, F features, C classes, N thresholds.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, hamming_loss
from sklearn.multiclass import OneVsRestClassifier
from torch import Tensor, nn

from widemax import charts
from widemax.charts import Panel
from widemax.classes import Classes
from widemax.data import get, sets
from widemax.heads import ExactHead, SeveralLabels
from widemax.recipes.base import Array, Recipe, Results, recipes
from widemax.recipes.known import Known

LOSSES = {"sigmoid": "binary_cross_entropy", "softmax": "cross_entropy"}
F_SCORES = {"micro": "micro", "macro": "macro", "example": "samples"}
THRESHOLDS_N = np.concatenate([np.geomspace(1e-3, 0.1, 40, endpoint=False), np.linspace(0.1, 0.95, 86)])
MADJAROV = (
    "Madjarov, Kocev, Gjorgjevikj, Džeroski, An extensive experimental comparison of methods for multi-"
    "label learning, Pattern Recognition 45(9), 2012: binary relevance with SVMs, same split; up to two "
    "standard errors of the test rows (delicious: half the last digit)"
)
LIPTON = (
    "Lipton, Elkan, Narayanaswamy, Optimal Thresholding of Classifiers to Maximize F1 Measure, ECML 2014: "
    "the best threshold is half the best F1, so below 0.5"
)
PEER = "scikit-learn's OneVsRestClassifier(LogisticRegression()) in this same run, at 0.5"
POPULAR = "the labels most frequent in training for every row, as many as a row has on average, in this run"


@dataclass(frozen=True)
class Settings:
    """How a set is trained, and the Hamming loss it is known for."""

    epochs: int
    hamming: float
    within: float


SETTINGS = {
    "emotions": Settings(epochs=100, hamming=0.257, within=0.024),
    "scene": Settings(epochs=100, hamming=0.079, within=0.007),
    "yeast": Settings(epochs=100, hamming=0.190, within=0.010),
    "delicious": Settings(epochs=20, hamming=0.018, within=0.0005),
}
KNOWN = {
    f"{name}: Hamming loss, sigmoid at 0.5": Known.at_most(
        settings.hamming, within=settings.within, digits=4, source=MADJAROV
    )
    for name, settings in SETTINGS.items()
} | {
    f"{name}: the threshold with the best micro F1 is below 0.5": Known.yes(source=LIPTON)
    for name in SETTINGS
}


@recipes.register("multilabel")
class Multilabel(Recipe):
    """Emotions, scene, yeast and delicious, each with a sigmoid a class and with one softmax."""

    title = "Several right labels: sigmoid against softmax on four data sets"
    description = (
        "A net with one hidden layer is trained on songs and their moods, photographs and scenes, genes and "
        "their functions, and web pages and their tags, with a sigmoid a class and with one softmax whose "
        "target is shared by a row's labels. A label is given where its probability exceeds a threshold, "
        "which is chosen on held-out training rows: one for all labels, or one a label."
    )
    data = tuple(f"mulan_{name}" for name in SETTINGS)
    full_time = "3 min"
    known = KNOWN

    def run(self, results: Results, *, quick: bool, seed: int) -> None:
        predictions = {}
        for name in ["emotions"] if quick else SETTINGS:
            train, test, names = read(name)
            epochs = 20 if quick else SETTINGS[name].epochs
            predictions[name] = {
                kind: Predictions.of(train, test, loss=loss, epochs=epochs, seed=seed)
                for kind, loss in LOSSES.items()
            }
            baseline_BC = popular(train, test) if name == "delicious" else one_vs_rest(train, test)
            _obtain(results, name, test.targets_BC, predictions[name], baseline_BC)
            _draw_scores(results, name, test.targets_BC, predictions[name], baseline_BC)
            if len(names) <= 20:
                _draw_correlations(
                    results, name, names, train.targets_BC, predictions[name]["sigmoid"].probs_BC
                )
        _draw_thresholds(results, predictions)


@dataclass(frozen=True)
class Split:
    """Features and labels of a split."""

    features_BF: Tensor
    labels: SeveralLabels
    targets_BC: Array

    def take(self, rows: Tensor) -> "Split":
        return Split(self.features_BF[rows], self.labels.take(rows), self.targets_BC[rows.numpy()])


def read(name: str) -> tuple[Split, Split, list[str]]:
    """Both splits of a set, features standardized by the training rows, and the names of the labels."""
    data_set = sets[f"mulan_{name}"]()
    tables = [pq.read_table(data_set.path(get(data_set.name), split)) for split in ("train", "test")]
    labels_of = [table["labels"].combine_chunks() for table in tables]
    names = sorted({name for lists in labels_of for name in lists.flatten().to_pylist()})
    features = [np.stack(table["features"].to_numpy()).astype(np.float64) for table in tables]
    mean_F, std_F = features[0].mean(axis=0), features[0].std(axis=0)
    splits = []
    for lists, features_BF in zip(labels_of, features, strict=True):
        ids_P = np.searchsorted(names, lists.flatten().to_numpy(zero_copy_only=False))
        labels = SeveralLabels(torch.tensor(ids_P), torch.tensor(lists.offsets.to_numpy()).long())
        pairs = labels.pairs()
        targets_BC = np.zeros((len(lists), len(names)), dtype=bool)
        targets_BC[pairs.rows_P, pairs.ids_P] = True
        standard_BF = (features_BF - mean_F) / np.where(std_F > 0, std_F, 1)
        splits.append(Split(torch.tensor(standard_BF, dtype=torch.float32), labels, targets_BC))
    return splits[0], splits[1], names


class Net(nn.Module):
    """One hidden layer of 512 rectified units under an exact head."""

    def __init__(self, rows: Split, *, loss: str) -> None:
        super().__init__()
        counts_C = torch.tensor(rows.targets_BC.sum(axis=0))
        num_features = rows.features_BF.shape[1]
        self.body = nn.Sequential(nn.Dropout(0.25), nn.Linear(num_features, 512), nn.ReLU(), nn.Dropout(0.5))
        self.head = ExactHead(Classes(len(counts_C), counts_C, len(rows.labels)), 512, loss=loss)

    def forward(self, features_BF: Tensor, labels: SeveralLabels) -> Tensor:
        return self.head(self.body(features_BF), labels)  # type: ignore[no-any-return]  # torch calls forward

    @torch.no_grad()
    def probs(self, features_BF: Tensor) -> Array:
        """[B, C] probability of every class."""
        classes_C = torch.arange(self.head.num_classes)
        return np.asarray(self.head.log_probs(self.body(features_BF), classes_C).exp())


def fit(rows: Split, *, loss: str, epochs: int, seed: int) -> Net:
    """AdamW over shuffled batches of 64, the learning rate falling to 0."""
    torch.manual_seed(seed)
    net = Net(rows, loss=loss)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1.0)
    num_steps = epochs * -(-len(rows.labels) // 64)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=num_steps)
    net.train()
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(rows.labels)), 64):
            optimizer.zero_grad()
            net(rows.features_BF[batch], rows.labels.take(batch)).backward()
            optimizer.step()
            schedule.step()
    return net.eval()


@dataclass(frozen=True)
class Predictions:
    """Probabilities of the test rows, and thresholds from held-out training rows."""

    probs_BC: Array
    threshold: float
    thresholds_C: Array

    @classmethod
    def of(cls, train: Split, test: Split, *, loss: str, epochs: int, seed: int) -> "Predictions":
        """Thresholds from a fifth of the training rows, probabilities from a net fitted on all of them."""
        order = torch.randperm(len(train.labels), generator=torch.Generator().manual_seed(seed))
        held_out = train.take(order[: len(order) // 5])
        net = fit(train.take(order[len(order) // 5 :]), loss=loss, epochs=epochs, seed=seed)
        probs_BC = net.probs(held_out.features_BF)
        thresholds_C = np.array(
            [best_threshold(probs_BC[:, [c]], held_out.targets_BC[:, [c]]) for c in range(probs_BC.shape[1])]
        )
        threshold = best_threshold(probs_BC, held_out.targets_BC)
        probs_BC = fit(train, loss=loss, epochs=epochs, seed=seed).probs(test.features_BF)
        return cls(probs_BC, threshold, thresholds_C)


def micro_f1(probs_BC: Array, targets_BC: Array) -> Array:
    """[N] 2·TP / (2·TP + FP + FN) over all rows and classes at each of ``THRESHOLDS_N``."""
    of_labels = np.sort(probs_BC[targets_BC])
    of_all = np.sort(probs_BC, axis=None)
    right_N = len(of_labels) - np.searchsorted(of_labels, THRESHOLDS_N, side="right")
    given_N = len(of_all) - np.searchsorted(of_all, THRESHOLDS_N, side="right")
    return np.asarray(2 * right_N / np.maximum(given_N + len(of_labels), 1))


def best_threshold(probs_BC: Array, targets_BC: Array) -> float:
    """The threshold of ``THRESHOLDS_N`` with the best micro F1."""
    return float(THRESHOLDS_N[micro_f1(probs_BC, targets_BC).argmax()])


def one_vs_rest(train: Split, test: Split) -> Array:
    """[B, C] what a logistic regression a class says."""
    model = OneVsRestClassifier(LogisticRegression(max_iter=1000))
    fitted = model.fit(train.features_BF.numpy(), train.targets_BC)
    return np.asarray(fitted.predict(test.features_BF.numpy()), dtype=bool)


def popular(train: Split, test: Split) -> Array:
    """[B, C] the most frequent labels for every row, as many as a row has on average."""
    given_BC = np.zeros_like(test.targets_BC)
    best = np.argsort(-train.targets_BC.sum(axis=0), kind="stable")
    given_BC[:, best[: round(train.targets_BC.sum(axis=1).mean())]] = True
    return given_BC


def f_scores(targets_BC: Array, given_BC: Array) -> list[float]:
    """Micro, macro and example F1."""
    return [
        float(f1_score(targets_BC, given_BC, average=average, zero_division=0))
        for average in F_SCORES.values()
    ]


def _obtain(
    results: Results, name: str, targets_BC: Array, predictions: Mapping[str, Predictions], baseline_BC: Array
) -> None:
    sigmoid, softmax = predictions["sigmoid"], predictions["softmax"]
    half_BC = sigmoid.probs_BC > 0.5
    results.obtain(f"{name}: Hamming loss, sigmoid at 0.5", hamming_loss(targets_BC, half_BC))
    results.obtain(f"{name}: the threshold with the best micro F1 is below 0.5", sigmoid.threshold < 0.5)
    half, tuned, shared, beside = (
        f_scores(targets_BC, given_BC)[0]
        for given_BC in (
            half_BC,
            sigmoid.probs_BC > sigmoid.threshold,
            softmax.probs_BC > softmax.threshold,
            baseline_BC,
        )
    )
    results.obtain(
        f"{name}: micro F1, sigmoid at the held-out threshold",
        tuned,
        known=Known.at_least(half, digits=4, source=f"the same sigmoids at 0.5; {LIPTON}"),
    )
    if name == "delicious":
        # Labels given by frequency have no threshold at all, so sigmoids may choose theirs as well.
        peer = Known.at_least(beside, digits=4, source=POPULAR)
        results.obtain(f"{name}: micro F1 there, beside the most frequent labels", tuned, known=peer)
    else:
        peer = Known.at_least(beside, digits=4, source=PEER)
        results.obtain(f"{name}: micro F1, sigmoid at 0.5", half, known=peer)
    results.find(
        f"{name}: micro F1 {half:.3f} with sigmoids at 0.5, {tuned:.3f} at {sigmoid.threshold:.2f}, and "
        f"{shared:.3f} with a softmax at {softmax.threshold:.2f}; {beside:.3f} of the baseline."
    )


def _draw_scores(
    results: Results, name: str, targets_BC: Array, predictions: Mapping[str, Predictions], baseline_BC: Array
) -> None:
    sigmoid, softmax = predictions["sigmoid"], predictions["softmax"]
    given = {
        "most frequent labels" if name == "delicious" else "logistic regression a label": baseline_BC,
        "sigmoid at 0.5": sigmoid.probs_BC > 0.5,
        "sigmoid, one threshold": sigmoid.probs_BC > sigmoid.threshold,
        "sigmoid, a threshold a label": sigmoid.probs_BC > sigmoid.thresholds_C,
        "softmax, one threshold": softmax.probs_BC > softmax.threshold,
    }
    series = {what: f_scores(targets_BC, given_BC) for what, given_BC in given.items()}
    panel = Panel(width=864, height=420, y="F1 on the test rows")
    panel.bars([f"{kind} F1" for kind in F_SCORES], series)
    results.draw(
        charts.figure(panel),
        f"scores-{name}",
        title=f"{name.capitalize()}: F-scores",
        caption="Micro F1 counts all decisions together; macro F1 averages labels, example F1 rows.",
        alt="; ".join(
            f"{what}: {', '.join(f'{score:.2f}' for score in scores)}" for what, scores in series.items()
        ),
    )


def _draw_correlations(
    results: Results, name: str, names: list[str], targets_BC: Array, probs_BC: Array
) -> None:
    headings = ("Labels of the training rows", "Probabilities of the test rows")
    panels = [Panel(heading, width=560, height=490) for heading in headings]
    # Class2 before Class10.
    order = sorted(range(len(names)), key=lambda place: [*map(_number, re.split(r"(\d+)", names[place]))])
    names = [names[place] for place in order]
    correlations = [np.corrcoef(values_BC[:, order], rowvar=False) for values_BC in (targets_BC, probs_BC)]
    for panel, values_CC in zip(panels, correlations, strict=True):
        off_CC = np.where(np.eye(len(names), dtype=bool), np.nan, values_CC)
        panel.cells(off_CC, rows=names, columns=names, limit=1.0, unit="correlation")
    pair = np.unravel_index(np.abs(np.triu(correlations[0], 1)).argmax(), correlations[0].shape)
    first, second = (names[place] for place in pair)
    strongest = [float(values_CC[pair]) for values_CC in correlations]
    words = (
        f"the strongest is {strongest[0]:.2f} between {first} and {second}; their probabilities "
        f"correlate by {strongest[1]:.2f}"
    )
    results.draw(
        charts.figure(*panels),
        f"correlations-{name}",
        title=f"{name.capitalize()}: which labels go together",
        caption="Sigmoids judge each label by itself, yet one hidden layer under all of them learns what "
        "goes together. A label with itself is left blank.",
        alt=f"Two grids of correlations between labels; {words}.",
    )
    results.find(f"{name}: of the correlations between labels {words}.")


def _number(word: str) -> int | str:
    return int(word) if word.isdigit() else word


def _draw_thresholds(results: Results, predictions: Mapping[str, Mapping[str, Predictions]]) -> None:
    panels = [Panel(name.capitalize(), x="threshold", y="micro F1", log_x=True) for name in predictions]
    for panel, (name, kinds) in zip(panels, predictions.items(), strict=True):
        _, test, _ = read(name)
        series = {kind: (THRESHOLDS_N, micro_f1(kinds[kind].probs_BC, test.targets_BC)) for kind in kinds}
        panel.lines(series)
        panel.mark(0.5, "0.5", height=0.95)
    results.draw(
        charts.figure(*panels, columns=min(len(panels), 2)),
        "thresholds",
        title="Micro F1 by threshold, on the test rows",
        caption="The thin line is 0.5, the threshold for the fewest wrong decisions; F1 is best below it. A "
        "softmax shares one unit of probability among a row's labels: the more labels, the lower its best "
        "threshold.",
        alt="In each panel the curve of sigmoids peaks left of 0.5; that of softmax peaks "
        "there too where a row has one label, and further left the more it has.",
    )

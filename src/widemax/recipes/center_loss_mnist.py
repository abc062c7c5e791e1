"""Center loss on handwritten digits: features of two numbers, seen and compared.

Shapes: B images, 2 features, C classes, P pairs of images, N false accept rates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from widemax import charts
from widemax.auxiliaries import CenterLoss
from widemax.charts import Panel
from widemax.heads import ExactHead
from widemax.recipes.base import Array, Recipe, Results, recipes
from widemax.recipes.digits import NAMES, read_digits
from widemax.recipes.images import Images, descend
from widemax.recipes.known import Known
from widemax.recipes.verification import COMPARED, Alike, compare

STRENGTHS = (0.001, 0.01, 0.1, 1.0)
STRONGEST = STRENGTHS[-1]
# Divides the logits, so that digits a small distance apart are soon told apart: λ = 1 keeps them close.
TEMPERATURE = 0.1
WIDTHS = (16, 32, 64)
QUICK_WIDTHS = (8, 16, 32)
MARGIN = 2.0
RATES_N = np.geomspace(1e-3, 1.0, 61)
WEN = "Wen, Zhang, Li, Qiao, A Discriminative Feature Learning Approach for Deep Face Recognition, ECCV 2016"
ACCURACY = Known.at_least(
    0.985, digits=4, source="the bound set for this recipe; the paper prints no accuracy for its digits"
)
SOFTMAX, CONTRASTIVE = "A: softmax alone", "B: softmax + contrastive"
CENTER = {strength: f"C: softmax + center, λ = {strength:g}" for strength in STRENGTHS}
KNOWN = {f"test accuracy, {name}": ACCURACY for name in (SOFTMAX, CONTRASTIVE, *CENTER.values())}


@recipes.register("center-loss-mnist")
class CenterLossMnist(Recipe):
    """Softmax alone, with contrastive loss, and with center loss of growing strength."""

    title = "Center loss: features that gather by digit"
    description = (
        "Pairs of convolutions with PReLU end in two numbers an image, which can be drawn; a softmax reads "
        "the digit from them. The paper's net, LeNets++, has twice the filters and no stride. It is trained "
        "with the softmax alone (the paper's model A), with a contrastive loss of all pairs of a batch (B), "
        "and with center losses of several strengths λ (C). Then test images are compared in pairs: from "
        "their features alone, are they the same digit or not."
    )
    data = ("mnist",)
    full_time = "9 min"
    known = KNOWN

    def run(self, results: Results, *, quick: bool, seed: int) -> None:
        train = read_digits("train", 4_000 if quick else None)
        test = read_digits("test", 1_000 if quick else None)
        widths, epochs, rate = (QUICK_WIDTHS, 10, 4e-3) if quick else (WIDTHS, 6, 2e-3)
        models = {SOFTMAX: Net(widths, seed=seed), CONTRASTIVE: Net(widths, seed=seed, contrastive=1.0)} | {
            CENTER[strength]: Net(widths, seed=seed, center=strength)
            for strength in (STRENGTHS[-1:] if quick else STRENGTHS)
        }
        trials = {}
        for name, net in models.items():
            descend(net, train, net, epochs=epochs, rate=rate, seed=seed)
            trials[name] = Trial.of(net, test, seed=seed)
            results.obtain(f"test accuracy, {name}", trials[name].accuracy)
        _obtain_ratios(results, trials)
        _obtain_verification(results, trials)
        _draw_features(results, trials, test)
        _draw_ratios(results, trials)
        _draw_verification(results, trials)


class Net(nn.Module):
    """Three pairs of 5 by 5 convolutions, two features, and an exact head; beside it the auxiliary losses."""

    def __init__(
        self, widths: Sequence[int] = WIDTHS, *, seed: int, center: float = 0.0, contrastive: float = 0.0
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        channels = 1
        for width in widths:
            for _ in range(2):
                stride = 1 if layers else 2
                layers += [nn.Conv2d(channels, width, 5, stride=stride, padding=2), nn.PReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(2 * 2 * channels, 2))
        self.head = ExactHead(10, 2, temperature=TEMPERATURE)
        self.center_loss = CenterLoss(10, 2, strength=center, rate=0.5)
        self.contrastive = contrastive

    def features(self, digits: Images) -> Tensor:
        """[B, 2] hidden vectors."""
        return self.layers(digits.unit[:, None])  # type: ignore[no-any-return]  # torch calls forward

    def forward(self, digits: Images) -> Tensor:
        hidden_B2 = self.features(digits)
        loss = self.head(hidden_B2, digits.labels_N) + self.center_loss(hidden_B2, digits.labels_N).mean()
        if self.contrastive:
            loss = loss + self.contrastive * contrastive_loss(hidden_B2, digits.labels_N)
        return loss  # type: ignore[no-any-return]  # as above


def contrastive_loss(hidden: Tensor, labels: Tensor, *, margin: float = MARGIN) -> Tensor:
    """The mean over all pairs of a batch of ½ d² for one class and ½ max(0, margin − d)² for two.

    Source: Hadsell, Chopra, LeCun, "Dimensionality Reduction by Learning an Invariant Mapping" (CVPR 2006),
        equation 4.
    """
    one_P, other_P = torch.triu_indices(len(labels), len(labels), 1)
    distances_P = torch.pdist(hidden)
    same_P = labels[one_P] == labels[other_P]
    return torch.where(same_P, distances_P, (margin - distances_P).relu()).square().mean() / 2


@dataclass(frozen=True)
class Trial:
    """What a trained net does with the test images.

    Attributes:
        accuracy: share of digits that the softmax gets right.
        features_B2: the hidden vectors.
        ratio: distance within digits over distance between them.
        alike: pairs compared, by the way of comparing.
    """

    accuracy: float
    features_B2: Array
    ratio: float
    alike: dict[str, Alike]

    @classmethod
    @torch.no_grad()
    def of(cls, net: Net, test: Images, *, seed: int) -> "Trial":
        """Every image once, and 200,000 pairs."""
        parts = [net.features(test.take(slice(start, start + 1000))) for start in range(0, len(test), 1000)]
        features_B2, labels_B = torch.cat(parts), test.labels_N
        return cls(
            float((net.head.logits(features_B2).argmax(1) == labels_B).double().mean()),
            features_B2.numpy(),
            spread(features_B2, labels_B),
            compare(features_B2, labels_B, num_pairs=200_000, seed=seed),
        )


def spread(features: Tensor, labels: Tensor) -> float:
    """The root mean square distance to the mean of one's class, over the mean distance of such means."""
    means_C2 = torch.stack([features[labels == label].mean(0) for label in range(int(labels.max()) + 1)])
    within = (features - means_C2[labels]).square().sum(1).mean().sqrt()
    return float(within / torch.pdist(means_C2).mean())


def _strengths(trials: Mapping[str, Trial]) -> list[float]:
    """Of the center losses tried; a quick run tries the strongest."""
    return [strength for strength, name in CENTER.items() if name in trials]


def _obtain_ratios(results: Results, trials: Mapping[str, Trial]) -> None:
    before = trials[SOFTMAX].ratio
    for strength in _strengths(trials):
        source = f"the next weaker center loss in this run; {WEN}, fig. 3: clusters tighten as λ grows"
        ratio = trials[CENTER[strength]].ratio
        results.obtain(
            f"distance within digits / between them, λ = {strength:g}",
            ratio,
            known=Known.at_most(before, digits=4, source=source),
        )
        before = ratio


def _obtain_verification(results: Results, trials: Mapping[str, Trial]) -> None:
    order = (SOFTMAX, CONTRASTIVE, CENTER[STRONGEST])
    shares = [trials[name].alike["distance"].accepted_at(0.01) for name in order]
    source = f"the model before, in this run; {WEN}, table 2: A 97.37 %, B 99.10 %, C 99.28 % on LFW"
    for name, before, share in zip(order[1:], shares, shares[1:], strict=False):
        results.obtain(
            f"same digits accepted by distance, 1 % of others too, {name}",
            share,
            known=Known.at_least(before, digits=4, source=source),
        )
    error = (shares[-1] * (1 - shares[-1]) / len(trials[SOFTMAX].alike["distance"].same_P)) ** 0.5
    results.find(f"The standard error of C's share is {error:.4f}; smaller differences mean nothing.")
    for way, words in COMPARED.items():
        alike = {name: trial.alike[way] for name, trial in trials.items()}
        accepted = "; ".join(f"{name} {pairs.accepted_at(0.01):.4f}" for name, pairs in alike.items())
        results.find(f"Same digits accepted by {words} where 1 % of different ones are too: {accepted}.")


def _draw_features(results: Results, trials: Mapping[str, Trial], test: Images) -> None:
    titles = [f"{name}\n{100 * trial.accuracy:.2f} % right" for name, trial in trials.items()]
    shown = slice(0, 4000)
    labels_B = test.labels_N[shown].numpy()
    panels = [Panel(title, width=380, height=380, x="feature 1", y="feature 2") for title in titles]
    for panel, trial in zip(panels, trials.values(), strict=True):
        panel.scatter(trial.features_B2[shown], labels_B, NAMES, small=True)
    ratios = "; ".join(f"{name}: {trial.ratio:.3f}" for name, trial in trials.items())
    results.draw(
        charts.figure(*panels, columns=3),
        "features",
        title="Two features of the test digits",
        caption="A softmax alone asks only on which side of a border a digit lies, and makes rays of digits; "
        "a center loss draws each to a point. The scales of the panels differ.",
        alt=f"{len(trials)} clouds of points in ten colors. "
        f"Distance within digits over distance between: {ratios}.",
    )


def _draw_ratios(results: Results, trials: Mapping[str, Trial]) -> None:
    strengths = _strengths(trials)
    series = {
        "C: softmax + center": (strengths, [trials[CENTER[strength]].ratio for strength in strengths]),
        **{name: (STRENGTHS, [trials[name].ratio] * len(STRENGTHS)) for name in (SOFTMAX, CONTRASTIVE)},
    }
    panel = Panel(
        width=624,
        x="strength λ of the center loss",
        y="distance within digits / between",
        log_x=True,
        y_range=(0, 1.1 * max(trial.ratio for trial in trials.values())),
    )
    panel.lines(series, markers=True)
    results.draw(
        charts.figure(panel),
        "ratios",
        title="How tightly digits gather",
        caption="Root mean square distance to the mean of a digit, over the mean distance of two such means.",
        alt="; ".join(f"{name}: {trial.ratio:.3f}" for name, trial in trials.items()),
    )


def _draw_verification(results: Results, trials: Mapping[str, Trial]) -> None:
    order = list(trials)
    labels = ("different digits accepted (share)", "same digits accepted (share)")
    panels = [Panel(f"By {words}", *labels, width=520, log_x=True) for words in COMPARED.values()]
    for panel, way in zip(panels, COMPARED, strict=True):
        panel.lines({name: (RATES_N, trials[name].alike[way].accepted(RATES_N)) for name in order})
    results.draw(
        charts.figure(*panels),
        "verification",
        title="The same digit or not?",
        caption="Pairs of test images are taken for one digit where their features are alike enough; each "
        "curve runs over all thresholds. Higher is better. A digit near the origin has no direction, so with "
        "two features the cosine confuses it with others.",
        alt="By distance, same digits accepted where 1 % of different ones are too: "
        + "; ".join(f"{name} {trials[name].alike['distance'].accepted_at(0.01):.3f}" for name in order),
    )

"""The softmax laboratory: one net trained through probabilities and from logits.

Shapes: B rows, C classes, N steps.
"""

from collections.abc import Callable

import numpy as np
import torch
from sklearn.datasets import make_blobs
from torch import Tensor, nn

from widemax import charts
from widemax.charts import Panel
from widemax.losses import cross_entropy
from widemax.numerics import softmax
from widemax.recipes.base import Array, Recipe, Results, recipes
from widemax.recipes.known import Known

Loss = Callable[[Tensor, Tensor], Tensor]
CENTERS = ((-5, 2), (-2, -2), (1, 2), (5, -2))
LAB = "Ng, Advanced Learning Algorithms, week 2, lab Softmax (Coursera, 2022)"
KNOWN = {
    "train accuracy, through probabilities": Known.at_least(
        0.95, digits=4, source=f"{LAB}: easily separated"
    ),
    "train accuracy, from logits": Known.at_least(0.95, digits=4, source=f"{LAB}: easily separated"),
    "both nets give the same class": Known.at_least(
        0.99, digits=4, source="the two losses are one function; only rounding differs"
    ),
    "every loss is finite with logits × 100, through probabilities": Known.no(
        source="a probability below 2⁻¹⁴⁹ is 0 in float32, and −log 0 = inf"
    ),
    "every loss is finite with logits × 100, from logits": Known.yes(
        source="log a_j = s_j − m − log Σ exp(s_i − m), m = max s"
    ),
}


@recipes.register("softmax-lab")
class SoftmaxLab(Recipe):
    """Four clouds of points and a net of 25, 15 and 4 units, trained with either form of the same loss."""

    title = "Softmax laboratory: through probabilities or from logits"
    description = (
        "2,000 points around four centers are classified by a net of 25 and 15 rectified units and 4 logits. "
        "It is trained twice from the same weights over the same batches: once with a softmax in the net and "
        "the logarithm of its probabilities as the loss, once with the cross-entropy of the logits. Both "
        "learn; only the second loss stays right when logits grow."
    )
    full_time = "5 s"
    known = KNOWN

    def run(self, results: Results, *, quick: bool, seed: int) -> None:
        points, clouds = make_blobs(n_samples=2000, centers=CENTERS, cluster_std=1.0, random_state=30)
        points_B2, labels_B = torch.tensor(points, dtype=torch.float32), torch.tensor(clouds)
        nets, curves = {}, {}
        for form, loss in FORMS.items():
            nets[form] = new_net(seed)
            curves[form] = train(nets[form], points_B2, labels_B, loss, epochs=4 if quick else 10, seed=seed)
        logits = {form: net(points_B2).detach() for form, net in nets.items()}
        classes = {form: logits_BC.argmax(1) for form, logits_BC in logits.items()}
        for form in FORMS:
            results.obtain(f"train accuracy, {form}", float((classes[form] == labels_B).float().mean()))
        same_B = torch.eq(*classes.values())
        results.obtain("both nets give the same class", float(same_B.float().mean()))
        _obtain_stability(results, logits["from logits"], labels_B)
        _draw_regions(results, nets, points, clouds)
        _draw_training(results, curves)
        _draw_scaled(results, logits["from logits"], labels_B)


def through_probabilities(logits: Tensor, labels: Tensor) -> Tensor:
    """−log of the softmax, the probabilities formed first."""
    return cross_entropy(softmax(logits), labels, from_logits=False)


FORMS: dict[str, Loss] = {"from logits": cross_entropy, "through probabilities": through_probabilities}


def new_net(seed: int) -> nn.Sequential:
    """Dense layers of 25, 15 and 4 units, Glorot's weights, no biases at first."""
    net = nn.Sequential(nn.Linear(2, 25), nn.ReLU(), nn.Linear(25, 15), nn.ReLU(), nn.Linear(15, 4))
    generator = torch.Generator().manual_seed(seed)
    for layer in net:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)
    return net


def train(
    net: nn.Module, points_B2: Tensor, labels_B: Tensor, loss: Loss, *, epochs: int, seed: int
) -> list[float]:
    """Adam over shuffled batches of 32; the mean loss of each epoch, in nats."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(seed)
    means = []
    for _ in range(epochs):
        total = 0.0
        for batch in torch.split(torch.randperm(len(labels_B), generator=generator), 32):
            optimizer.zero_grad()
            loss_B = loss(net(points_B2[batch]), labels_B[batch])
            loss_B.mean().backward()  # type: ignore[no-untyped-call]  # torch has no type for backward
            optimizer.step()
            total += float(loss_B.detach().sum())
        means.append(total / len(labels_B))
    return means


def _obtain_stability(results: Results, logits_BC: Tensor, labels_B: Tensor) -> None:
    for form, loss in FORMS.items():
        finite = bool(loss(logits_BC * 100, labels_B).isfinite().all())
        results.obtain(f"every loss is finite with logits × 100, {form}", finite)
    for scale in (1, 20):
        scaled_BC = logits_BC * scale
        truth_B = cross_entropy(scaled_BC.double(), labels_B)
        errors = [
            float((loss(scaled_BC, labels_B) - truth_B).abs().max())
            for loss in (cross_entropy, through_probabilities)
        ]
        results.find(
            f"With logits × {scale} the largest error of a row's loss is {errors[0]:.1e} nats from logits "
            f"and {errors[1]:.1e} nats through probabilities."
        )


def _draw_regions(
    results: Results, nets: dict[str, nn.Sequential], points_B2: Array, labels_B: Array
) -> None:
    left, bottom = points_B2.min(axis=0) - 0.5
    right, top = points_B2.max(axis=0) + 0.5
    xs, ys = np.meshgrid(np.linspace(left, right, 400), np.linspace(bottom, top, 300))
    places_N2 = torch.tensor(np.stack([xs.ravel(), ys.ravel()], axis=1), dtype=torch.float32)
    names = [f"class {place}" for place in range(len(CENTERS))]
    panels = [Panel(form.capitalize(), width=540, height=430, x="feature 1", y="feature 2") for form in nets]
    for panel, net in zip(panels, nets.values(), strict=True):
        classes_HW = net(places_N2).argmax(1).reshape(xs.shape)
        panel.regions(classes_HW, extent=(left, right, bottom, top))
        panel.scatter(points_B2, labels_B, names)
    results.draw(
        charts.figure(*panels),
        "regions",
        title="Where each class is the most probable",
        caption="The ground is the class a net gives, the points are the data.",
        alt="Two plots of four clouds of points, each in its own region; the regions of both nets are alike.",
    )


def _draw_training(results: Results, curves: dict[str, list[float]]) -> None:
    series = {form: (range(1, len(losses) + 1), losses) for form, losses in curves.items()}
    panel = Panel(width=624, x="epoch", y="mean loss (nats)")
    panel.lines(series, markers=True)
    results.draw(
        charts.figure(panel),
        "training",
        title="Training loss",
        caption="The same steps up to rounding: the curves lie on each other.",
        alt="Two curves that fall together from about 1 nat to a few hundredths.",
    )


def _draw_scaled(results: Results, logits_BC: Tensor, labels_B: Tensor) -> None:
    scales_N = np.geomspace(1, 1000, 61)
    series = {}
    for form, loss in FORMS.items():
        means_N = [float(loss(logits_BC * float(scale), labels_B).mean()) for scale in scales_N]
        series[form] = (scales_N, means_N)
    panel = Panel(width=624, x="logits multiplied by", y="mean loss (nats)", log_x=True, log_y=True)
    panel.lines(series)
    last = scales_N[np.isfinite(series["through probabilities"][1])][-1]
    panel.mark(last, "inf from here", height=0.06)
    results.draw(
        charts.figure(panel),
        "scaled",
        title="The same net with larger logits",
        caption="In float32. Where the dashed curve ends, one row's probability is 0 and the mean is inf.",
        alt=f"The loss from logits grows; that through probabilities ends at a factor of {last:.0f}.",
    )
    results.find(
        f"Through probabilities the mean loss is inf once logits are multiplied by more than {last:.0f}."
    )

"""Convolutional networks on handwritten digits: the one of the UFLDL tutorial, and a small modern one.

Shapes: B images of H by W pixels, F filters of K by K, D values, C classes, N steps.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from widemax import charts
from widemax.charts import Panel
from widemax.heads import ExactHead
from widemax.optim import Momentum
from widemax.recipes import numpy_cnn
from widemax.recipes.base import Array, Recipe, Results, recipes
from widemax.recipes.digits import draw_mistakes, read_digits, signed_images
from widemax.recipes.images import ImageClassifier, Images, descend
from widemax.recipes.known import Known

UFLDL = "Ng et al., UFLDL tutorial, exercise Convolutional Neural Network (Stanford, 2013)"
ACCURACY = "test accuracy, one layer of convolutions, 3 epochs"
MODERN = "test accuracy, small modern net"
AUTOGRAD = "NumPy against autograd: largest relative difference (10⁻¹²)"
CHECK = "NumPy's gradient check, ‖numerical − formula‖ / ‖numerical + formula‖ (10⁻⁹)"
KNOWN = {
    CHECK: Known.at_most(1, digits=3, source=f"{UFLDL}, cnnTrain.m: less than 1e-9"),
    AUTOGRAD: Known.at_most(1, digits=4, source="two programs of one formula differ by rounding in float64"),
    ACCURACY: Known.near(
        0.974, within=0.005, digits=4, source=f"{UFLDL}, cnnTrain.m: around 97.4 % after 3 epochs"
    ),
    MODERN: Known.at_least(
        0.992,
        digits=4,
        source="LeCun, Bottou, Bengio, Haffner, Gradient-Based Learning Applied to Document Recognition, "
        "Proc. IEEE 86(11), 1998: LeNet-5 with distortions, 0.8 % errors",
    ),
}
ENCODER: dict[str, Any] = {"channels": (16, 32, 64), "kernel": 3, "hidden": (128,), "dim": 64, "shift": 2}


@recipes.register("cnn-mnist")
class CnnMnist(Recipe):
    """One layer of convolutions by hand and by autograd, and what a quarter of a century has added."""

    title = "Convolutional networks on handwritten digits"
    description = (
        "The network of the exercise, 20 filters of 9 by 9 pixels, a sigmoid, means of 2 by 2 and a softmax, "
        "is written once in NumPy with its cost, error and gradient, and once for autograd; both must agree. "
        "It is trained as there, by gradient descent with momentum. Beside it stands a small modern net of "
        "the library's parts: three layers of rectified convolutions and an exact head, on shifted images."
    )
    data = ("mnist",)
    full_time = "80 s"
    known = KNOWN

    def run(self, results: Results, *, quick: bool, seed: int) -> None:
        digits = read_digits("train", 6_000 if quick else None)
        test = read_digits("test", 2_000 if quick else None)
        results.obtain(CHECK, check_by_differences(digits.take(slice(10)), seed=seed) * 1e9)
        results.obtain(AUTOGRAD, check_by_autograd(digits.take(slice(10)), seed=seed) * 1e12)
        net = Net(seed)
        costs_N = fit(net, digits, epochs=3, seed=seed)
        results.obtain(ACCURACY, float((net.guesses(test.unit) == test.labels_N).double().mean()))
        _draw_filters(results, net.filters_F1KK.detach()[:, 0].numpy())
        _draw_costs(results, costs_N)
        modern = ImageClassifier(digits, 10, seed=seed, **ENCODER)
        descend(modern, digits, modern, epochs=2 if quick else 6, rate=2e-3, seed=seed)
        results.obtain(MODERN, modern.accuracy(test))
        draw_mistakes(
            results,
            test,
            modern.probs(test),
            name="mistakes",
            title="The surest mistakes of the small modern net",
        )


class Net(nn.Module):
    """20 filters of 9 by 9, sigmoid, means of 2 by 2, and an exact head over the 2,000 values."""

    def __init__(self, seed: int, *, filters: int = 20, pool: int = 2) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.pool = pool
        dim = filters * (20 // pool) ** 2
        self.filters_F1KK = nn.Parameter(0.1 * torch.randn(filters, 1, 9, 9, generator=generator))
        self.offsets_F = nn.Parameter(torch.zeros(filters))
        bound = (6 / (10 + dim + 1)) ** 0.5
        weight_CD = (2 * torch.rand(10, dim, generator=generator) - 1) * bound
        self.head = ExactHead(10, dim, weight=nn.Parameter(weight_CD))

    def hidden(self, images_BHW: Tensor) -> Tensor:
        """[B, D] pooled values."""
        maps_BFGG = F.conv2d(images_BHW[:, None], self.filters_F1KK, self.offsets_F).sigmoid()
        return F.avg_pool2d(maps_BFGG, self.pool).flatten(1)

    def forward(self, images_BHW: Tensor, labels_B: Tensor) -> Tensor:
        return self.head(self.hidden(images_BHW), labels_B)  # type: ignore[no-any-return]  # torch calls forward

    @torch.no_grad()
    def guesses(self, images_BHW: Tensor) -> Tensor:
        """[B] the most probable class."""
        parts = [self.head.logits(self.hidden(part)).argmax(1) for part in torch.split(images_BHW, 1000)]
        return torch.cat(parts)

    def in_numpy(self) -> numpy_cnn.Weights:
        """The same weights as arrays."""
        assert self.head.bias is not None
        tensors = (self.filters_F1KK[:, 0], self.offsets_F, self.head.weight, self.head.bias)
        return numpy_cnn.Weights(*(tensor.detach().numpy() for tensor in tensors))


def fit(net: Net, digits: Images, *, epochs: int, seed: int) -> list[float]:
    """Momentum 0.5, after 20 steps 0.95; rate 0.1, halved after each epoch; the cost of each batch of 256."""
    optimizer = Momentum(net.parameters(), lr=0.1, momentum=0.5)
    generator = torch.Generator().manual_seed(seed)
    images_NHW = digits.unit
    costs_N: list[float] = []
    for epoch in range(epochs):
        order = torch.randperm(len(digits), generator=generator)[: len(digits) // 256 * 256]
        for batch in torch.split(order, 256):
            for group in optimizer.param_groups:
                group |= {"lr": 0.1 * 0.5**epoch, "momentum": 0.5 if len(costs_N) < 19 else 0.95}
            optimizer.zero_grad()
            loss = net(images_NHW[batch], digits.labels_N[batch])
            loss.backward()
            optimizer.step()
            costs_N.append(loss.item())
    return costs_N


def check_by_autograd(digits: Images, *, seed: int) -> float:
    """Largest difference of logits, cost, error and gradient, relative to the largest number of each."""
    net = Net(seed).double()
    weights, images_BHW, labels_B = net.in_numpy(), digits.unit.double(), digits.labels_N
    logits_BC = net.head.logits(net.hidden(images_BHW))
    (error_BC,) = torch.autograd.grad(F.cross_entropy(logits_BC, labels_B), logits_BC)
    loss = net(images_BHW, labels_B)
    assert net.head.bias is not None
    parameters = (net.filters_F1KK, net.offsets_F, net.head.weight, net.head.bias)
    by_autograd = (logits_BC, loss, error_BC, *torch.autograd.grad(loss, parameters))
    passed = numpy_cnn.forward(weights, images_BHW.numpy(), pool=2)
    by_hand = (
        passed.logits_BC,
        numpy_cnn.cost(passed.logits_BC, labels_B.numpy()),
        numpy_cnn.error(passed.logits_BC, labels_B.numpy()),
        *numpy_cnn.gradient(weights, images_BHW.numpy(), labels_B.numpy(), pool=2),
    )
    arrays = zip(map(np.asarray, by_hand), (tensor.detach().numpy() for tensor in by_autograd), strict=True)
    return max(
        float(np.abs(one - other.reshape(one.shape)).max() / np.abs(one).max()) for one, other in arrays
    )


def check_by_differences(digits: Images, *, seed: int) -> float:
    """‖numerical − formula‖ / ‖numerical + formula‖ with 2 filters and means of 5 by 5, as in cnnTrain.m."""
    weights = Net(seed, filters=2, pool=5).double().in_numpy()
    images_BHW, labels_B = digits.unit.double().numpy(), digits.labels_N.numpy()

    def cost() -> float:
        return numpy_cnn.cost(numpy_cnn.forward(weights, images_BHW, pool=5).logits_BC, labels_B)

    formula = numpy_cnn.gradient(weights, images_BHW, labels_B, pool=5)
    numerical = numpy_cnn.Weights(*(differences(cost, array) for array in weights))
    one, other = (np.concatenate([array.ravel() for array in arrays]) for arrays in (numerical, formula))
    return float(np.linalg.norm(one - other) / np.linalg.norm(one + other))


def differences(cost: Callable[[], float], array: Array, step: float = 1e-4) -> Array:
    """(cost(x + step) − cost(x − step)) / (2 step) for each number x of an array, which is left as it was."""
    slopes = np.empty_like(array)
    for place in np.ndindex(*array.shape):
        middle = array[place]
        array[place] = middle + step
        above = cost()
        array[place] = middle - step
        slopes[place] = (above - cost()) / (2 * step)
        array[place] = middle
    return slopes


def _draw_filters(results: Results, filters_FKK: Array) -> None:
    results.draw(
        signed_images(filters_FKK, [""] * len(filters_FKK), columns=10, unit="weight"),
        "filters",
        title="The twenty filters",
        caption="A filter answers where ink lies on its orange places and none on its purple ones.",
        alt="Twenty images of 9 by 9 weights, most with an orange stroke beside a purple one.",
    )


def _draw_costs(results: Results, costs_N: list[float]) -> None:
    steps_N = np.arange(1, len(costs_N) + 1)
    means_N: Array = np.convolve(costs_N, np.full(20, 1 / 20), mode="valid")
    series: dict[str, Any] = {
        "a batch of 256": (steps_N, costs_N),
        "mean of 20 batches": (steps_N[9:-10], means_N),
    }
    panel = Panel(width=672, x="step", y="cost (nats)", log_y=True)
    panel.lines(series)
    results.draw(
        charts.figure(panel),
        "costs",
        title="Training of the network of the exercise",
        caption="The rate is halved after each third of the steps.",
        alt=f"A noisy curve that falls from {costs_N[0]:.1f} to about {np.mean(costs_N[-20:]):.2f} nats.",
    )

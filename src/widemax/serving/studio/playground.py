"""What the playground of Studio shows, computed by the library itself.

Nothing is kept between two requests: what trains sends its weights with each answer and gets them back with
the next question, so that a restart of the server loses nothing.

Shapes: C classes, N places of a grid, B points, S draws.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
import torch
from fastapi import APIRouter
from pydantic import Field
from torch import Tensor, nn

from widemax.auxiliaries import CenterLoss
from widemax.classes import Classes
from widemax.errors import UsageError
from widemax.heads import CORRECTIONS, Correction, ExactHead, exact_softmax_loss, sampled_softmax_loss
from widemax.losses import crammer_singer, cross_entropy, weston_watkins
from widemax.numerics import log_softmax, sigmoid, softmax
from widemax.optim import LazyAdam
from widemax.samplers import Query, build_sampler, samplers
from widemax.serving.bodies import Body

playground = APIRouter(prefix="/playground", tags=["studio"])

MOST = 1e6
Logit = Annotated[float, Field(ge=-MOST, le=MOST)]
Logits = Annotated[list[Logit], Field(min_length=2, max_length=12)]
Temperature = Annotated[float, Field(ge=0.01, le=100)]
Shape = Literal["clouds", "moons", "rings", "spirals"]
GRID = 72
"""Places a side of the grid of decision regions."""
NUM_POINTS = 320
LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "crammer_singer": crammer_singer,
    "weston_watkins": weston_watkins,
}


class Scores(Body):
    """Logits of one row, the temperature that divides them, and the right class."""

    logits: Logits
    temperature: Temperature = 1.0
    label: Annotated[int, Field(ge=0)] = 0


@playground.post("/scores")
def scores(question: Scores) -> dict[str, Any]:
    """Softmax and sigmoids of the same logits, the loss of the right class, and its gradient a − y."""
    logits_C = torch.tensor(question.logits, dtype=torch.float64, requires_grad=True)
    label = _label(question.label, len(logits_C))
    scaled_C = logits_C / question.temperature
    loss = cross_entropy(scaled_C[None], torch.tensor([label])).sum()
    (gradient_C,) = torch.autograd.grad(loss, logits_C)
    logits = np.array(question.logits)
    return {
        "softmax": softmax(logits, temperature=question.temperature).tolist(),
        "log_softmax": log_softmax(logits, temperature=question.temperature).tolist(),
        "sigmoid": sigmoid(logits / question.temperature).tolist(),
        "loss": float(loss.detach()),
        "gradient": gradient_C.tolist(),
    }


class Overflow(Body):
    """Logits, and the number format to compute with."""

    logits: Logits
    dtype: Literal["float16", "float32", "float64"] = "float16"


@playground.post("/overflow")
def overflow(question: Overflow) -> dict[str, Any]:
    """exp(s) / Σ exp(s) as it is written down, beside the library's softmax, in one number format.

    Infinite and undefined numbers are texts: "inf" and "nan".
    """
    with np.errstate(all="ignore"):
        logits_C = np.array(question.logits).astype(question.dtype)
        powers_C = np.exp(logits_C)
        naive_C = powers_C / powers_C.sum(dtype=logits_C.dtype)
    return {
        "largest": float(np.finfo(question.dtype).max),
        "overflows_above": math.log(float(np.finfo(question.dtype).max)),
        "powers": _numbers(powers_C),
        "naive": _numbers(naive_C),
        "softmax": _numbers(softmax(logits_C)),
    }


class Margins(Body):
    """Logits of one row, whose right class is moved along a grid."""

    logits: Logits
    label: Annotated[int, Field(ge=0)] = 0
    low: Logit = -6.0
    high: Logit = 6.0


@playground.post("/losses")
def losses(question: Margins) -> dict[str, Any]:
    """Cross-entropy and two hinge losses, and their slopes, while the logit of the right class moves."""
    label = _label(question.label, len(question.logits))
    places_N = torch.linspace(question.low, question.high, 121, dtype=torch.float64)
    # The last place is where the logit stands.
    places_N = torch.cat([places_N, torch.tensor([question.logits[label]], dtype=torch.float64)])
    logits_NC = torch.tensor(question.logits, dtype=torch.float64).repeat(len(places_N), 1)
    logits_NC[:, label] = places_N
    logits_NC.requires_grad_()
    labels_N = torch.full((len(places_N),), label)
    curves = {}
    for name, loss in LOSSES.items():
        loss_N = loss(logits_NC, labels_N)
        (slope_NC,) = torch.autograd.grad(loss_N.sum(), logits_NC)
        curves[name] = {
            "loss": loss_N[:-1].tolist(),
            "slope": slope_NC[:-1, label].tolist(),
            "here": {"loss": float(loss_N[-1].detach()), "slope": float(slope_NC[-1, label])},
        }
    return {"places": places_N[:-1].tolist(), "curves": curves}


class Sampled(Body):
    """Draws of a sampler, from the first on; the classes follow from the seed."""

    sampler: str = "uniform"
    correction: Correction = "conditional"
    num_classes: Annotated[int, Field(ge=2, le=10_000)] = 1000
    num_sampled: Annotated[int, Field(ge=1, le=2000)] = 20
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    first: Annotated[int, Field(ge=0, le=100_000)] = 0
    draws: Annotated[int, Field(ge=1, le=256)] = 16


@playground.get("/samplers")
def known_samplers() -> dict[str, Any]:
    """The samplers and corrections that there are."""
    return {"samplers": samplers.names(), "corrections": CORRECTIONS}


@playground.post("/sampled")
def sampled(question: Sampled) -> dict[str, Any]:
    """The exact gradient of a row's loss, and that of each draw.

    The hidden vector has two numbers, so that the gradient by it can be drawn whole. Class frequencies fall
    as 1/rank, and logits grow with them.
    """
    generator = torch.Generator().manual_seed(question.seed)
    num_classes = question.num_classes
    counts_C = (1e6 / torch.arange(1, num_classes + 1)).ceil()
    weight_C2 = torch.randn(num_classes, 2, generator=generator)
    bias_C = (counts_C / counts_C.sum()).log()
    hidden_12 = torch.randn(1, 2, generator=generator).mul(1.5).requires_grad_()
    label_1 = torch.tensor([num_classes // 20])
    classes = Classes(num_classes, counts_C.long())

    def gradient(loss_1: Tensor) -> list[float]:
        (grad_12,) = torch.autograd.grad(loss_1.sum(), hidden_12)
        return grad_12[0].tolist()

    exact = gradient(exact_softmax_loss(hidden_12, weight_C2, label_1, bias=bias_C, reduction="none"))
    sampler = build_sampler(question.sampler, classes)
    query = Query(hidden_12.detach(), lambda ids_N: (weight_C2[ids_N], bias_C[ids_N]))
    draws, num_candidates = [], 0
    for place in range(question.first, question.first + question.draws):
        generator.manual_seed((question.seed << 20) + place)
        labels_P = label_1
        if sampler.uses_labels or sampler.state():
            # The labels of a batch, the row's own among them; what a sampler remembers is another batch.
            others_P = torch.multinomial(counts_C, question.num_sampled, True, generator=generator)
            if sampler.uses_labels:
                labels_P = torch.cat([label_1, others_P])
            else:
                sampler.draw(others_P, question.num_sampled, generator=generator, query=query)
        candidates = sampler.draw(labels_P, question.num_sampled, generator=generator, query=query)
        if sampler.uses_labels:
            own_1 = candidates.label_log_expected_count[:1]
            candidates = replace(candidates, label_log_expected_count=own_1)
        loss_1 = sampled_softmax_loss(
            hidden_12, weight_C2, label_1, candidates, bias=bias_C, correction=question.correction
        )
        draws.append(gradient(loss_1))
        num_candidates += len(candidates.class_ids)
    return {
        "exact": exact,
        "draws": draws,
        "candidates": num_candidates / question.draws,
        "approximation": sampler.approximation,
    }


class Weights(Body):
    """Where training stands: all numbers that it moves, in one list."""

    step: Annotated[int, Field(ge=0, le=1_000_000)]
    values: Annotated[list[Logit], Field(max_length=20_000)]


class Regions(Body):
    """Points in the plane, the net that tells their classes apart, and how many steps it takes now."""

    shape: Shape = "clouds"
    num_classes: Annotated[int, Field(ge=2, le=6)] = 4
    noise: Annotated[float, Field(ge=0, le=1)] = 0.3
    loss: Literal["cross_entropy", "crammer_singer", "weston_watkins", "focal"] = "cross_entropy"
    center_loss: Annotated[float, Field(ge=0, le=2)] = 0.0
    width: Annotated[int, Field(ge=2, le=32)] = 12
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.02
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    steps: Annotated[int, Field(ge=0, le=100)] = 0
    weights: Weights | None = None


@playground.post("/regions")
def regions(question: Regions) -> dict[str, Any]:
    """Take steps over all points at once; then say which class each place of the plane belongs to.

    A net of two hidden layers ends in two features, which the head reads; the center loss draws the features
    of a class together.
    """
    points_B2, labels_B = _points(question)
    learner = _Learner(question)
    if question.weights is not None:
        learner.take(question.weights)
    losses_S = [learner.step(points_B2, labels_B) for _ in range(question.steps)]
    reach = 1.15 * float(points_B2.abs().max())
    side_N = torch.linspace(-reach, reach, GRID)
    places_N2 = torch.cartesian_prod(side_N, side_N).flip(1)
    with torch.no_grad():
        probs_NC = softmax(learner.head.logits(learner.net(places_N2)))
        features_B2 = learner.net(points_B2)
        logits_BC = learner.head.logits(features_B2)
        loss = float(learner.head(features_B2, labels_B))
    most_N = probs_NC.max(1)
    weights = learner.weights()
    if not all(abs(value) <= MOST for value in [loss, *losses_S, *weights["values"]]):
        raise UsageError("training has left all bounds. Reset it, and take a lower learning rate.")
    return {
        "reach": reach,
        "points": _rounded(points_B2),
        "labels": labels_B.tolist(),
        "grid": GRID,
        "classes": most_N.indices.tolist(),
        "confidence": [round(100 * value) for value in most_N.values.tolist()],
        "features": _rounded(features_B2),
        "centers": _rounded(learner.centers.centers),
        "loss": loss,
        "losses": losses_S,
        "accuracy": float((logits_BC.argmax(1) == labels_B).double().mean()),
        "weights": weights,
    }


class _Learner:
    """A small net, its head, centers and optimizer."""

    def __init__(self, question: Regions) -> None:
        generator = torch.Generator().manual_seed(question.seed)
        widths = (2, question.width, question.width, 2)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.Tanh()]
        self.net = nn.Sequential(*layers[:-1])
        self.head = ExactHead(question.num_classes, 2, loss=question.loss)
        for parameter in self.parameters():
            scale = parameter.shape[-1] ** -0.5 if parameter.ndim == 2 else 0.0
            parameter.data.copy_(scale * torch.randn(parameter.shape, generator=generator))
        self.centers = CenterLoss(question.num_classes, 2, strength=question.center_loss)
        self.optimizer = LazyAdam(self.parameters(), lr=question.learning_rate)
        self.num_steps = 0

    def parameters(self) -> list[nn.Parameter]:
        return [*self.net.parameters(), *self.head.parameters()]

    def step(self, points_B2: Tensor, labels_B: Tensor) -> float:
        features_B2 = self.net(points_B2)
        loss: Tensor = self.head(features_B2, labels_B)
        self.optimizer.zero_grad()
        (loss + self.centers(features_B2, labels_B).mean()).backward()
        self.optimizer.step()
        self.num_steps += 1
        return float(loss.detach())

    def _tensors(self) -> list[Tensor]:
        """What moves: parameters, centers, and the moments of the optimizer."""
        moments = []
        for parameter in self.parameters():
            state = self.optimizer.state[parameter]
            if not state:
                state.update(self.optimizer.new_state(parameter, self.optimizer.param_groups[0]))
            state["touches"].fill_(self.num_steps)
            moments += [state["exp_avg"], state["exp_avg_sq"]]
        return [*(parameter.data for parameter in self.parameters()), self.centers.centers, *moments]

    def weights(self) -> dict[str, Any]:
        flat = torch.cat([tensor.flatten() for tensor in self._tensors()])
        return {"step": self.num_steps, "values": flat.tolist()}

    def take(self, weights: Weights) -> None:
        self.num_steps = weights.step
        tensors = self._tensors()
        needed = sum(tensor.numel() for tensor in tensors)
        if len(weights.values) != needed:
            raise UsageError(
                f"weights.values must be the {needed} numbers of the last answer; got {len(weights.values)}. "
                "Leave weights out to start again."
            )
        flat = torch.tensor(weights.values)
        for tensor, values in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
            tensor.copy_(values.view_as(tensor))


def _points(question: Regions) -> tuple[Tensor, Tensor]:
    """Points of so many classes around the origin, about one unit wide."""
    from sklearn.datasets import make_blobs, make_circles, make_moons

    num_classes, noise, seed = question.num_classes, question.noise, question.seed
    per_class = NUM_POINTS // num_classes
    if question.shape == "clouds":
        angles_C = 2 * np.pi * np.arange(num_classes) / num_classes + 0.4
        centers_C2 = np.stack([np.cos(angles_C), np.sin(angles_C)], axis=1)
        points, labels = make_blobs(
            per_class * num_classes, centers=centers_C2, cluster_std=0.05 + 0.5 * noise, random_state=seed
        )
    elif question.shape == "spirals":
        random = np.random.default_rng(seed)
        along = np.tile(np.linspace(0.15, 1, per_class), num_classes)
        labels = np.repeat(np.arange(num_classes), per_class)
        turn = 1.2 * np.pi * along + 2 * np.pi * labels / num_classes
        points = 1.4 * along[:, None] * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        points += 0.12 * noise * random.standard_normal(points.shape)
    else:
        parts = []
        # Pairs side by side: moons and rings come in twos.
        for pair in range(-(-num_classes // 2)):
            make: Callable[..., Any] = make_moons if question.shape == "moons" else make_circles
            options = {} if question.shape == "moons" else {"factor": 0.45}
            both, which = make(2 * per_class, noise=0.02 + 0.2 * noise, random_state=seed + pair, **options)
            both = both - both.mean(axis=0)
            kept = 2 * pair + which < num_classes
            parts.append((both[kept] + [0, 2.4 * pair], 2 * pair + which[kept]))
        points, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
        points = points - points.mean(axis=0)
        points = points / max(1.0, float(np.abs(points).max()) / 1.6)
    return torch.tensor(points, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64)


def _label(label: int, num_classes: int) -> int:
    if label >= num_classes:
        raise UsageError(f"label must be one of the classes 0 to {num_classes - 1}; got {label}.")
    return label


def _numbers(values: Any) -> list[float | str]:
    return [float(value) if math.isfinite(value) else str(float(value)) for value in values]


def _rounded(tensor: Tensor) -> list[list[float]]:
    return [[round(value, 4) for value in row] for row in tensor.tolist()]

"""The part that linear separators have in the answers about texts.

Shapes: N training rows, B rows held out, F features, C classes, D hidden.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, log
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from widemax.artifact import Model
from widemax.encoders import TextEncoder, bag_sum
from widemax.encoders.text import has_room_for_logits
from widemax.evaluation import fit_temperature
from widemax.evaluation.metrics.brier import brier_scores
from widemax.evaluation.rows import FloatArray
from widemax.heads import ExactHead
from widemax.solvers import Separators
from widemax.training.evaluate import CalibrationRows
from widemax.training.feed import Feed

BLOCK_ROWS = 128
SWEEPS = 3
SHARE = 0.7
OTHER_SHARES = 0.0, 0.35, 1.4
ROWS_AT_ONCE = 4096
NO_CLASS = -1e4
"""A logit that has no part in a softmax; half precision can tell it."""
SHARPNESS, SHARPNESS_STRENGTH = 0.5, 20.0
"""The mean and the inverse variance of β in a prior that was best over many sets of texts."""


def can_separate(model: Model, num_rows: int) -> bool:
    """Whether logits are a linear map of a bag of text that can hold any table of weights, not too large."""
    encoder, head, num_classes = model.encoder, model.head, model.head.num_classes
    return (
        model.config.train.separators
        and model.config.train.time_limit_s is None
        and isinstance(encoder, TextEncoder)
        and isinstance(head, ExactHead)
        and model.tower is None
        and not (head.score.is_cosine or head.score.has_margin)
        and num_classes <= encoder.dim
        and has_room_for_logits(num_classes, num_rows, len(encoder.weight_FD))
    )


def separators_of(model: Model, feed: Feed) -> Tensor:
    """The linear separators of a feed's bags, [F, C]."""
    num_features, num_classes = len(table_of(model)), model.head.num_classes
    seed, encoder = model.config.train.seed, model.encoder
    assert isinstance(encoder, TextEncoder)

    def blocks() -> Iterator[tuple[Any, Any]]:
        order_N = np.random.default_rng(seed).permutation(len(feed))
        for rows in feed.ahead(np.array_split(order_N, -(-len(feed) // BLOCK_ROWS))):
            bag = encoder.bag(rows.features)
            parts = (bag.values.numpy(), bag.ids.numpy(), bag.offsets.numpy())
            assert isinstance(rows.labels, Tensor)
            is_own_BC = rows.labels.numpy()[:, None] == np.arange(num_classes)
            yield csr_matrix(parts, (len(rows.labels), num_features)), is_own_BC

    separators = Separators(blocks(), seed=seed)
    for _ in range(SWEEPS):
        separators.sweep()
    return separators.weight_FC


@dataclass(frozen=True)
class Separation:
    """What held-out rows have said of the separators beside a model.

    Attributes:
        scale: what the weights of the separators are multiplied by.
        divisor: what makes the sum of all weights calibrated logits.
        sharpness: by how much logits grow with each nat of their entropy, as a logarithm.
    """

    scale: float
    divisor: float
    sharpness: float


@torch.no_grad()
def fit_separators(model: Model, train: Feed, rows: CalibrationRows) -> Separation | None:
    """Give separators their part in the answers of a calibrated model.

    To its logits come those of the separators, calibrated too and times a share, and the sum is calibrated.
    Few held-out rows tell shares apart badly, so it is the one that was best over many sets of texts, unless
    another has a Brier score less by two standard errors. The nll would be ruled by a few rows far off.

    Returns:
        None where they have no part.
    """
    head, labels_B = model.head, rows.labels_B
    if not len(labels_B) or not can_separate(model, len(train)):
        return None
    assert isinstance(head, ExactHead)
    assert isinstance(model.encoder, TextEncoder)
    assert rows.logits_BC is not None
    weight_FC = separators_of(model, train)
    own_temperature = float(head.calibration_temperature)
    own_BC = rows.logits_BC / own_temperature
    others_BC = bag_sum(weight_FC, model.encoder.bag(rows.features))[rows.known_B]
    others_temperature = temperature_of(others_BC, labels_B)

    def told_by(share: float) -> tuple[Tensor, float, FloatArray]:
        logits_BC = own_BC + share / others_temperature * others_BC
        temperature = temperature_of(logits_BC, labels_B)
        return logits_BC / temperature, temperature, brier_of(logits_BC / temperature, labels_B)

    share, (logits_BC, temperature, usual_B) = SHARE, told_by(SHARE)
    most = 0.0
    for other in OTHER_SHARES:
        other_BC, other_temperature, other_B = told_by(other)
        gain_B = usual_B - other_B
        if gain_B.sum() > max(most, 2 * np.linalg.norm(gain_B)):
            share, logits_BC, temperature, most = other, other_BC, other_temperature, gain_B.sum()
    if not share:
        return None
    scale = share / others_temperature * head.temperature * own_temperature
    sharpness, last_temperature = sharpness_of(logits_BC, labels_B)
    separation = Separation(scale, head.temperature * own_temperature * temperature, sharpness)
    add_separators(model, weight_FC, separation)
    head.calibration_temperature.fill_(last_temperature / head.temperature)
    return separation


def sharpness_of(logits_BC: Tensor, labels_B: Tensor) -> tuple[float, float]:
    """The sharpness of calibrated logits, and the temperature that then makes them calibrated again.

    Sums of what n-grams say are too sure where a class stands out and not sure enough where many share the
    answer. β, the sharpness times the largest entropy, is fitted with the prior that many sets of texts gave.
    """
    from scipy.optimize import minimize_scalar

    logits_BC = logits_BC.double()
    entropy_B1: Tensor = torch.special.entr(logits_BC.softmax(1)).sum(1, keepdim=True)
    mean, largest = float(entropy_B1.mean()), log(max(2, logits_BC.shape[1]))

    def sharpened(beta: float) -> Tensor:
        return logits_BC * (beta / largest * (entropy_B1 - mean)).exp()

    def nll(beta: float) -> float:
        prior = SHARPNESS_STRENGTH / 2 * (beta - SHARPNESS) ** 2
        return float(cross_entropy(sharpened(beta), labels_B)) + prior / len(labels_B)

    beta = float(minimize_scalar(nll, bounds=(-2, 2), method="bounded", options={"xatol": 1e-3}).x)
    temperature = temperature_of(sharpened(beta), labels_B)
    return beta / largest, temperature * exp(beta / largest * mean)


@torch.no_grad()
def add_separators(model: Model, weight_FC: Tensor, separation: Separation) -> None:
    """Let hidden vectors be logits, those of the model and of separators together."""
    encoder, head = model.encoder, model.head
    assert isinstance(encoder, TextEncoder)
    assert isinstance(head, ExactHead)
    padding = 0, head.dim - head.num_classes
    parts = (torch.split(each, ROWS_AT_ONCE) for each in (table_of(model), weight_FC))
    for rows_FD, others_FC in zip(*parts, strict=True):
        logits_FC = rows_FD @ head.weight.T + separation.scale * others_FC
        rows_FD.copy_(pad(logits_FC / separation.divisor, padding))
    head.weight.copy_(torch.eye(head.num_classes, head.dim))
    bias_C = torch.zeros(head.num_classes) if head.bias is None else head.bias.div_(separation.divisor)
    encoder.bias_D.copy_(pad(bias_C, padding, value=NO_CLASS))
    encoder.sharpness.fill_(separation.sharpness)


def table_of(model: Model) -> Tensor:
    """The encoder's table of weights, [F, D]."""
    assert isinstance(model.encoder, TextEncoder)
    return model.encoder.weight_FD


def temperature_of(logits_BC: Tensor, labels_B: Tensor) -> float:
    """The temperature that makes logits calibrated."""
    return fit_temperature(
        lambda temperature: float(cross_entropy(logits_BC / temperature, labels_B)), num_rows=len(labels_B)
    )


def brier_of(logits_BC: Tensor, labels_B: Tensor) -> FloatArray:
    """The Brier score of each row, [B]."""
    probs_BC = logits_BC.double().softmax(1)
    label_probs_B = probs_BC.gather(1, labels_B[:, None])[:, 0]
    return brier_scores(label_probs_B.numpy(), probs_BC.square().sum(1).numpy())

"""The part that linear separators and log odds have in the answers about texts.

Shapes: N training rows, B rows held out, F features, C classes, D hidden.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import exp, log
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from widemax.artifact import Model
from widemax.encoders import TextEncoder, bag_sum
from widemax.encoders.features import Tensors
from widemax.encoders.text import has_room_for_logits
from widemax.evaluation import fit_temperature
from widemax.evaluation.rows import FloatArray
from widemax.heads import ExactHead
from widemax.solvers import Separators
from widemax.training.evaluate import CalibrationRows
from widemax.training.feed import Feed

BLOCK_ROWS = 128
SWEEPS = 3
USUAL_ROWS = 10.0
"""How many rows as they are on average a class has besides its own before log odds are taken."""
SHARES, SHARES_STRENGTH = (1.0, 1.0, 0.5), 10.0
"""The mean and the inverse variance of the shares of gradients, separators and log odds."""
ROWS_AT_ONCE = 4096
TINY = 1e-30
NO_CLASS = -1e4
"""A logit that has no part in a softmax; half precision can tell it."""
SHARPNESS, SHARPNESS_STRENGTH = 0.5, 20.0
"""The mean and the inverse variance of β in a prior that was best over many sets of texts."""
SURENESS_VARIANCE = 0.02**2
"""Of what the mean confidence is above the accuracy where the nll is smallest, over many sets of texts."""
MOST_NATS = 0.7
"""How far from the temperature of the smallest nll another is looked for."""
ENOUGH_ROWS, MOST_FOLDS = 2000, 2
"""Held-out rows that tell sharpness and confidence well; how often more are held out to have as many."""


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
        and 1 < num_classes <= encoder.dim
        and has_room_for_logits(num_classes, num_rows, len(encoder.weight_FD))
    )


def linear_parts(model: Model, feed: Feed) -> tuple[Tensor, Tensor]:
    """The linear separators of a feed's bags, and the log odds of what it counts of them, each [F, C]."""
    num_features, num_classes = len(table_of(model)), model.head.num_classes
    seed, encoder = model.config.train.seed, model.encoder
    assert isinstance(encoder, TextEncoder)
    sums_FC = torch.zeros(num_features, num_classes)

    def blocks() -> Iterator[tuple[Any, Any]]:
        order_N = np.random.default_rng(seed).permutation(len(feed))
        for rows in feed.ahead(np.array_split(order_N, -(-len(feed) // BLOCK_ROWS))):
            bag = encoder.bag(rows.features)
            assert isinstance(rows.labels, Tensor)
            labels_P = rows.labels.repeat_interleave(bag.offsets.diff(), output_size=len(bag.ids))
            sums_FC.view(-1).index_add_(0, bag.ids * num_classes + labels_P, bag.values)
            parts = (bag.values.numpy(), bag.ids.numpy(), bag.offsets.numpy())
            is_own_BC = rows.labels.numpy()[:, None] == np.arange(num_classes)
            yield csr_matrix(parts, (len(rows.labels), num_features)), is_own_BC

    separators = Separators(blocks(), seed=seed)
    for _ in range(SWEEPS):
        separators.sweep()
    return separators.weight_FC, to_log_odds(sums_FC, len(feed))


def to_log_odds(sums_FC: Tensor, num_rows: int) -> Tensor:
    """How much likelier a feature is in a class than in the others, in place of the sums of its weights.

    w_fc = log(s_fc + m_f) − log(s_f − s_fc + m_f), less what it is of a whole row of class c, and then less
    the mean over classes. s_f is the sum over all classes and m_f = 10 s_f / N: a class and the others each
    have ten rows more, which are as rows are on average. So a feature of few rows says little.

    Source: Rennie et al., "Tackling the poor assumptions of naive Bayes text classifiers", ICML 2003, with
    another prior.
    """
    usual = USUAL_ROWS / num_rows
    sums_C = sums_FC.sum(0)
    row_C = log_odds(sums_C, sums_C.sum(), usual)
    for rows_FC in torch.split(sums_FC, ROWS_AT_ONCE):
        odds_FC = log_odds(rows_FC, rows_FC.sum(1, keepdim=True), usual) - row_C
        odds_FC -= odds_FC.mean(1, keepdim=True)
        rows_FC.copy_(odds_FC.nan_to_num_(0, 0, 0))  # n-grams that only held-out rows have
    return sums_FC


def log_odds(sums: Tensor, total: Tensor, usual: float) -> Tensor:
    """Of a class against the others, which make up the total; each gets a usual part of it besides."""
    return (sums + usual * total).log() - ((total - sums).clamp_min(0) + usual * total).log()


@dataclass(frozen=True)
class Separation:
    """What held-out rows have said of the linear parts beside a model.

    Attributes:
        scales: what the weights of the model, of the separators and of the log odds are multiplied by.
        sharpness: by how much logits grow with each nat of their entropy, as a logarithm.
    """

    scales: tuple[float, float, float]
    sharpness: float


@torch.no_grad()
def fit_separators(
    model: Model, train: Feed, rows: CalibrationRows, folds: Iterable[tuple[Feed, Feed]] = ()
) -> Separation | None:
    """Give separators and log odds their part in the answers of a calibrated model.

    Its logits become a sum of all three, each calibrated and times a share. Where the rows are few, linear
    parts learned anew from other training rows, in an instant, say of other held-out rows how sharp they are
    and how sure.

    Args:
        model: calibrated; changed in place.
        train: the rows it was trained on.
        rows: held-out rows.
        folds: other training and held-out rows; those read of which there is need.

    Returns:
        None where they cannot be added, or no rows are held out.
    """
    head, labels_B = model.head, rows.labels_B
    if not len(labels_B) or not can_separate(model, len(train)):
        return None
    assert isinstance(head, ExactHead)
    assert isinstance(model.encoder, TextEncoder)
    assert rows.logits_BC is not None
    weights = linear_parts(model, train)
    scores = linear_scores(model, weights, rows.features)
    factors, parts = [1 / float(head.calibration_temperature)], [rows.logits_BC]
    for score_BC in scores:
        parts.append(score_BC[rows.known_B])
        spread = max(float(parts[-1].std(1, correction=0).mean()), TINY)
        factors.append(1 / spread / temperature_of(parts[-1] / spread, labels_B))
    parts = [part_BC * factor for part_BC, factor in zip(parts, factors, strict=True)]
    shares = shares_of(parts, labels_B)
    own, *others = shares * factors
    linear, labels = [weighted(parts[1:], shares[1:])], [labels_B]
    for scores, fold_labels in scores_of_folds(model, folds, len(labels_B)):
        linear.append(weighted(scores, others))
        labels.append(fold_labels)
    sharpness, temperature = confidence_of(
        weighted(parts, shares), labels_B, torch.cat(linear), torch.cat(labels)
    )
    separation = Separation((own / head.temperature, *others), sharpness)
    add_separators(model, weights, separation)
    head.calibration_temperature.fill_(temperature / head.temperature)
    return separation


def linear_scores(model: Model, weights: Iterable[Tensor], features: Tensors) -> list[Tensor]:
    """What linear parts say of rows, each [B, C]."""
    assert isinstance(model.encoder, TextEncoder)
    bag = model.encoder.bag(features)
    return [bag_sum(weight_FC, bag) for weight_FC in weights]


def scores_of_folds(
    model: Model, folds: Iterable[tuple[Feed, Feed]], num_rows: int
) -> Iterator[tuple[list[Tensor], Tensor]]:
    """What linear parts learned of the first of two feeds say of the second, and its labels; of a few folds.

    n-grams that only the held-out rows have are as strange to the encoder as those of rows to come.
    """
    encoder = model.encoder
    assert isinstance(encoder, TextEncoder)
    idf_F = encoder.idf_F
    try:
        for train, held_out in islice(folds, max(0, min(MOST_FOLDS, ENOUGH_ROWS // num_rows - 1))):
            encoder.weigh(train.chunks)
            rows = held_out.take(np.arange(len(held_out)))
            assert isinstance(rows.labels, Tensor)
            yield linear_scores(model, linear_parts(model, train), rows.features), rows.labels
    finally:
        encoder.idf_F = idf_F


def shares_of(parts: Sequence[Tensor], labels_B: Tensor) -> FloatArray:
    """What calibrated logits of several parts are multiplied by, so that their sum is calibrated too.

    The held-out Brier score Σ_c p_c² − 2 p_y is minimized over shares ≥ 0; the nll would be ruled by a few
    rows far off. Few rows tell shares apart badly, so these are drawn to those that were best over many sets
    of texts.
    """
    from scipy.optimize import minimize

    usual = np.array(SHARES)
    factor = 1 / temperature_of(weighted(parts, usual), labels_B)
    labels_B1 = labels_B[:, None]

    def loss(shares: FloatArray) -> tuple[float, FloatArray]:
        probs_BC = weighted(parts, factor * shares).softmax(1)
        squares_B1, own_B1 = probs_BC.square().sum(1, keepdim=True), probs_BC.gather(1, labels_B1)
        slope_BC = probs_BC * (probs_BC - squares_B1 + own_B1)
        slope_BC.scatter_add_(1, labels_B1, -own_B1)
        slope = [float((slope_BC * part_BC).sum(dtype=torch.float64)) for part_BC in parts]
        away = shares - usual
        brier = float((squares_B1 - 2 * own_B1).sum(dtype=torch.float64))
        return brier + SHARES_STRENGTH / 2 * away @ away, 2 * factor * np.array(
            slope
        ) + SHARES_STRENGTH * away

    bounds = [(0, None)] * len(parts)
    shares: FloatArray = factor * minimize(loss, usual, jac=True, method="L-BFGS-B", bounds=bounds).x
    return shares


def weighted(parts: Sequence[Tensor], factors: Iterable[float]) -> Tensor:
    """The sum of logits, each times its factor."""
    total_BC = torch.zeros_like(parts[0])
    for part_BC, factor in zip(parts, factors, strict=True):
        total_BC.add_(part_BC, alpha=float(factor))
    return total_BC


def sharpness_of(logits_BC: Tensor, labels_B: Tensor) -> float:
    """The sharpness of calibrated logits.

    Sums of what n-grams say are too sure where a class stands out and not sure enough where many share the
    answer. β, the sharpness times the largest entropy, is fitted with the prior that many sets of texts gave.
    """
    from scipy.optimize import minimize_scalar

    around_B1, _ = entropies(logits_BC)
    largest = log(max(2, logits_BC.shape[1]))

    def nll(beta: float) -> float:
        prior = SHARPNESS_STRENGTH / 2 * (beta - SHARPNESS) ** 2
        sharpened_BC = logits_BC * (beta / largest * around_B1).exp()
        return float(cross_entropy(sharpened_BC, labels_B)) + prior / len(labels_B)

    return float(minimize_scalar(nll, bounds=(-2, 2), method="bounded", options={"xatol": 1e-3}).x) / largest


def entropies(logits_BC: Tensor) -> tuple[Tensor, float]:
    """How much more than in the mean the entropy of each row is, and the mean, in nats."""
    entropy_B1: Tensor = torch.special.entr(logits_BC.softmax(1)).sum(1, keepdim=True)
    mean = float(entropy_B1.mean())
    return entropy_B1 - mean, mean


def sharpened(logits_BC: Tensor, sharpness: float) -> tuple[Tensor, float]:
    """Logits that are sharper where classes share the answer, and what the encoder makes them larger by."""
    around_B1, mean = entropies(logits_BC)
    return logits_BC * (sharpness * around_B1).exp(), exp(sharpness * mean)


def confidence_of(
    logits_BC: Tensor, labels_B: Tensor, linear_NC: Tensor, linear_labels_N: Tensor
) -> tuple[float, float]:
    """The sharpness of logits, and the temperature by which they are as sure as they are right.

    The linear parts of them are known of N rows, of which the B are the first, so these say how sharp logits
    are. The temperature that minimizes the nll leaves the mean confidence above the accuracy by some δ. It is
    that of the linear parts on N rows plus what the B rows say it is more of the logits, since the two rise
    and fall together. Of δ the share is taken away that is no chance.
    """
    from scipy.optimize import minimize_scalar

    linear_NC = calibrated(linear_NC.double(), linear_labels_N)[0]
    sharpness = sharpness_of(linear_NC, linear_labels_N)
    logits_BC, scale = sharpened(logits_BC.double(), sharpness)
    logits_BC, temperature = calibrated(logits_BC, labels_B)
    linear_NC = calibrated(sharpened(linear_NC, sharpness)[0], linear_labels_N)[0]
    surest_B, excess_B = sureness(logits_BC, labels_B)
    _, excess_N = sureness(linear_NC, linear_labels_N)
    more_B = excess_B - excess_N[: len(excess_B)]
    chance = float((surest_B * (1 - surest_B)).mean()) / len(excess_N)
    chance += float(more_B.var(correction=0)) * (1 / len(more_B) - 1 / len(excess_N))
    share = SURENESS_VARIANCE / (SURENESS_VARIANCE + chance)
    aim = float(surest_B.mean()) - share * float(excess_N.mean() + more_B.mean())

    def miss(log_temperature: float) -> float:
        return float(sureness(logits_BC / exp(log_temperature), labels_B)[0].mean() - aim) ** 2

    bounds, options = (-MOST_NATS, MOST_NATS), {"xatol": 1e-3}
    found = minimize_scalar(miss, bounds=bounds, method="bounded", options=options)
    return sharpness, scale * temperature * exp(found.x)


def sureness(logits_BC: Tensor, labels_B: Tensor) -> tuple[Tensor, Tensor]:
    """The probability of each row's likeliest class, and that less 1 where it is right."""
    probs_B, classes_B = logits_BC.softmax(1).max(1)
    return probs_B, probs_B - (classes_B == labels_B).double()


def calibrated(logits_BC: Tensor, labels_B: Tensor) -> tuple[Tensor, float]:
    """Logits by the temperature that makes them calibrated, and this."""
    temperature = temperature_of(logits_BC, labels_B)
    return logits_BC / temperature, temperature


@torch.no_grad()
def add_separators(model: Model, weights: Sequence[Tensor], separation: Separation) -> None:
    """Let hidden vectors be logits, those of the model and of the linear parts together."""
    encoder, head = model.encoder, model.head
    assert isinstance(encoder, TextEncoder)
    assert isinstance(head, ExactHead)
    padding = 0, head.dim - head.num_classes
    parts = (torch.split(each, ROWS_AT_ONCE) for each in (table_of(model), *weights))
    for rows_FD, *others in zip(*parts, strict=True):
        rows_FD.copy_(pad(weighted([rows_FD @ head.weight.T, *others], separation.scales), padding))
    head.weight.copy_(torch.eye(head.num_classes, head.dim))
    bias_C = torch.zeros(head.num_classes) if head.bias is None else head.bias.mul_(separation.scales[0])
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

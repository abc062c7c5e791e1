"""Every registered loss beside an independent formula for one row, in plain NumPy."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from widemax.losses import losses

NORMS = (17.0, 19.5, 20.0, 22.5, 31.0, 19.0, 21.0, 23.0)


def softmax(s):
    exps = np.exp(s - s.max())
    return exps / exps.sum()


def log_sum_exp(s):
    return s.max() + math.log(np.exp(s - s.max()).sum())


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def others(s, y):
    return np.delete(s, y)


def against(s, y):
    """Log odds against the label."""
    return log_sum_exp(others(s, y) - s[y])


def nll(s, y):
    return softplus(against(s, y))


def focal(s, y):
    return math.exp(-2 * softplus(-against(s, y))) * nll(s, y)


def poly(s, y):
    return nll(s, y) + math.exp(-softplus(-against(s, y)))


def crammer_singer(s, y):
    return max(0, 1 + max(others(s, y) - s[y]))


def weston_watkins(s, y):
    return sum(max(0, 1 + gap) for gap in others(s, y) - s[y])


def bpr(s, y):
    return np.mean([softplus(wrong - s[y]) for wrong in others(s, y)])


def bisect(mass, low, high):
    """The threshold at which the probabilities sum to 1."""
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if mass(middle) > 1 else (low, middle)
    return low


def sparsemax_loss(s, y):
    s = s - s.max()
    threshold = bisect(lambda t: np.maximum(s - t, 0).sum(), -1, 0)
    support = s[s > threshold]
    return -s[y] + np.sum(support**2 - threshold**2) / 2 + 0.5


def entmax15_loss(s, y):
    s = s - s.max()
    threshold = bisect(lambda t: (np.maximum(s / 2 - t, 0) ** 2).sum(), -1, 0)
    p = np.maximum(s / 2 - threshold, 0) ** 2
    return np.where(p > 0, p * s, 0).sum() - s[y] + (1 - np.sum(p**1.5)) / 0.75


def margin_softmax(cosines, y, label_cosine, scale=64.0):
    moved = cosines.copy()
    moved[y] = label_cosine
    return nll(scale * moved, y)


def arcface(cosines, y):
    angle = math.acos(cosines[y]) + 0.5
    beyond = cosines[y] - 1 + math.cos(0.5)
    return margin_softmax(cosines, y, math.cos(angle) if angle <= math.pi else beyond)


def adaface(cosines, y, norm):
    quality = min(max(0.333 * (norm - 20) / 2.001, -1), 1)
    angle = min(max(math.acos(cosines[y]) - 0.4 * quality, 0), math.pi)
    return margin_softmax(cosines, y, math.cos(angle) - (0.4 * quality + 0.4))


def yes_no(s, t, yes, no):
    return sum(y * yes(x) if y == 1 else no(x) for x, y in zip(s, t, strict=True))


def binary_cross_entropy(s, t):
    return yes_no(s, t, lambda x: softplus(-x), softplus)


def binary_focal(s, t):
    def wrong(x):
        return math.exp(-2 * softplus(-x)) * softplus(x)

    return yes_no(s, t, lambda x: wrong(-x), wrong)


def gbce(s, t):
    return yes_no(s, t, lambda x: (1 - 0.75 * (1 - 0.1)) * softplus(-x), softplus)


def one_vs_rest_hinge(s, t):
    return yes_no(s, t, lambda x: max(0, 1 - x), lambda x: max(0, 1 + x))


def multi_positive_softmax(s, t):
    right, wrong = s[t == 1], s[t == 0]
    if not len(right) or not len(wrong):
        return 0.0
    return np.mean([softplus(log_sum_exp(wrong - r)) for r in right])


def marginal_softmax(s, t):
    s = s - s.max()  # whose rounding would swallow the logarithms
    return log_sum_exp(s) - log_sum_exp(s[t == 1]) if t.any() else 0.0


@dataclass(frozen=True)
class Case:
    """A loss, options to call it with, and its formula for one row."""

    name: str
    formula: Callable[..., float]
    options: dict[str, Any] = field(default_factory=dict)
    takes: str = "ids"
    """ids, ids or distributions, or targets."""
    cosines: bool = False

    def __call__(self, logits, labels):
        options = dict(self.options)
        if self.name == "adaface":
            norms = torch.tensor(NORMS * (len(logits) // len(NORMS) + 1))
            options["norms"] = norms[: len(logits)].double()
        return losses[self.name](logits, labels, **options)

    def truth(self, logits, labels):
        """[B] the formula in float64."""
        rows = zip(logits.detach().double().numpy(), labels.numpy(), strict=True)
        if self.name == "adaface":
            values = [self.formula(s, y, norm) for (s, y), norm in zip(rows, itertools.cycle(NORMS))]
        else:
            values = [self.formula(s, y) for s, y in rows]
        return torch.tensor(values, dtype=torch.float64)

    def logits(self, num_rows, num_classes, dtype=torch.float64, seed=0):
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(num_rows, num_classes, generator=generator, dtype=torch.float64)
        return (0.9 * torch.tanh(logits) if self.cosines else 2 * logits).to(dtype)

    def labels(self, num_rows, num_classes, seed=1):
        """Class ids with duplicates, or targets with any number of right classes a row."""
        generator = torch.Generator().manual_seed(seed)
        if self.takes == "targets":
            return (torch.rand(num_rows, num_classes, generator=generator) < 0.4).double()
        return torch.randint(num_classes, (num_rows,), generator=generator)


CASES = {
    case.name: case
    for case in (
        Case("adaface", adaface, {"norm_mean": 20.0, "norm_std": 2.0}, cosines=True),
        Case("arcface", arcface, cosines=True),
        Case("binary_cross_entropy", binary_cross_entropy, takes="targets"),
        Case("binary_focal", binary_focal, takes="targets"),
        Case("bpr", bpr),
        Case("cosface", lambda c, y: margin_softmax(c, y, c[y] - 0.35), cosines=True),
        Case("cosine_softmax", lambda c, y: margin_softmax(c, y, c[y]), cosines=True),
        Case("crammer_singer", crammer_singer),
        Case("cross_entropy", nll, takes="ids or distributions"),
        Case("entmax15_loss", entmax15_loss, takes="ids or distributions"),
        Case("focal", focal),
        Case("gbce", gbce, {"sampling_rate": 0.1}, takes="targets"),
        Case("info_nce", lambda s, y: nll(s / 0.5, y), {"temperature": 0.5}, takes="ids or distributions"),
        Case("marginal_softmax", marginal_softmax, takes="targets"),
        Case("multi_positive_softmax", multi_positive_softmax, takes="targets"),
        Case("one_vs_rest_hinge", one_vs_rest_hinge, takes="targets"),
        Case("poly", poly),
        Case("sparsemax_loss", sparsemax_loss, takes="ids or distributions"),
        Case("weston_watkins", weston_watkins),
    )
}

"""Classes in bins that are drawn often enough to be judged. Shapes: C classes, R draws, E bins."""

import torch
from torch import Tensor

EVENTS_A_BIN = 100
SINGLE_BINS = 64
POOLED_BINS = 8
NEIGHBORS = 64


def bins_of(expected_C: Tensor, num_draws: int) -> tuple[Tensor, int]:
    """A bin for each class.

    The most frequent classes stand alone. The others are pooled along their ids into ranges of equal
    expected number, each in two bins: the classes stated above the mean of their neighbors and those below.
    (Stated counts with random errors are right on average over neighbors, and wrong in both of these.)

    Returns:
        [C] the bin of each class, and the number of bins.

    Example:
        >>> bins_of(torch.tensor([1.0, 2.0, 0.01, 0.01, 0.02]), 1000)[0]
        tensor([1, 0, 2, 2, 3])
    """
    top, places = expected_C.topk(min(SINGLE_BINS, len(expected_C)))
    singles = places[top * num_draws >= EVENTS_A_BIN]
    num_singles = len(singles)
    pooled_C = expected_C.index_fill(0, singles, 0.0)
    events = float(pooled_C.sum()) * num_draws
    num_ranges = max(1, min(POOLED_BINS, int(events / (2 * EVENTS_A_BIN))))
    share_C = pooled_C.cumsum(0) * (num_ranges / max(float(pooled_C.sum()), 1e-300))
    range_C = share_C.long().clamp_(max=num_ranges - 1)
    bin_C = num_singles + 2 * range_C + (pooled_C > _mean_of_neighbors(pooled_C))
    bin_C[singles] = torch.arange(num_singles)
    in_use = bin_C.bincount() > 0
    return (in_use.cumsum(0) - 1)[bin_C], int(in_use.sum())


def _mean_of_neighbors(values_C: Tensor) -> Tensor:
    """[C] the mean over a block of classes, those left out aside."""
    block_C = torch.arange(len(values_C)) // NEIGHBORS
    num_pooled = block_C.bincount((values_C > 0).double()).clamp_(min=1)
    return (block_C.bincount(values_C.double()) / num_pooled)[block_C]


def least_variances(bin_C: Tensor, expected_E: Tensor) -> Tensor:
    """The least variance of how often the classes of a bin are drawn, if they are drawn as often as expected.

    A whole number whose mean is m has variance (m − ⌊m⌋)(1 − m + ⌊m⌋) or more. That matters for a class
    that is drawn almost every time: by chance, all of a few draws may have it. Sums over several classes may
    be constant.

    Returns:
        [E] variances of one draw, 0 for bins of several classes.

    Example:
        >>> least_variances(torch.tensor([0, 1, 1]), torch.tensor([0.75, 16.25]))
        tensor([0.1875, 0.0000])
    """
    part_E = expected_E.frac()
    return torch.where(bin_C.bincount() == 1, part_E * (1 - part_E), 0)


def z_scores(differences_RE: Tensor, least_variance: Tensor) -> Tensor:
    """Means over draws in standard errors.

    Example:
        >>> z_scores(torch.tensor([[0.0], [2.0]]), torch.tensor(0.5))
        tensor([1.])
    """
    variance_E = torch.maximum(differences_RE.var(0), least_variance)
    return differences_RE.mean(0) / (variance_E / len(differences_RE)).sqrt()

"""Where to cut classes sorted by frequency so that an adaptive softmax costs least.

Shapes: C classes, E candidates for the end of a cluster.
"""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# Each is narrower than the one before, so that many would leave the last no room to tell classes apart.
MAX_CLUSTERS = 3
# Multiply-adds of a row that take as long as its part of what a cluster costs however small it is.
CLUSTER_OVERHEAD = 2**15
# Up to so many classes every cutoff is a candidate; beyond, candidates are a geometric series.
MAX_CANDIDATES = 64


def best_cutoffs(class_counts: FloatArray, dim: int) -> tuple[int, ...]:
    """The cutoffs of least expected cost among the candidates, by dynamic programming.

    With a shortlist of k classes and clusters of k_i classes that hold a share p_i of the labels, a row costs
    D k + Σ_i (D + D p_i k_i + overhead) multiply-adds: the shortlist, a logit for each cluster, the classes
    of a cluster as often as they are asked for, and a constant that makes small clusters not worth a call.

    Returns:
        The first class of each cluster; none where one softmax over all classes is cheapest.

    Source: Grave et al. 2017, "Efficient softmax approximation for GPUs", §4.1 to 4.3.

    Example:
        >>> best_cutoffs(1 / np.arange(1.0, 1_000_001), 128)
        (12452, 173020, 517947)
    """
    num_classes = len(class_counts)
    ends_E = np.unique(np.geomspace(1, num_classes, MAX_CANDIDATES).round().astype(np.int64))
    if num_classes <= MAX_CANDIDATES:
        ends_E = np.arange(1, num_classes + 1)
    share_E = class_counts.cumsum()[ends_E - 1] / class_counts.sum()
    sizes_EE = ends_E - ends_E[:, None]
    cost_EE = CLUSTER_OVERHEAD + dim * (1 + (share_E - share_E[:, None]) * sizes_EE)
    cost_EE = np.where(sizes_EE > 0, cost_EE, np.inf)
    # From each candidate on, the least cost of the classes that remain, in one cluster more each time.
    nothing_left_E = np.where(ends_E == num_classes, 0.0, np.inf)
    rest_E, next_ends = nothing_left_E, []
    for _ in range(MAX_CLUSTERS):
        next_ends.append((cost_EE + rest_E).argmin(1))
        rest_E = np.minimum(nothing_left_E, (cost_EE + rest_E).min(1))
    place = int((dim * ends_E + rest_E).argmin())
    cutoffs = []
    for next_end_E in reversed(next_ends):
        if ends_E[place] < num_classes:
            cutoffs.append(int(ends_E[place]))
            place = int(next_end_E[place])
    return tuple(cutoffs)

"""Queries whose values follow from a planted rule."""

import numpy as np

from widemax.ranking import Queries

SECONDS = np.array([5.0, 50.0, 500.0])
CHANCE = 0.2


def planted_queries(*, seed: int = 0, num_queries: int = 400, num_candidates: int = 30) -> Queries:
    """Candidates of three kinds, each watched by chance for about its kind's seconds; some are missing."""
    rng = np.random.default_rng(seed)
    kinds_QK = rng.integers(3, size=(num_queries, num_candidates))
    watched_QK = rng.random(kinds_QK.shape) < CHANCE
    value_QK = watched_QK * SECONDS[kinds_QK] * rng.uniform(0.5, 1.5, kinds_QK.shape)
    valid_QK = np.arange(num_candidates) < num_candidates - np.arange(num_queries)[:, None] % 7
    noise_QK = rng.normal(size=kinds_QK.shape)
    features_QKF = np.stack([*(kinds_QK == kind for kind in range(3)), noise_QK], axis=2).astype(float)
    return Queries(features_QKF, value_QK * valid_QK, valid_QK)


def of_a_kind(kind: int) -> np.ndarray:
    """The features of a candidate without noise."""
    return np.append(np.eye(3)[kind], 0.0)

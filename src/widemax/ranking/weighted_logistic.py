"""Weighted logistic regression, whose odds are the expected value of a candidate. Shapes: see ``base``."""

from typing import final

import numpy as np
from torch import Tensor
from torch.nn.functional import logsigmoid

from widemax.ranking.base import Array, Objective, Queries, objectives
from widemax.solvers import minimize_cross_entropy

TOLERANCE, MOST_STEPS = 1e-6, 1000


@final
@objectives.register("weighted_logistic")
class WeightedLogistic(Objective):
    """Σ_i T_i softplus(−s_i) + softplus(s_i), T_i the value of candidate i: the odds exp(s) estimate E[T].

    Each candidate is a negative of weight 1, and one with a value, such as seconds watched, is a positive of
    that weight beside it. Where the features tell candidates apart, the loss is least at exp(s) = E[T | x].

    Use: the default; scores mean something, so that they can be compared between users and added up. Where
    nothing but clicks is known, the odds are the probability of a click.

    Source: Covington, Adams and Sargin, "Deep Neural Networks for YouTube Recommendations", RecSys 2016,
    section 4.2. There a clicked candidate is no negative as well, which makes the odds E[T] / (1 − P).

    Example:
        >>> seconds = np.array([[60.0, 0.0], [0.0, 0.0]])
        >>> queries = Queries(np.zeros((2, 2, 1)), seconds, np.ones((2, 2), bool))
        >>> float(np.exp(WeightedLogistic().fit(queries)[-1]).round(3))
        15.0
    """

    estimates_value = True

    def fit(self, queries: Queries) -> Array:
        features_NF, value_N = queries.features_QKF[queries.valid_QK], queries.value_QK[queries.valid_QK]
        positive_N = value_N > 0
        solution = minimize_cross_entropy(
            np.concatenate([features_NF, features_NF[positive_N]]),
            np.arange(len(value_N) + positive_N.sum())[:, None] >= len(value_N),
            np.concatenate([np.ones(len(value_N)), value_N[positive_N]]),
            np.zeros((features_NF.shape[1] + 1, 1)),
            C=self.C,
            l1_ratio=0.0,
            tol=TOLERANCE,
            max_iter=MOST_STEPS,
            generator=np.random.default_rng(0),
        )
        return solution.weight_FK[:, 0]

    def log_probs(self, scores_BK: Tensor) -> Tensor:
        """Log-probabilities [B, K]: log σ(s), so that p / (1 − p) is the expected value."""
        return logsigmoid(scores_BK)

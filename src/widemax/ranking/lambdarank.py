"""Pairs of candidates, weighted by what their exchange would change. Shapes: see ``base``; P better ones."""

from typing import final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from widemax.ranking.base import Array, Objective, Queries, dcg, objectives, ranks_of

ROUNDS = 8


@final
@objectives.register("lambdarank")
class LambdaRank(Objective):
    """Σ δ_ij softplus(s_j − s_i) over the pairs of candidates of a query, i with the larger value.

    δ_ij = (T_i − T_j) abs(1 / log2(1 + r_i) − 1 / log2(1 + r_j)) / ideal DCG is by how much nDCG would
    change if the two exchanged their ranks r. Ranks and weights take turns: the weights are the optimum for
    the pairs of the ranks before, and those with the best nDCG of all rounds are kept.

    Use: where the first places count. Queries without any value say nothing.

    Source: Burges, "From RankNet to LambdaRank to LambdaMART: An Overview", 2010, section 4; taking turns:
    Wang et al., "The LambdaLoss Framework for Ranking Metric Optimization", CIKM 2018, section 4.

    Example:
        >>> features = np.array([[[1.0], [0.0]], [[0.0], [1.0]]])
        >>> queries = Queries(features, np.array([[3.0, 0.0], [0.0, 2.0]]), np.ones((2, 2), bool))
        >>> bool(LambdaRank().fit(queries)[0] > 0)
        True
    """

    def fit(self, queries: Queries) -> Array:
        queries = queries.take(queries.value_QK.sum(1) > 0)
        features_QKF, value_QK = torch.from_numpy(queries.features_QKF), queries.value_QK
        num_places = value_QK.shape[1]
        ideal_Q1 = dcg(value_QK, ranks_of(value_QK, queries.valid_QK), k=num_places)[:, None]
        query_P, place_P = np.nonzero(value_QK > 0)
        better_PK = (value_QK[query_P] < value_QK[query_P, place_P][:, None]) & queries.valid_QK[query_P]
        gain_PK = better_PK * (value_QK[query_P, place_P][:, None] - value_QK[query_P]) / ideal_Q1[query_P]
        best_F = weight_F = np.zeros(features_QKF.shape[2])  # the order of the retriever
        ranks_QK = ranks_of(np.zeros(value_QK.shape), queries.valid_QK)
        best = float((dcg(value_QK, ranks_QK, k=num_places) / ideal_Q1[:, 0]).mean())
        for _ in range(ROUNDS):
            discount_QK = 1 / np.log2(1 + ranks_QK)
            change_PK = discount_QK[query_P, place_P][:, None] - discount_QK[query_P]
            pairs_PK = torch.from_numpy(gain_PK * np.abs(change_PK))

            def loss(weight_F: Tensor, pairs_PK: Tensor = pairs_PK) -> Tensor:
                scores_QK = features_QKF @ weight_F
                return (pairs_PK * softplus(scores_QK[query_P] - scores_QK[query_P, place_P][:, None])).sum()

            weight_F = self.minimum(loss, weight_F)
            ranks_QK = ranks_of((features_QKF @ torch.from_numpy(weight_F)).numpy(), queries.valid_QK)
            reached = float((dcg(value_QK, ranks_QK, k=num_places) / ideal_Q1[:, 0]).mean())
            if reached > best:
                best, best_F = reached, weight_F
        return np.append(best_F, 0.0)

"""A softmax over the candidates of a query. Shapes: see ``base``."""

from typing import final

import numpy as np
import torch
from torch import Tensor

from widemax.ranking.base import Array, Objective, Queries, objectives


@final
@objectives.register("listwise_softmax")
class ListwiseSoftmax(Objective):
    """−Σ_i t_i log softmax(s)_i over the candidates of a query, t_i = T_i / Σ_j T_j of their values.

    Use: where only the order within a query counts: what all its candidates share, such as the user's
    columns, has no part in it. Queries without any value say nothing.

    Source: Cao et al., "Learning to Rank: From Pairwise Approach to Listwise Approach" (ListNet), ICML 2007,
    equation 5, with the top-1 shares of the values themselves.

    Example:
        >>> features = np.array([[[1.0], [0.0]], [[0.0], [1.0]]])
        >>> queries = Queries(features, np.array([[3.0, 0.0], [0.0, 2.0]]), np.ones((2, 2), bool))
        >>> bool(ListwiseSoftmax().fit(queries)[0] > 0)
        True
    """

    def fit(self, queries: Queries) -> Array:
        queries = queries.take(queries.value_QK.sum(1) > 0)
        features_QKF = torch.from_numpy(queries.features_QKF)
        share_QK = torch.from_numpy(queries.value_QK / queries.value_QK.sum(1, keepdims=True))
        invalid_QK = torch.from_numpy(~queries.valid_QK)

        def loss(weight_F: Tensor) -> Tensor:
            # A number that is lower than any score, and not −inf, whose product with a share of 0 is none.
            scores_QK = (features_QKF @ weight_F).masked_fill(invalid_QK, torch.finfo(torch.float64).min)
            return -(share_QK * scores_QK.log_softmax(1).masked_fill(invalid_QK, 0)).sum()

        return np.append(self.minimum(loss, np.zeros(features_QKF.shape[2])), 0.0)

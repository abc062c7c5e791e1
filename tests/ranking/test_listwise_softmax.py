"""A planted order is found, and the loss is that of the definition."""

import numpy as np
import pytest
from planted import of_a_kind, planted_queries
from scipy.optimize import minimize
from scipy.special import log_softmax

from widemax.ranking import ListwiseSoftmax, Queries


def test_a_planted_order_is_put_right() -> None:
    weight = ListwiseSoftmax().fit(planted_queries())
    scores = [of_a_kind(kind) @ weight[:-1] for kind in range(3)]
    assert scores == sorted(scores)
    assert abs(weight[3]) < 0.2 * (scores[2] - scores[0])


def test_the_weights_are_the_optimum_of_the_definition() -> None:
    queries = planted_queries(num_queries=12, num_candidates=9)

    def loss(weight: np.ndarray) -> float:
        total = weight @ weight / (2 * 0.7)
        for features, value, valid in zip(
            queries.features_QKF, queries.value_QK, queries.valid_QK, strict=True
        ):
            if value.sum():
                total -= value[valid] / value.sum() @ log_softmax(features[valid] @ weight)
        return float(total)

    weight = ListwiseSoftmax(C=0.7).fit(queries)
    np.testing.assert_allclose(weight[:-1], minimize(loss, np.zeros(4), tol=1e-10).x, atol=1e-3)
    assert weight[-1] == 0


def test_what_all_candidates_share_has_no_weight() -> None:
    queries = planted_queries()
    shared = np.broadcast_to(queries.value_QK.sum(1)[:, None, None], (*queries.value_QK.shape, 1))
    features = np.concatenate([queries.features_QKF, shared / shared.max()], axis=2)
    weight = ListwiseSoftmax().fit(Queries(features, queries.value_QK, queries.valid_QK))
    assert weight[4] == pytest.approx(0, abs=1e-3)

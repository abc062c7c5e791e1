"""A planted order is found, also where the sum of pairs without their changes of nDCG would miss it."""

import numpy as np
import pytest
from planted import of_a_kind, planted_queries

from widemax.ranking import LambdaRank, Queries
from widemax.ranking.base import dcg, ranks_of


def test_a_planted_order_is_put_right() -> None:
    weight = LambdaRank().fit(planted_queries())
    scores = [of_a_kind(kind) @ weight[:-1] for kind in range(3)]
    assert scores == sorted(scores)
    assert abs(weight[3]) < 0.2 * (scores[2] - scores[0])


def test_it_never_orders_what_it_learns_from_worse_than_the_retriever() -> None:
    """Features that say nothing: the order of the retriever, which is right, stays."""
    rng = np.random.default_rng(0)
    value = np.sort(rng.random((20, 6)), axis=1)[:, ::-1].copy()
    weight = LambdaRank().fit(Queries(rng.normal(size=(20, 6, 2)), value, np.ones((20, 6), bool)))
    assert weight.tolist() == [0, 0, 0]


def test_the_first_places_count_more() -> None:
    """One feature is right about the best of a query, the other about most pairs."""
    value = np.tile(np.array([0.0, 30, 1, 2, 3, 4, 5, 6]), (40, 1))
    best, most = value == 30, np.where(value == 30, -1.0, value / 6)
    features = np.stack([best.astype(float), most], axis=2)
    queries = Queries(features, value, np.ones(value.shape, bool))
    scores = features @ LambdaRank().fit(queries)[:-1]
    assert (ranks_of(scores, queries.valid_QK)[:, 1] == 1).all()


def test_gains_are_those_of_the_definition() -> None:
    value, scores = np.array([[3.0, 0, 1, 0]]), np.array([[1.0, 5, 1, 9]])
    ranks = ranks_of(scores, np.array([[True, True, True, False]]))
    assert ranks.tolist() == [[2, 1, 3, 4]]
    assert dcg(value, ranks, k=4)[0] == pytest.approx(3 / np.log2(3) + 1 / np.log2(4))
    assert dcg(value, ranks, k=2)[0] == pytest.approx(3 / np.log2(3))

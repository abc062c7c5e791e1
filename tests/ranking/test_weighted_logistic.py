"""The odds are the expected watch time."""

import numpy as np
import pytest
import torch
from planted import CHANCE, SECONDS, of_a_kind, planted_queries

from widemax.ranking import Queries, WeightedLogistic


def test_the_odds_are_the_planted_watch_times() -> None:
    queries = planted_queries(num_queries=1500)
    weight = WeightedLogistic(C=1e3).fit(queries)
    for kind, seconds in enumerate(SECONDS):
        expected = np.exp(of_a_kind(kind) @ weight[:-1] + weight[-1])
        of_kind = queries.valid_QK & (queries.features_QKF[:, :, kind] == 1)
        assert expected == pytest.approx(queries.value_QK[of_kind].mean(), rel=0.01)
        assert expected == pytest.approx(CHANCE * seconds, rel=0.1)
    odds = np.exp(queries.features_QKF @ weight[:-1] + weight[-1])[queries.valid_QK]
    assert odds.mean() == pytest.approx(queries.value_QK[queries.valid_QK].mean(), rel=0.01)


def test_where_a_click_is_no_negative_the_odds_are_too_high() -> None:
    """What Covington et al. write, an approximation for rare clicks."""
    value = np.array([60.0, 60, 0, 0])[None]
    weight = WeightedLogistic().fit(Queries(np.zeros((1, 4, 1)), value, value >= 0))
    assert np.exp(weight[-1]) == pytest.approx(value.mean())
    assert value.sum() / (value == 0).sum() == 2 * value.mean()


def test_without_watch_times_the_odds_are_the_chance_of_a_click() -> None:
    queries = planted_queries(seed=1)
    clicked = Queries(queries.features_QKF, (queries.value_QK > 0).astype(float), queries.valid_QK)
    weight = WeightedLogistic().fit(clicked)
    assert np.exp(of_a_kind(1) @ weight[:-1] + weight[-1]) == pytest.approx(CHANCE, rel=0.1)


def test_probabilities_have_the_scores_as_logits() -> None:
    scores = torch.tensor([[-3.0, 0.0, 5.0, -torch.inf]])
    probabilities = WeightedLogistic().log_probs(scores).exp()
    torch.testing.assert_close(torch.logit(probabilities), scores)

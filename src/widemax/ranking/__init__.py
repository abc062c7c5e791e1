"""The second stage: the candidates of a run on events in a better order."""

from widemax.ranking.base import Objective, Queries, objectives
from widemax.ranking.fit import rank
from widemax.ranking.lambdarank import LambdaRank
from widemax.ranking.listwise_softmax import ListwiseSoftmax
from widemax.ranking.ranker import Ranker
from widemax.ranking.weighted_logistic import WeightedLogistic

__all__ = [
    "LambdaRank",
    "ListwiseSoftmax",
    "Objective",
    "Queries",
    "Ranker",
    "WeightedLogistic",
    "objectives",
    "rank",
]

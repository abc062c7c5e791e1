"""Accuracy and top-k accuracy."""

from abc import ABC
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from widemax.evaluation.metrics import MeanMetric, metrics
from widemax.evaluation.rows import OneLabelRows
from widemax.task import Task


class TopKAccuracy(MeanMetric, ABC):
    """Share of rows whose label is among the k best classes; an unseen label is a miss."""

    tasks = frozenset({Task.ONE})
    k: ClassVar[int]

    def values(self, rows: OneLabelRows) -> NDArray[np.bool_]:
        return (rows.ranks_B >= 1) & (rows.ranks_B <= self.k)


@metrics.register("accuracy")
class Accuracy(TopKAccuracy):
    """Share of rows whose best class is the label."""

    k = 1


@metrics.register("top5")
class Top5(TopKAccuracy):
    """Share of rows whose label is among the 5 best classes."""

    k = 5


@metrics.register("top10")
class Top10(TopKAccuracy):
    """Share of rows whose label is among the 10 best classes."""

    k = 10

"""What every metric is: chunks of rows in, one number out, in memory O(classes) and a few bytes a row."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from widemax.evaluation.rows import IntArray
from widemax.task import Task


@dataclass(frozen=True, eq=False)
class TrainingCounts:
    """How often training saw each class.

    Args:
        class_counts_C: rows of the training data that carry each class.
        num_rows: rows of the training data.
    """

    class_counts_C: IntArray
    num_rows: int

    @property
    def num_classes(self) -> int:
        """C, the number of classes the model knows."""
        return len(self.class_counts_C)


class Metric(ABC):
    """One number over many chunks of rows.

    ``tasks`` names what the metric is reported for, and ``judges`` says whether it compares predictions with
    labels, so that training may choose by it; others say what predictions are like. Its chunks are
    ``OneLabelRows`` where every row has one label, ``SeveralLabelRows`` for the other tasks.
    """

    tasks: ClassVar[frozenset[Task]]
    larger_is_better: ClassVar[bool] = True
    judges: ClassVar[bool] = True

    def __init__(self, training: TrainingCounts) -> None:
        self.training = training

    @abstractmethod
    def update(self, rows: Any) -> None:
        """Take one chunk of rows into account."""

    @abstractmethod
    def compute(self) -> float:
        """The number over all rows so far; nan when no row counts."""


class MeanMetric(Metric):
    """The mean of one value a row, over the rows that count."""

    def __init__(self, training: TrainingCounts) -> None:
        super().__init__(training)
        self._sum = 0.0
        self._num_rows = 0

    @abstractmethod
    def values(self, rows: Any) -> NDArray[Any]:
        """One value for each row that counts."""

    def update(self, rows: Any) -> None:
        values = self.values(rows)
        self._sum += float(values.sum(dtype=np.float64))
        self._num_rows += values.size

    def compute(self) -> float:
        return self._sum / self._num_rows if self._num_rows else float("nan")

"""Expected calibration error over bins of equally many rows."""

import numpy as np
from numpy.typing import NDArray

from widemax.evaluation.metrics import Metric, TrainingCounts, metrics
from widemax.evaluation.rows import FloatArray, OneLabelRows
from widemax.task import Task

NUM_BINS = 15


@metrics.register("adaptive_ece")
class AdaptiveCalibrationError(Metric):
    """``Σ_m n_m/n · |accuracy_m − confidence_m|`` over 15 bins of equally many rows, by confidence.

    Bins of equal width leave most rows of a sure model in one bin, where errors of opposite sign cancel. A
    row with b of the n rows strictly below it lies in bin ⌊15·b/n⌋: rows of equal confidence share a bin, so
    that their order does not matter. Exact over all rows, which takes 9 bytes a row; a row with an unseen
    label counts as wrong.

    Source: Nguyen and O'Connor, Posterior calibration and exploratory analysis for natural language
        processing models (EMNLP 2015).
    """

    tasks = frozenset({Task.ONE})
    larger_is_better = False

    def __init__(self, training: TrainingCounts) -> None:
        super().__init__(training)
        self._confidence: list[FloatArray] = []
        self._right: list[NDArray[np.bool_]] = []

    def update(self, rows: OneLabelRows) -> None:
        self._confidence.append(rows.confidence_B)
        self._right.append(rows.ranks_B == 1)

    def compute(self) -> float:
        confidence = np.concatenate([np.empty(0), *self._confidence])
        if confidence.size == 0:
            return float("nan")
        num_below = np.searchsorted(np.sort(confidence), confidence, side="left")
        bins = num_below * NUM_BINS // confidence.size
        gaps_M = np.bincount(bins, np.concatenate(self._right) - confidence)
        return float(np.abs(gaps_M).sum() / confidence.size)

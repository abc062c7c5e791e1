"""How rare what is recommended is."""

import numpy as np

from widemax.evaluation.metrics import MeanMetric, TrainingCounts, metrics
from widemax.evaluation.rows import FloatArray, SeveralLabelRows
from widemax.task import Task

K = 20


@metrics.register("novelty@20")
class Novelty(MeanMetric):
    """Mean of −log2 p over the first 20 predictions of each row, in bits; p is a class's share of all labels.

    Source: Zhou et al., Solving the apparent diversity-accuracy dilemma of recommender systems (PNAS 2010),
    where it is called surprisal.
    """

    tasks = frozenset({Task.NEXT})
    judges = False

    def __init__(self, training: TrainingCounts) -> None:
        super().__init__(training)
        counts_C = np.maximum(training.class_counts_C, 1)
        self._bits_C = np.log2(counts_C.sum()) - np.log2(counts_C)

    def values(self, rows: SeveralLabelRows) -> FloatArray:
        bits_B: FloatArray = self._bits_C[rows.topk_ids_BK[:, :K]].mean(axis=1)
        return bits_B

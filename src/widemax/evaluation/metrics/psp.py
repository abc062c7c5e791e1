"""Propensity-scored precision at k."""

import numpy as np

from widemax.classes import inverse_propensity
from widemax.evaluation.metrics import Metric, TrainingCounts, metrics
from widemax.evaluation.rows import SeveralLabelRows
from widemax.task import Task

for _k in (1, 5):

    @metrics.register(f"psp@{_k}")
    class _PropensityScoredPrecisionAtK(Metric):
        __doc__ = f"""Σ over hits among the first {_k} of 1/p, divided by the most that could be reached.

        The numerator and the denominator (the {_k} largest 1/p of each row's labels, unseen ones included)
        are summed over all rows before dividing, as in PECOS and napkinXC.

        Source: Jain et al., Extreme Multi-label Loss Functions (KDD 2016), section 3.
        """
        tasks = frozenset({Task.SEVERAL})
        k = _k

        def __init__(self, training: TrainingCounts) -> None:
            super().__init__(training)
            self._reached = 0.0
            self._attainable = 0.0

        def update(self, rows: SeveralLabelRows) -> None:
            seen_P = rows.label_ids_P >= 0
            counts_P = np.zeros_like(rows.label_ids_P)
            counts_P[seen_P] = self.training.class_counts_C[rows.label_ids_P[seen_P]]
            worth_P = inverse_propensity(counts_P, self.training.num_rows)
            self._reached += float(worth_P[rows.hits_P(self.k)].sum())

            by_row_then_worth_P = np.lexsort((-worth_P, rows.row_of_label_P))
            place_in_row_P = np.arange(worth_P.size) - np.repeat(rows.offsets_B1[:-1], rows.num_labels_B)
            self._attainable += float(worth_P[by_row_then_worth_P][place_in_row_P < self.k].sum())

        def compute(self) -> float:
            return self._reached / self._attainable if self._attainable else float("nan")

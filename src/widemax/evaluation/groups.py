"""Metrics of the next item by how long a user's history is and how popular the item.

Letters: see ``evaluation.rows``; G groups.
"""

from typing import Any

import numpy as np

from widemax.evaluation.metrics import TrainingCounts, metrics
from widemax.evaluation.rows import IntArray, SeveralLabelRows
from widemax.options import checked

SHOWN = "recall@20", "ndcg@10"
FEWEST_ITEMS = 0, 1, 5, 20, 100
"""Where groups of histories begin."""
POPULARITY = "most popular", "middle", "least popular"
"""Items that have a third of all labels each."""


@checked
class Groups:
    """Recall and nDCG by groups of rows and of labels, over chunks of rows.

    Args:
        class_counts_C: training rows of each class.

    Example:
        >>> groups = Groups(np.array([5, 3, 2]))
        >>> rows = SeveralLabelRows(np.array([2]), np.array([0, 1]), np.array([1]), np.array([[2, 1, 0]]))
        >>> groups.update(rows, np.array([7]))
        >>> groups.compute()["by_history"]
        [{'history': '5–19', 'labels': 1, 'recall@20': 1.0, 'ndcg@10': 1.0}]
    """

    def __init__(self, class_counts_C: IntArray) -> None:
        training = TrainingCounts(class_counts_C, int(class_counts_C.sum()))
        order_C = np.argsort(-class_counts_C, kind="stable")
        before_C = np.cumsum(class_counts_C[order_C]) - class_counts_C[order_C]
        self._third_C = np.empty(len(order_C), np.int64)
        self._third_C[order_C] = np.minimum(3 * before_C // max(1, int(class_counts_C.sum())), 2)
        ends = [*(low - 1 for low in FEWEST_ITEMS[1:]), None]
        spans = [
            str(low) if low == end else f"{low}–{end}" if end else f"{low} or more"
            for low, end in zip(FEWEST_ITEMS, ends, strict=True)
        ]
        self._groups = {
            by: [(name, [metrics[shown](training) for shown in SHOWN]) for name in names]
            for by, names in (("history", spans), ("popularity", POPULARITY))
        }
        self._num_labels = {by: np.zeros(len(groups), np.int64) for by, groups in self._groups.items()}

    @checked
    def update(self, rows: SeveralLabelRows, num_known_B: IntArray | None) -> None:
        """Take a chunk into account; without the lengths of histories, only by popularity."""
        if num_known_B is not None:
            group_B = np.searchsorted(FEWEST_ITEMS, num_known_B, side="right") - 1
            self._take("history", rows, group_B[rows.row_of_label_P])
        group_P = np.where(rows.label_ids_P >= 0, self._third_C[rows.label_ids_P], -1)
        self._take("popularity", rows, group_P)

    def _take(self, by: str, rows: SeveralLabelRows, group_P: IntArray) -> None:
        for group, (_, members) in enumerate(self._groups[by]):
            own_P = group_P == group
            self._num_labels[by][group] += own_P.sum()
            counts_B = np.bincount(rows.row_of_label_P[own_P], minlength=len(rows))
            offsets_B1 = np.append(0, np.cumsum(counts_B)).astype(np.int64)
            labels = rows.label_ids_P[own_P], offsets_B1, rows.ranks_P[own_P]
            for metric in members:
                metric.update(SeveralLabelRows(*labels, rows.topk_ids_BK))

    def compute(self) -> dict[str, list[dict[str, Any]]]:
        """``by_history`` and ``by_popularity``: a mapping for each group that has labels."""
        return {
            f"by_{by}": [
                {by: name, "labels": count}
                | {shown: metric.compute() for shown, metric in zip(SHOWN, members, strict=True)}
                for (name, members), count in zip(groups, self._num_labels[by].tolist(), strict=True)
                if count
            ]
            for by, groups in self._groups.items()
        }

"""What a model answers that knows only how often each class occurred. Letters: see ``evaluation.rows``."""

import numpy as np

from widemax.evaluation.rows import FloatArray, IntArray, OneLabelRows, SeveralLabelRows
from widemax.options import checked


@checked
class Baseline:
    """The most frequent classes first, the same ones for every row, each with its share as probability.

    Where a class has no row, as those that a table names alone, all classes share one row more.

    Args:
        class_counts_C: training rows of each class.

    Example:
        >>> rows = SeveralLabelRows(np.array([2]), np.array([0, 1]), np.array([1]), np.array([[2, 1, 0]]))
        >>> Baseline(np.array([5, 3, 1])).several(rows).ranks_P
        array([3])
    """

    def __init__(self, class_counts_C: IntArray) -> None:
        self._counts_C = class_counts_C
        self._more = 0.0 if class_counts_C.all() else 1 / len(class_counts_C)
        self._order_C = self._rank_C = None
        if (class_counts_C[:-1] < class_counts_C[1:]).any():  # those of a vocabulary are in order
            self._order_C = np.argsort(-class_counts_C, kind="stable")
            self._rank_C = np.argsort(self._order_C) + 1
        self._total = class_counts_C.sum() + (self._more > 0)
        squares_C = (class_counts_C + self._more) / self._total
        squares_C **= 2
        self._square_sum = float(squares_C.sum())

    def _ranks(self, ids: IntArray) -> IntArray:
        return ids + 1 if self._rank_C is None else self._rank_C[ids]

    def _classes(self, places: IntArray) -> IntArray:
        return places if self._order_C is None else self._order_C[places]

    def _log_probs(self, ids: IntArray) -> FloatArray:
        return np.asarray(np.log((self._counts_C[ids] + self._more) / self._total))

    def one(self, rows: OneLabelRows) -> OneLabelRows:
        """Its answers to the same rows."""
        topk_ids_K = self._classes(np.arange(rows.topk_ids_BK.shape[1]))
        shape = rows.topk_ids_BK.shape
        known_B = rows.labels_B >= 0
        return OneLabelRows(
            labels_B=rows.labels_B,
            ranks_B=np.where(known_B, self._ranks(rows.labels_B), 0),
            log_probs_B=np.where(known_B, self._log_probs(rows.labels_B), np.nan),
            topk_ids_BK=np.broadcast_to(topk_ids_K, shape),
            topk_log_probs_BK=np.broadcast_to(self._log_probs(topk_ids_K), shape),
            square_sums_B=np.full(len(rows), self._square_sum),
        )

    def several(
        self, rows: SeveralLabelRows, excluded: tuple[IntArray, IntArray] | None = None
    ) -> SeveralLabelRows:
        """Its answers to the same rows; classes that rows exclude, as (rows, class ids), are passed over."""
        C, K = len(self._counts_C), rows.topk_ids_BK.shape[1]
        excluded_rows_Q, excluded_ids_Q = excluded or (np.empty(0, np.int64), np.empty(0, np.int64))
        # Keys ascend by row, then by rank. NumPy's unique hashes, and such keys collide.
        keys_Q = np.sort(excluded_rows_Q * (C + 1) + self._ranks(excluded_ids_Q))
        keys_Q = keys_Q[np.diff(keys_Q, prepend=-1) > 0]
        start_B = np.searchsorted(keys_Q, np.arange(len(rows)) * (C + 1))
        row_P = rows.row_of_label_P
        rank_P = self._ranks(rows.label_ids_P)
        passed_P = np.searchsorted(keys_Q, row_P * (C + 1) + rank_P) - start_B[row_P]
        widest = int(np.diff(np.append(start_B, len(keys_Q))).max(initial=0))
        barred_BT = np.zeros((len(rows), min(C, K + widest)), bool)
        places_Q = self._ranks(excluded_ids_Q) - 1
        within_Q = places_Q < barred_BT.shape[1]
        barred_BT[excluded_rows_Q[within_Q], places_Q[within_Q]] = True
        places_BK = np.argsort(barred_BT, axis=1, kind="stable")[:, :K]
        return SeveralLabelRows(
            label_ids_P=rows.label_ids_P,
            offsets_B1=rows.offsets_B1,
            ranks_P=np.where(rows.ranks_P > 0, rank_P - passed_P, 0),
            topk_ids_BK=self._classes(places_BK),
        )

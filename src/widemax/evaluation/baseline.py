"""What a model answers that knows only how often each class occurred. Letters: see ``evaluation.rows``."""

import numpy as np

from widemax.evaluation.rows import FloatArray, IntArray, OneLabelRows, SeveralLabelRows


class Baseline:
    """The most frequent classes first, the same ones for every row, each with its share as probability.

    Args:
        class_counts_C: training rows of each class.

    Example:
        >>> rows = SeveralLabelRows(np.array([2]), np.array([0, 1]), np.array([1]), np.array([[2, 1, 0]]))
        >>> Baseline(np.array([5, 3, 1])).several(rows).ranks_P
        array([3])
    """

    def __init__(self, class_counts_C: IntArray) -> None:
        self._order_C = np.argsort(-class_counts_C, kind="stable")
        self._rank_C = np.argsort(self._order_C) + 1
        probs_C = class_counts_C / class_counts_C.sum()
        with np.errstate(divide="ignore"):
            self._log_prob_C: FloatArray = np.log(probs_C)
        self._square_sum = float((probs_C**2).sum())

    def one(self, rows: OneLabelRows) -> OneLabelRows:
        """Its answers to the same rows."""
        topk_ids_BK = np.broadcast_to(self._order_C[: rows.topk_ids_BK.shape[1]], rows.topk_ids_BK.shape)
        known_B = rows.labels_B >= 0
        return OneLabelRows(
            labels_B=rows.labels_B,
            ranks_B=np.where(known_B, self._rank_C[rows.labels_B], 0),
            log_probs_B=np.where(known_B, self._log_prob_C[rows.labels_B], np.nan),
            topk_ids_BK=topk_ids_BK,
            topk_log_probs_BK=self._log_prob_C[topk_ids_BK],
            square_sums_B=np.full(len(rows), self._square_sum),
        )

    def several(
        self, rows: SeveralLabelRows, excluded: tuple[IntArray, IntArray] | None = None
    ) -> SeveralLabelRows:
        """Its answers to the same rows; classes that rows exclude, as (rows, class ids), are passed over."""
        C, K = len(self._order_C), rows.topk_ids_BK.shape[1]
        excluded_rows_Q, excluded_ids_Q = excluded or (np.empty(0, np.int64), np.empty(0, np.int64))
        # Keys ascend by row, then by rank. NumPy's unique hashes, and such keys collide.
        keys_Q = np.sort(excluded_rows_Q * (C + 1) + self._rank_C[excluded_ids_Q])
        keys_Q = keys_Q[np.diff(keys_Q, prepend=-1) > 0]
        start_B = np.searchsorted(keys_Q, np.arange(len(rows)) * (C + 1))
        row_P = rows.row_of_label_P
        rank_P = self._rank_C[rows.label_ids_P]
        passed_P = np.searchsorted(keys_Q, row_P * (C + 1) + rank_P) - start_B[row_P]
        widest = int(np.diff(np.append(start_B, len(keys_Q))).max(initial=0))
        barred_BT = np.zeros((len(rows), min(C, K + widest)), bool)
        places_Q = self._rank_C[excluded_ids_Q] - 1
        within_Q = places_Q < barred_BT.shape[1]
        barred_BT[excluded_rows_Q[within_Q], places_Q[within_Q]] = True
        places_BK = np.argsort(barred_BT, axis=1, kind="stable")[:, :K]
        return SeveralLabelRows(
            label_ids_P=rows.label_ids_P,
            offsets_B1=rows.offsets_B1,
            ranks_P=np.where(rows.ranks_P > 0, rank_P - passed_P, 0),
            topk_ids_BK=self._order_C[places_BK],
        )

"""Collects what the report shows while the rows stream by; memory O(classes)."""

import heapq
from collections.abc import Callable, Mapping, Sequence
from itertools import starmap
from typing import Any

import numpy as np

from widemax.errors import UsageError
from widemax.evaluation.calibration.bins import ConfidenceBins
from widemax.evaluation.report.confusions import ConfusionCounter
from widemax.evaluation.report.findings import ClassResult, Confusion, Findings, Group, Mistake, Reliability
from widemax.evaluation.rows import IntArray, OneLabelRows, SeveralLabelRows
from widemax.task import Task

NUM_GROUPS = 8
NUM_LISTED = 20
# A class met once is either 0 % or 100 % found: it says nothing about the class.
FEWEST_LABELS = 3
FOUND_WITHIN, RIGHT_WITHIN = 10, 5
# More would be too small to be read, or slow to open.
MATRIX_CLASSES, LISTED_CLASSES = 50, 10_000


class ReportCollector:
    """Sees the rows that ``evaluate_rows`` sees, and remembers what a reader would want to look at.

    Args:
        task: "one", "several" or "next".
        class_counts: training rows of each class, [C].

    Example:
        >>> collector = ReportCollector("several", class_counts=np.array([5, 3]))
        >>> collector.update(
        ...     SeveralLabelRows(np.array([1]), np.array([0, 1]), np.array([1]), np.array([[1, 0]]))
        ... )
        >>> collector.findings(decode=lambda ids: [f"class {i}" for i in ids]).groups[0].num_found
        1
    """

    def __init__(self, task: str, *, class_counts: IntArray) -> None:
        self.task = Task(task)
        self.class_counts = class_counts
        num_classes = len(class_counts)
        self._counts_4C = np.zeros((4, num_classes), np.int64)
        self._num_labels_C, self._num_found_C, self._num_predicted_C, self._num_right_C = self._counts_4C
        self._bins = ConfidenceBins()
        self._confusions = ConfusionCounter(num_classes)
        self._mistakes: list[tuple[float, int, str, int, int]] = []
        self._num_rows = 0

    def update(self, rows: OneLabelRows | SeveralLabelRows, *, texts: Sequence[str] | None = None) -> None:
        """Take one chunk into account.

        Args:
            rows: the rows.
            texts: what to show of each row among the mistakes, [B].

        Raises:
            UsageError: not one text a row.
        """
        if texts is not None and len(texts) != len(rows):
            raise UsageError(f"texts must hold one text for each of the {len(rows)} rows; got {len(texts)}.")
        if isinstance(rows, OneLabelRows):
            self._count(rows.labels_B, found=rows.ranks_B == 1, right=rows.ranks_B == 1)
            np.add.at(self._num_predicted_C, rows.predicted_B, 1)
            self._bins.update(rows.confidence_B, rows.ranks_B == 1)
            self._take_mistakes(rows, texts)
        else:
            self._count(rows.label_ids_P, found=rows.hits_P(FOUND_WITHIN), right=rows.hits_P(RIGHT_WITHIN))
            np.add.at(self._num_predicted_C, rows.topk_ids_BK[:, :RIGHT_WITHIN].ravel(), 1)
        self._num_rows += len(rows)

    def _count(self, labels: IntArray, *, found: np.ndarray, right: np.ndarray) -> None:
        np.add.at(self._num_labels_C, labels[labels >= 0], 1)
        np.add.at(self._num_found_C, labels[found], 1)
        np.add.at(self._num_right_C, labels[right], 1)

    def _take_mistakes(self, rows: OneLabelRows, texts: Sequence[str] | None) -> None:
        # A label that training never saw cannot be got right, so it tells nothing about the model.
        wrong = np.flatnonzero(rows.ranks_B > 1)
        self._confusions.update(rows.labels_B[wrong], rows.predicted_B[wrong])
        surest = wrong[np.argsort(-rows.confidence_B[wrong], kind="stable")[:NUM_LISTED]]
        for b in surest.tolist():
            text = texts[b] if texts is not None else ""
            ids = int(rows.labels_B[b]), int(rows.predicted_B[b])
            # The negated row number prefers, among equals, the row that came first.
            heapq.heappush(self._mistakes, (float(rows.confidence_B[b]), -(self._num_rows + b), text, *ids))
            if len(self._mistakes) > NUM_LISTED:
                heapq.heappop(self._mistakes)

    def findings(
        self,
        *,
        decode: Callable[[IntArray], Sequence[Any]],
        tell: Callable[[list[int]], Mapping[int, tuple[str, str]]] = lambda rows: {},
    ) -> Findings:
        """What was found, with labels in words.

        Args:
            decode: class ids [N] → their N labels, of any type.
            tell: the numbers of some rows, in the order they came → where each stands, and its text.
        """
        pairs = self._confusions.most_common(NUM_LISTED)
        mistakes = sorted(self._mistakes, reverse=True)
        worst, listed = self._worst_ids(), self._listed_ids()
        num_classes = len(self.class_counts)
        few = range(num_classes if self.task.one_label and num_classes <= MATRIX_CLASSES else 0)
        shown = {
            *worst,
            *listed,
            *few,
            *(c for pair in pairs for c in pair[:2]),
            *(c for entry in mistakes for c in entry[3:]),
        }
        ids = np.array(sorted(shown), np.int64)
        name = dict(zip(ids.tolist(), map(str, decode(ids)), strict=True))
        told = tell([-row for _, row, *_ in mistakes])

        def result(c: int) -> ClassResult:
            labels, found, predicted, right = self._counts_4C[:, c].tolist()
            return ClassResult(name[c], int(self.class_counts[c]), labels, found, predicted, right)

        def mistake(confidence: float, row: int, text: str, label: int, other: int) -> Mistake:
            place, shown_text = told.get(-row, (-row, text))
            return Mistake(place, shown_text, name[label], name[other], confidence)

        return Findings(
            task=self.task,
            groups=self._groups(),
            worst_classes=tuple(map(result, worst)),
            classes=tuple(map(result, listed)),
            reliability=self._reliability() if self.task.one_label else (),
            confusions=tuple(Confusion(name[label], name[other], count) for label, other, count in pairs),
            confusions_are_lower_bounds=self._confusions.is_pruned,
            mistakes=tuple(starmap(mistake, mistakes)),
            names=tuple(name[c] for c in few),
            matrix=self._matrix(len(few)),
        )

    def _listed_ids(self) -> list[int]:
        """Classes met, the lowest F1 first; among equals those with more labels, then the lower id."""
        labels_C, predicted_C = self._num_labels_C, self._num_predicted_C
        met = np.flatnonzero(labels_C + predicted_C)
        f1 = self._num_right_C[met] / (labels_C[met] + predicted_C[met])
        return [int(c) for c in met[np.lexsort((met, -labels_C[met], f1))[:LISTED_CLASSES]]]

    def _matrix(self, num_classes: int) -> tuple[tuple[int, ...], ...]:
        """Rows by label and prediction, for all of the classes or none."""
        matrix_CC = np.diag(self._num_right_C[:num_classes])
        for label, other, count in self._confusions.most_common(num_classes**2):
            matrix_CC[label, other] = count
        return tuple(map(tuple, matrix_CC.tolist()))

    def _groups(self) -> tuple[Group, ...]:
        """Classes by training count: at most 8 groups, equally wide in log(count + 1)."""
        low, high = int(self.class_counts.min()), int(self.class_counts.max())
        edges = np.unique(np.geomspace(low + 1, high + 2, NUM_GROUPS + 1).round().astype(np.int64)) - 1
        group_C = np.searchsorted(edges, self.class_counts, side="right") - 1

        def total(values_C: IntArray) -> list[int]:
            return [int(values) for values in np.bincount(group_C, values_C, minlength=edges.size - 1)]

        num_classes = np.bincount(group_C, minlength=edges.size - 1).tolist()
        columns = (edges[:-1].tolist(), (edges[1:] - 1).tolist(), num_classes, *map(total, self._counts_4C))
        fields = zip(*columns, strict=True)
        return tuple(Group(*values) for values in fields if values[2])

    def _worst_ids(self) -> list[int]:
        """Classes with the lowest share found; among equals those with more labels, then the lower id."""
        met = np.flatnonzero(self._num_labels_C >= FEWEST_LABELS)
        num_labels = self._num_labels_C[met]
        share_found = self._num_found_C[met] / num_labels
        order = np.lexsort((met, -num_labels, share_found))[:NUM_LISTED]
        return [int(c) for c in met[order[share_found[order] < 1]]]

    def _reliability(self) -> tuple[Reliability, ...]:
        bins = self._bins
        columns = (bins.num_rows_M, bins.num_right_M, bins.confidence_sum_M)
        rows = zip(*(column_M.tolist() for column_M in columns), strict=True)
        return tuple(
            Reliability(m / bins.num_bins, (m + 1) / bins.num_bins, n, confidence / n, right / n)
            for m, (n, right, confidence) in enumerate(rows)
            if n
        )

"""What a run answers about rows whose labels are known, kept while the page looks at it from several sides.

Shapes: B rows, P labels, C classes.
"""

# ruff: noqa: N802 - a property that gives an array ends in its shape, as every array does

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np

from widemax.data import Dataset, Reading, resolve
from widemax.errors import DataError, UsageError
from widemax.evaluation import Measures, OneLabelRows
from widemax.evaluation.report import ReportCollector, by_frequency
from widemax.serving.models import Served
from widemax.serving.studio.library import Runs, chosen
from widemax.training.evaluate import answered_rows, dataset_rows, rows_told
from widemax.training.feed import EncodedRows

MAX_ROWS, MAX_LOGITS = 200_000, 4 * 10**9
"""Rows that are looked at, and logits, which take some ten seconds; where there are more, the first rows."""
MOST_KEPT = 4
BINS = 200


@dataclass(frozen=True, eq=False)
class Evaluated:
    """The answers of a run about the rows of some data.

    Attributes:
        label_ids_P, offsets_B1: the labels of all rows, −1 where training never saw one, and where each row's
            begin.
        predicted_B, confidence_B: the best class and its probability.
        metrics: as of ``evaluate``.
        by_frequency: the figures of the report about rare and common classes.
        is_whole: whether all rows were looked at.
    """

    served: Served
    dataset: Dataset
    label_ids_P: np.ndarray
    offsets_B1: np.ndarray
    predicted_B: np.ndarray
    confidence_B: np.ndarray
    metrics: dict[str, float]
    by_frequency: str
    is_whole: bool

    @cached_property
    def right_B(self) -> np.ndarray:
        """Whether the best class is a label of its row."""
        row_P = np.repeat(np.arange(len(self)), np.diff(self.offsets_B1))
        right_B = np.zeros(len(self), bool)
        right_B[row_P[self.label_ids_P == self.predicted_B[row_P]]] = True
        return right_B

    @cached_property
    def first_label_B(self) -> np.ndarray:
        """The first label of each row; −1 where it has none."""
        padded_P = np.append(self.label_ids_P, -1)
        return np.where(np.diff(self.offsets_B1) > 0, padded_P[self.offsets_B1[:-1]], -1)

    def __len__(self) -> int:
        return len(self.predicted_B)

    def bins(self) -> list[list[float]]:
        """Of each bin of confidence that has rows: its place, how many, how many right, sum of confidence."""
        places_B = np.minimum((self.confidence_B * BINS).astype(np.int64), BINS - 1)
        columns = (
            np.bincount(places_B, weights, BINS)
            for weights in (np.ones(len(self)), self.right_B.astype(float), self.confidence_B)
        )
        table_M4 = np.stack([np.arange(BINS), *columns], axis=1)
        kept: list[list[float]] = table_M4[table_M4[:, 1] > 0].tolist()
        return kept

    def confusions(self, most: int) -> list[dict[str, Any]]:
        """The pairs of label and prediction that wrong rows have most often."""
        wrong = np.flatnonzero(~self.right_B & (self.first_label_B >= 0))
        pairs_B2 = np.stack([self.first_label_B[wrong], self.predicted_B[wrong]], axis=1)
        if not len(wrong):
            return []
        pairs_N2, counts_N = np.unique(pairs_B2, axis=0, return_counts=True)
        order = np.argsort(-counts_N, kind="stable")[:most]
        names = self.names(pairs_N2[order].ravel())
        return [
            {
                "label": names[2 * at],
                "predicted": names[2 * at + 1],
                "label_id": int(pairs_N2[pair, 0]),
                "predicted_id": int(pairs_N2[pair, 1]),
                "rows": int(counts_N[pair]),
            }
            for at, pair in enumerate(order.tolist())
        ]

    def names(self, class_ids: np.ndarray) -> list[str | None]:
        """Labels in words; None for −1."""
        named = iter(self.served.model.vocabulary.decode(class_ids[class_ids >= 0]))
        return [str(next(named)) if class_id >= 0 else None for class_id in class_ids.tolist()]

    def told(self, rows: list[int]) -> Iterator[dict[str, Any]]:
        """What the page lists of some rows, in their order."""
        places = rows_told(self.dataset, rows)
        for row in rows:
            place, text = places.get(row, (str(row), ""))
            labels = self.label_ids_P[self.offsets_B1[row] : self.offsets_B1[row + 1]]
            (predicted,) = self.names(self.predicted_B[row : row + 1])
            yield {
                "row": row,
                "place": str(place),
                "text": text,
                "labels": self.names(labels),
                "predicted": predicted,
                "confidence": float(self.confidence_B[row]),
            }


_kept: "OrderedDict[tuple[str, str], Evaluated]" = OrderedDict()
_evaluating = Lock()


def evaluated(library: Runs, name: str, data: str) -> Evaluated:
    """A run's answers about some data, computed where they are not kept.

    Raises:
        UnknownNameError: there is no such run or data.
        DataError: the data lack columns of the run, or rows.
    """
    served = library.served(name)
    sources = resolve(chosen(data, library.data_of(name), "data"))
    key = served.sha256, data
    with _evaluating:
        if key not in _kept:
            _kept[key] = _evaluate(served, sources)
            while len(_kept) > MOST_KEPT:
                _kept.popitem(last=False)
        _kept.move_to_end(key)
        return _kept[key]


def _evaluate(served: Served, sources: list[Any]) -> Evaluated:
    model = served.model
    if model.histories is not None:
        raise UsageError(
            f"{served.name} was trained on events, whose rows are made of histories. Look at them by "
            "`widemax evaluate` and `widemax recommend`."
        )
    dataset = Dataset(sources, model.schema, format=Reading.of(model.config.data), drop_bad=True)
    most_rows, counts = min(MAX_ROWS, MAX_LOGITS // model.head.num_classes), model.vocabulary.counts
    measures = Measures(model.task, class_counts=counts, num_rows_train=model.num_train_rows)
    collector = ReportCollector(model.task, class_counts=counts)
    labels, lengths, predicted, confidence = [], [], [], []
    num_rows, is_whole = 0, True

    def first() -> Iterator[EncodedRows]:
        nonlocal is_whole
        for rows in dataset_rows(model, dataset):
            if num_rows >= most_rows:
                is_whole = False
                return
            yield rows

    for rows in answered_rows(model, first()):
        measures.update(rows)
        collector.update(rows)
        num_rows += len(rows)
        if isinstance(rows, OneLabelRows):
            labels.append(rows.labels_B)
            lengths.append(np.ones(len(rows), np.int64))
            log_probs_BK = rows.topk_log_probs_BK
        else:
            assert rows.topk_log_probs_BK is not None
            labels.append(rows.label_ids_P)
            lengths.append(rows.num_labels_B)
            log_probs_BK = rows.topk_log_probs_BK
        predicted.append(rows.topk_ids_BK[:, 0])
        confidence.append(np.exp(log_probs_BK[:, 0].astype(np.float64)))
    if not num_rows:
        raise DataError(f"{', '.join(map(str, sources))} has no row that {served.name} can read.")
    return Evaluated(
        served,
        dataset,
        np.concatenate(labels),
        np.concatenate([[0], np.cumsum(np.concatenate(lengths))]),
        np.concatenate(predicted),
        np.concatenate(confidence),
        {name: value for name, value in measures.compute().items() if value == value},
        by_frequency(collector.findings(decode=model.vocabulary.decode)),
        is_whole,
    )

"""All metrics of a task in one pass over the rows."""

from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from widemax.errors import LabelError, ShapeError, UsageError
from widemax.evaluation.metrics import TrainingCounts, metrics
from widemax.evaluation.rows import IntArray, OneLabelRows, SeveralLabelRows
from widemax.options import checked
from widemax.task import Task


@checked
def evaluate_rows(
    task: str,
    chunks: Iterable[OneLabelRows] | Iterable[SeveralLabelRows],
    *,
    class_counts: IntArray,
    num_rows_train: Annotated[int, Field(ge=0)],
) -> dict[str, float]:
    """Every registered metric of a task over a stream of rows, in memory O(classes) and a few bytes a row.

    Args:
        task: "one", "several" or "next".
        chunks: the rows, in chunks of any sizes; ``OneLabelRows`` for "one", else ``SeveralLabelRows``.
        class_counts: training rows of each class, [C].
        num_rows_train: rows of the training data.

    Returns:
        Metric name → value; nan where no row counts.

    Raises:
        UsageError: an unknown task, or rows of the other kind.
        ShapeError: class counts that are no list.
        LabelError: a class id without a count.

    Example:
        >>> import numpy as np
        >>> rows = SeveralLabelRows(np.array([1]), np.array([0, 1]), np.array([1]), np.array([[1, 0]]))
        >>> evaluate_rows("several", [rows], class_counts=np.array([5, 3]), num_rows_train=8)["p@1"]
        1.0
    """
    measures = Measures(task, class_counts=class_counts, num_rows_train=num_rows_train)
    for rows in chunks:
        measures.update(rows)
    return measures.compute()


@checked
class Measures:
    """The same for chunks that come one by one: what ``evaluate_rows`` is told, and the metrics so far."""

    def __init__(
        self, task: str, *, class_counts: IntArray, num_rows_train: Annotated[int, Field(ge=0)]
    ) -> None:
        self.task = Task(task)
        if class_counts.ndim != 1:
            raise ShapeError(f"class_counts must be [C], one count a class; got shape {class_counts.shape}.")
        self._training = TrainingCounts(class_counts, num_rows_train)
        names = [name for name in metrics if self.task in metrics[name].tasks]
        self._members = {name: metrics[name](self._training) for name in names}

    @checked
    def update(self, rows: OneLabelRows | SeveralLabelRows) -> None:
        """Take one chunk into account.

        Raises:
            UsageError: rows of the other kind.
            LabelError: a class id without a count.
        """
        kind = OneLabelRows if self.task.one_label else SeveralLabelRows
        if not isinstance(rows, kind):
            raise UsageError(
                f"chunks of task {self.task.value!r} must be {kind.__name__}; got {type(rows).__name__}."
            )
        if rows.largest_id >= self._training.num_classes:
            raise LabelError(
                f"class_counts must have a count for each class; got {self._training.num_classes} counts and "
                f"class id {rows.largest_id}."
            )
        for metric in self._members.values():
            metric.update(rows)

    def compute(self) -> dict[str, float]:
        """Metric name → value; nan where no row counts."""
        return {name: metric.compute() for name, metric in self._members.items()}

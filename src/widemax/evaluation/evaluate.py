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
    task = Task(task)
    if class_counts.ndim != 1:
        raise ShapeError(f"class_counts must be [C], one count a class; got shape {class_counts.shape}.")
    kind = OneLabelRows if task.one_label else SeveralLabelRows
    training = TrainingCounts(class_counts, num_rows_train)
    members = {name: metrics[name](training) for name in metrics if task in metrics[name].tasks}
    for rows in chunks:
        if not isinstance(rows, kind):
            raise UsageError(
                f"chunks of task {task.value!r} must be {kind.__name__}; got {type(rows).__name__}."
            )
        if rows.largest_id >= len(class_counts):
            raise LabelError(
                f"class_counts must have a count for each class; got {len(class_counts)} counts and class id "
                f"{rows.largest_id}."
            )
        for metric in members.values():
            metric.update(rows)
    return {name: metric.compute() for name, metric in members.items()}

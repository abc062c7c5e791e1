"""A model as a function of batches, as systems that spread rows over machines call it."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from widemax.artifact import Model
from widemax.errors import ArgumentError, UsageError, shown
from widemax.options import AtLeast1, checked


class Predictor:
    """Loads a run once, then answers batches: columns in, the same columns and the answers out.

    With ``k = 1`` the columns ``predicted_label`` and ``predicted_probability`` are added; otherwise
    ``predicted_labels`` and ``predicted_probabilities``, with a list a row, best first. A batch is answered
    in its own kind, so that the same object serves Ray Data (``map_batches``) and Spark (``mapInPandas``).

    Args:
        run: the folder of a run, which every worker can read.
        k: how many labels of each row.
        threshold: as in :meth:`widemax.Model.predict`.
        rank: likewise.
        device: what computes the answers: "auto", "cpu" or "cuda".

    Raises:
        ConfigError: there is no such device on the worker.
        UsageError: no such run, or a threshold that it does not have.

    Example:
        >>> answer = Predictor("run")  # doctest: +SKIP
        >>> answer({"text": np.array(["black ink"])})["predicted_label"]  # doctest: +SKIP
        array(['write'], dtype=object)
    """

    @partial(checked, of="Predictor")
    def __init__(
        self,
        run: Path | str,
        *,
        k: AtLeast1 = 1,
        threshold: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] | None = None,
        rank: Literal["probability", "psp"] = "probability",
        device: Literal["auto", "cpu", "cuda"] = "auto",
    ) -> None:
        self.model = Model.load(run).to(device)
        self.options: dict[str, Any] = {"k": k, "threshold": threshold, "rank": rank}
        self.model.limits(k, threshold)

    def __call__(self, batch: Any) -> Any:
        """The batch with its answers.

        Args:
            batch: a mapping of column names to arrays, a frame of pandas, or a pyarrow table.

        Raises:
            ArgumentError: it is something else, or its columns are not equally long.
            DataError: an input column is missing, or holds a value of the wrong kind.
            UsageError: it has a column of the name of an answer already.
        """
        table = _as_table(batch)
        rows = self.model.predict(table, **self.options) if len(table) else []
        answers: list[list[Any]] = [
            [[answer.label for answer in row] for row in rows],
            [[answer.probability for answer in row] for row in rows],
        ]
        names = "predicted_labels", "predicted_probabilities"
        if self.options["k"] == 1:
            names = "predicted_label", "predicted_probability"
            answers = [[row[0] if row else None for row in column] for column in answers]
        if taken := sorted(set(names) & set(table.column_names)):
            raise UsageError(f"the batch has columns {taken} already; rename them, as answers are named so.")
        return _with_columns(batch, dict(zip(names, answers, strict=True)))


def _as_table(batch: Any) -> pa.Table:
    """A batch as Arrow sees it."""
    if not isinstance(batch, Mapping):
        if hasattr(batch, "__arrow_c_stream__"):
            return pa.table(batch)
        raise ArgumentError(
            f"a batch must be a mapping of columns, a frame of pandas or a pyarrow table; got {shown(batch)}."
        )
    try:
        columns = {name: pa.array(_one_a_row(values)) for name, values in batch.items()}
        return pa.table(columns)
    except (pa.ArrowInvalid, TypeError) as error:
        raise ArgumentError(
            f"a batch must hold equally long columns of plain values; {error}. Look at "
            f"{ {name: shown(values) for name, values in batch.items()} }."
        ) from None


def _one_a_row(values: Any) -> Any:
    """A column whose rows are vectors as a list of them."""
    return list(values) if isinstance(values, np.ndarray) and values.ndim > 1 else values


def _with_columns(batch: Any, columns: Mapping[str, list[Any]]) -> Any:
    """A batch and further columns, in its kind."""
    if isinstance(batch, Mapping):
        return {**batch, **{name: _as_array(values) for name, values in columns.items()}}
    if isinstance(batch, pa.Table):
        for name, values in columns.items():
            batch = batch.append_column(name, pa.array(values))
        return batch
    return batch.assign(**columns)


def _as_array(values: list[Any]) -> Any:
    """Numbers as numbers, all else as objects."""
    if values and all(isinstance(value, int | float) for value in values):
        return np.array(values)
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array

"""``/v1/predict``: the k best labels of some rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from widemax.artifact import Model, Prediction
from widemax.data import good_rows, records_of
from widemax.errors import DataError, UsageError
from widemax.options import Options

MAX_ROWS = 1024
MAX_K = 1000


@dataclass(frozen=True)
class Question:
    """What a request asks about some rows.

    Attributes:
        rows: column name → value.
        k: how many labels.
        least: the least probability of labels that are given.
    """

    rows: Sequence[Mapping[str, Any]]
    k: int
    least: float


def question(
    model: Model,
    *,
    inputs: Any,
    k: Annotated[int, Field(ge=1, le=MAX_K)] | None = None,
    threshold: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] | None = None,
) -> Question:
    """What a body asks.

    Raises:
        UsageError: about something that is no row, or about too many.
    """
    rows = records_of(model.schema, inputs)
    if not 1 <= len(rows) <= MAX_ROWS:
        raise UsageError(f"inputs must hold 1 to {MAX_ROWS:,} rows; got {len(rows):,}.")
    return Question(rows, *model.limits(k, threshold))


BODY = Options(question, of="the body")
"""Its keywords are the keys of a body."""


def predict(model: Model, questions: Sequence[Question]) -> list[list[list[Prediction]] | Exception]:
    """The answers to some questions, computed together."""
    records = [row for question in questions for row in question.rows]
    columns, reasons = good_rows(model.schema, records)
    answers: Iterator[list[Prediction]] = iter(())
    if len(reasons) < len(records):
        topk = model.topk(columns, max(question.k for question in questions))
        answers = iter(model.decode(topk))
    results: list[list[list[Prediction]] | Exception] = []
    first = 0
    for question in questions:
        its_rows = range(first, first + len(question.rows))
        its_answers = [next(answers) for row in its_rows if row not in reasons]
        bad = next((row for row in its_rows if row in reasons), None)
        if bad is not None:
            results.append(DataError(f"row {bad - first}: {reasons[bad]}."))
        else:
            results.append(
                [
                    [label for label in row[: question.k] if label.probability >= question.least]
                    for row in its_answers
                ]
            )
        first = its_rows.stop
    return results

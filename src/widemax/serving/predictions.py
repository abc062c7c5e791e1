"""``/v1/predict``: the k best labels of some rows."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Annotated, Any, Literal, NamedTuple

import pyarrow as pa
from pydantic import Field

from widemax.artifact import Model
from widemax.data import good_rows
from widemax.data.convert import Reasons
from widemax.errors import DataError, UsageError
from widemax.options import Options
from widemax.serving.bodies import whole
from widemax.serving.rows import rows_of

MAX_ROWS = 1024
MAX_K = 1000


class Ranked(NamedTuple):
    """One ranked answer, as of :class:`widemax.artifact.Prediction`, and its class id."""

    label: Any
    class_id: int
    probability: float
    logit: float


@dataclass(frozen=True)
class Question:
    """What a request asks about some rows: the k best labels, of those of the least probability or more."""

    rows: Sequence[Mapping[str, Any]]
    k: int
    least: float

    def listing(self, k: int) -> "Question":
        """The same with k labels at least, whatever their probability."""
        return replace(self, k=max(k, self.k), least=0.0)


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
    rows = rows_of(model.schema, inputs)
    if not 1 <= len(rows) <= MAX_ROWS:
        raise UsageError(f"inputs must hold 1 to {MAX_ROWS:,} rows; got {len(rows):,}.")
    return Question(rows, *model.limits(k, threshold))


BODY = Options(question, of="the body")
"""Its keywords are the keys of a body."""


def read(model: Model, body: Mapping[str, Any]) -> Question:
    """What a body asks that is a JSON object.

    Raises:
        UsageError: an unknown key, a value out of range, or as of :func:`question`.
    """
    return question(model, **BODY.complete(whole(body)))


def predict(model: Model, questions: Sequence[Question]) -> list[list[list[Ranked]] | Exception]:
    """The answers to some questions, computed together; an error for a question that has a bad row."""
    columns, reasons = together(model, questions)
    answers: Iterator[list[Ranked]] = iter(())
    if len(reasons) < sum(len(question.rows) for question in questions):
        answers = ranked(model, columns, max(question.k for question in questions))
    results: list[list[list[Ranked]] | Exception] = []
    first = 0
    for question in questions:
        its_rows = range(first, first + len(question.rows))
        its_answers = [next(answers) for row in its_rows if row not in reasons]
        bad = next((row for row in its_rows if row in reasons), None)
        if bad is None:
            results.append(
                [[r for r in row[: question.k] if r.probability >= question.least] for row in its_answers]
            )
        else:
            results.append(DataError(f"row {bad - first}: {reasons[bad]}."))
        first = its_rows.stop
    return results


def ranked(model: Model, columns: Mapping[str, Any], k: int) -> Iterator[list[Ranked]]:
    """The k best classes of each row, without those that may not be answered."""
    topk = model.topk(columns, k)
    parts = topk.class_ids.tolist(), topk.log_probs.tolist(), topk.logits.tolist()
    labels = iter(model.vocabulary.decode(topk.class_ids.numpy()))
    for row in zip(*parts, strict=True):
        named = [Ranked(next(labels), i, math.exp(p), logit) for i, p, logit in zip(*row, strict=True)]
        yield [each for each in named if each.logit > -math.inf]


def together(model: Model, questions: Sequence[Question]) -> tuple[dict[str, Any], Reasons]:
    """The columns of the good rows of some questions, one after another, and row → reason.

    Values are converted beside those of other questions only where all are of the same types, so that no
    question changes what another's values become.
    """
    names = [column.name for column in model.schema.inputs]
    parts: list[list[Mapping[str, Any]]] = []
    before: object = None
    for question in questions:
        kinds = {type(row.get(name)) for row in question.rows for name in names}
        alike = [[type(row.get(name)) for row in question.rows[:1]] for name in names]
        alone = len(question.rows) > 1 or bool(kinds & {list, dict})
        if parts and not alone and alike == before:
            parts[-1].extend(question.rows)
        else:
            parts.append(list(question.rows))
        before = None if alone else alike
    converted = [good_rows(model.schema, part) for part in parts]
    starts = accumulate(map(len, parts), initial=0)
    reasons = {
        start + row: reason
        for start, (_, wrong) in zip(starts, converted, strict=False)
        for row, reason in wrong.items()
    }
    if len(converted) == 1:
        return converted[0][0], reasons
    return {name: pa.concat_arrays([columns[name] for columns, _ in converted]) for name in names}, reasons

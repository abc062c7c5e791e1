"""``widemax predict``: the top k labels of each row, in order, as JSON lines or TSV."""

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from widemax.cli.options import Data, DropBad, Json, Run, print_json
from widemax.errors import BadRowError, UsageError

if TYPE_CHECKING:
    from widemax.artifact import Model, Prediction

ROWS_AT_ONCE = 512


def command(
    run: Run,
    data: Data,
    k: Annotated[int, typer.Option("-k", min=1, help="How many labels a row.")] = 5,
    format: Annotated[Literal["jsonl", "tsv"], typer.Option(help="Of the output.")] = "jsonl",  # noqa: A002
    drop_bad: DropBad = False,
    json_: Json = False,
) -> None:
    """Predict rows of DATA, or of stdin with -: JSON lines, or plain text for a model of one text column."""
    from widemax.artifact import Model

    model = Model.load(run)
    chunks = (
        stdin_predictions(model, k) if data == ["-"] else file_predictions(model, data, k, drop_bad=drop_bad)
    )
    lines = (
        line_of(row, predictions)
        for row, predictions in enumerate(predictions for chunk in chunks for predictions in chunk)
    )
    if json_:
        print_json({"rows": list(lines)})
        return
    for line in lines:
        if format == "jsonl":
            print_json(line)
        else:
            for prediction in line["predictions"]:
                cells = (line["row"], prediction["label"], prediction["probability"], prediction["logit"])
                typer.echo("\t".join(map(str, cells)))


def line_of(row: int, predictions: list["Prediction"]) -> dict[str, Any]:
    """One output line of the contract."""
    return {
        "row": row,
        "predictions": [
            {"label": p.label, "probability": p.probability, "logit": p.logit} for p in predictions
        ],
        "search": "exact",
        "normalizer": "exact",
    }


def file_predictions(
    model: "Model", data: list[str], k: int, *, drop_bad: bool
) -> Iterator[list[list["Prediction"]]]:
    """Predictions of data files, a batch at a time."""
    from dataclasses import replace

    from widemax.data import Dataset, resolve

    schema = replace(model.schema, target=None)
    dataset = Dataset(resolve(data), schema, format=model.config.data.format, drop_bad=drop_bad)
    for batch in dataset.batches(ROWS_AT_ONCE):
        yield model.decode(model.topk(batch.columns, k))


def stdin_predictions(model: "Model", k: int) -> Iterator[list[list["Prediction"]]]:
    """Predictions of lines on stdin; on a terminal or a pipe each line is answered as it arrives."""
    lines = enumerate(sys.stdin, start=1)
    size = 1 if sys.stdin.isatty() else ROWS_AT_ONCE
    while chunk := list(islice(lines, size)):
        yield model.predict(list(parse_rows(model, chunk)), k=k)


def parse_rows(model: "Model", lines: Iterable[tuple[int, str]]) -> Iterator[dict[str, Any]]:
    """JSON objects, or bare text where the model's one input is text."""
    columns = model.schema.inputs
    for number, line in lines:
        text = line.rstrip("\r\n")
        if text.lstrip().startswith("{"):
            try:
                row = json.loads(text)
            except ValueError as error:
                raise BadRowError(f"stdin:{number}: not a JSON object: {error}.") from None
            missing = [column.name for column in columns if column.name not in row]
            if missing:
                raise BadRowError(f"stdin:{number}: the input column {missing[0]!r} is missing.")
            yield row
        elif len(columns) == 1 and columns[0].kind == "text":
            yield {columns[0].name: text}
        else:
            names = ", ".join(column.name for column in columns)
            raise UsageError(f"stdin:{number}: give one JSON object a line with the columns {names}.")

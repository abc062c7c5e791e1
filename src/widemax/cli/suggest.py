"""``widemax suggest``: the labels that each document deserves, such as its subjects."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from widemax.cli.options import Delimiter, Device, DropBad, Encoding, Json, Run, TrustedKey
from widemax.cli.predict import (
    Answers,
    Calibration,
    Coverage,
    Decoded,
    Form,
    Rank,
    Safe,
    decoded_by,
    file_answers,
    kept,
    limits,
    print_answers,
    tell_bad,
)
from widemax.errors import UsageError

if TYPE_CHECKING:
    from widemax.artifact import Model

DOCUMENT = "document"
"""What the answers call the file that a document stands in."""
STDIN = "-"


def command(
    run: Run,
    documents: Annotated[
        list[str] | None,
        typer.Argument(
            help="Text files (.txt), each one document, or data whose rows are documents. Default: -, one "
            "document on stdin."
        ),
    ] = None,
    k: Annotated[
        int | None,
        typer.Option(
            "-k", "--limit", min=1, help="The most labels of a document. Default: 20, or 100 with --coverage."
        ),
    ] = None,
    threshold: Annotated[
        str,
        typer.Option(
            help="The least probability of a label: a number, or auto for the one whose labels had the best "
            "F1 on held-out rows."
        ),
    ] = "auto",
    coverage: Coverage = None,
    calibration: Calibration = None,
    rank: Rank = "probability",
    format: Form = None,  # noqa: A002 - the name users type
    drop_bad: DropBad = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    safe: Safe = True,
    device: Device = None,
    trusted_key: TrustedKey = None,
    json: Json = False,
) -> None:
    """Suggest labels for documents, such as subjects: those that are probable enough, maybe none.

    A text file is one document, as is all of stdin. Rows of CSV, Parquet and the like are one each.
    """
    from widemax.artifact import Model
    from widemax.data import Reading

    if coverage is not None and threshold != "auto":
        raise UsageError("--coverage fits the threshold; leave --threshold out.")
    model = Model.load(run, trusted_key=trusted_key).to(device or "auto")
    reading: dict[str, Any] = {"drop_bad": drop_bad, "delimiter": delimiter, "encoding": encoding}
    k, least = limits(model, k, threshold, coverage, calibration, **reading)
    decoded = decoded_by(model, k, least, rank)
    documents = documents or [STDIN]
    if all(name == STDIN or name.endswith(".txt") for name in documents):
        names = [DOCUMENT]
        rows = document_answers(model, documents, decoded, encoding)
    else:
        names = [column.name for column in model.schema.inputs if column.kind != "image"]
        read = Reading.of(model.config.data, delimiter=delimiter, encoding=encoding)
        rows = file_answers(model, documents, decoded, read, stop=not drop_bad)
    bad: list[int] = []
    rows = kept(rows, bad, drop_bad=drop_bad)
    print_answers(names, rows, format, json=json, safe=safe, told=(DOCUMENT,), least=0)
    tell_bad(bad, drop_bad=drop_bad)


def document_answers(model: "Model", names: list[str], decoded: Decoded, encoding: str | None) -> Answers:
    """The labels of each text file, which is one document."""
    columns = model.schema.inputs
    if [column.kind for column in columns] != ["text"]:
        shown = ", ".join(column.name for column in columns)
        raise UsageError(f"the run reads the columns {shown}, not one text; give data that have them.")
    from widemax.data import columns_of
    from widemax.data.formats.text import as_utf8, files_of, known_encoding, open_text, undecodable

    own = known_encoding(encoding)
    files_of([name for name in names if name != STDIN], wanted="a text file, or data")
    for row, name in enumerate(names):
        if name == STDIN:
            text = as_utf8(sys.stdin.buffer, own).read()
        else:
            with open_text(Path(name), own) as file:
                text = file.read()
        if reason := undecodable(text):
            yield row, f"{name}: {reason}", {DOCUMENT: name}.copy
        else:
            (answer,) = decoded(columns_of(model.schema, [{columns[0].name: text.decode()}]))
            yield row, answer, {DOCUMENT: name}.copy

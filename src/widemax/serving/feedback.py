"""Right labels from users, kept as rows that ``widemax train`` reads."""

import json
import os
from collections.abc import Sequence
from operator import methodcaller
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

from pydantic import Field

from widemax.data import array_of, convert_labels, good_rows
from widemax.errors import DataError, ResourceError, UsageError
from widemax.options import Options
from widemax.serving.models import Served
from widemax.serving.predictions import MAX_ROWS
from widemax.serving.rows import rows_of

MAX_BYTES = 1 << 30


def feedback(served: Served, *, inputs: Any, labels: Annotated[list[Any], Field(min_length=1)]) -> list[str]:
    """The lines of rows with their right labels, as a file of training rows has them.

    Raises:
        UsageError: there is not a label for each row.
        DataError: a row or a label cannot be read.
    """
    schema = served.model.schema
    rows = rows_of(schema, inputs)
    if not 1 <= len(rows) <= MAX_ROWS or len(labels) != len(rows):
        raise UsageError(
            f"inputs must hold 1 to {MAX_ROWS:,} rows, and labels one for each; got {len(rows):,} and "
            f"{len(labels):,}."
        )
    wrong = good_rows(schema, rows)[1]
    if schema.several:
        labels = [label if isinstance(label, list) else [label] for label in labels]
    typed, unlabeled = convert_labels(array_of(labels), type_name=schema.target_type, several=schema.several)
    for number, label in enumerate(typed.to_pylist()):
        if label is None:
            wrong.setdefault(
                number, f"the label must be of type {schema.target_type}, got {labels[number]!r}"
            )
    for number, reason in sorted((wrong | unlabeled).items()):
        raise DataError(f"row {number}: {reason}.")
    names = [column.name for column in schema.inputs]
    return [
        json.dumps(
            {**{name: row[name] for name in names}, schema.target: label},
            ensure_ascii=False,
            default=methodcaller("isoformat"),
        )
        for row, label in zip(rows, typed.to_pylist(), strict=True)
    ]


BODY = Options(feedback, of="the body")
"""Its keywords are the keys of a body."""


class FeedbackFiles:
    """A file of JSON Lines a model, which only grows, up to 1 GiB.

    Args:
        folder: where the files are; None where there is none, and nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._writing = Lock()

    def append(self, name: str, lines: Sequence[str]) -> Path:
        """Add whole lines durably, or none.

        Raises:
            UsageError: nothing is kept.
            ResourceError: the file is full, or cannot be written.
        """
        if self.folder is None:
            raise UsageError("feedback is not kept; start the server with --feedback FOLDER.")
        path = self.folder / f"{name}.jsonl"
        data = "".join(f"{line}\n" for line in lines).encode()
        with self._writing:
            try:
                handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            except OSError as error:
                raise ResourceError(f"cannot write {path}: {error.strerror}.") from None
            try:
                before = os.fstat(handle).st_size
                if before + len(data) > MAX_BYTES:
                    raise ResourceError(f"{path} is full; move it away, and another is begun.")
                try:
                    if os.write(handle, data) < len(data):
                        raise OSError(0, "the disk is full")
                    os.fsync(handle)
                except OSError as error:
                    os.ftruncate(handle, before)
                    raise ResourceError(f"cannot write {path}: {error.strerror}.") from None
            finally:
                os.close(handle)
        return path

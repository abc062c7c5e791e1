"""The report on a data set: facts and warnings, for people and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from widemax.errors import counted


@dataclass(frozen=True)
class ColumnReport:
    """An input column: how many rows lack it, and whether its first 10,000 values are suspect."""

    name: str
    kind: str
    missing: int
    constant: bool
    id_like: bool


@dataclass(frozen=True)
class ValidReport:
    """Rows kept for validation or test, compared with the training rows.

    Args:
        rows: how many good rows there are.
        num_bad_rows, bad_rows: how many bad ones, and the first 20 as "file:line: reason".
        unseen_labels: how many labels of rows do not occur in training; unseen_examples: some of them.
        overlap_rows: how many rows have exactly the inputs of a training row.
    """

    rows: int
    num_bad_rows: int
    bad_rows: tuple[str, ...]
    unseen_labels: int
    unseen_examples: tuple[str, ...]
    overlap_rows: int


@dataclass(frozen=True)
class DataReport:
    """The result of :func:`~widemax.data.check`.

    Args:
        rows: how many good training rows there are.
        columns: the inputs.
        target: name of the target column.
        several: whether a row can have several labels.
        num_classes: how many distinct labels occur in training.
        rows_per_class: (smallest, median, largest) number of rows of a class.
        classes_seen_once: how many classes have one row only.
        labels_per_row: (smallest, mean, largest) number of labels of a row.
        num_bad_rows, bad_rows: how many bad rows, and the first 20 as "file:line: reason".
        valid: the report on the validation rows, if there are any.
        notes: a sentence each about what was read.
        warnings: one sentence each.
    """

    rows: int
    columns: tuple[ColumnReport, ...]
    target: str
    several: bool
    num_classes: int
    rows_per_class: tuple[int, float, int]
    classes_seen_once: int
    labels_per_row: tuple[int, float, int]
    num_bad_rows: int
    bad_rows: tuple[str, ...]
    valid: ValidReport | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report in types that JSON has."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report for people, a line a fact."""
        low, median, high = self.rows_per_class
        lines = [
            *self.notes,
            f"{counted(self.rows, 'row')}, {counted(self.num_classes, 'class')} in column {self.target!r}",
        ]
        lines += [
            f"input {column.name!r}: {column.kind}"
            + (f", missing in {counted(column.missing, 'row')}" * bool(column.missing))
            for column in self.columns
        ]
        lines.append(
            f"rows per class: smallest {low:,}, median {median:g}, largest {high:,}; "
            f"{counted(self.classes_seen_once, 'class')} with one row only"
        )
        if self.several:
            low, mean, high = self.labels_per_row
            lines.append(f"labels per row: smallest {low}, mean {mean:.2f}, largest {high}")
        lines += _bad_lines("", self.num_bad_rows, self.bad_rows)
        if self.valid is not None:
            valid = self.valid
            examples = f", such as {', '.join(valid.unseen_examples[:3])}" if valid.unseen_labels else ""
            lines.append(f"validation: {counted(valid.rows, 'row')}")
            lines.append(
                f"validation: {counted(valid.unseen_labels, 'label')} never seen in training{examples}"
            )
            lines.append(
                f"validation: {counted(valid.overlap_rows, 'row')} with the inputs of a training row"
            )
            lines += _bad_lines("validation: ", valid.num_bad_rows, valid.bad_rows)
        return lines + [f"warning: {warning}" for warning in self.warnings]


def _bad_lines(who: str, count: int, shown: Sequence[str]) -> list[str]:
    more = [f"  … and {count - len(shown):,} more"] if count > len(shown) else []
    return [f"{who}{counted(count, 'bad row')}", *(f"  {row}" for row in shown), *more]

"""Arguments and output that several verbs share."""

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from widemax.errors import UsageError, counted, visible

if TYPE_CHECKING:
    from widemax.config import Config

DataOrConfig = Annotated[
    list[str],
    typer.Argument(help="A config FILE.toml, or data: paths, globs or a name from `widemax data list`."),
]
Data = Annotated[list[str], typer.Argument(help="Paths, globs or a name from `widemax data list`.")]
Run = Annotated[
    Path,
    typer.Argument(
        help="A run folder made by `widemax train`.", exists=True, file_okay=False, readable=False
    ),
]
TrustedKey = Annotated[
    Path | None,
    typer.Option(help="An Ed25519 public key in PEM; refuse a run that its owner has not signed."),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"] | None,
    typer.Option(
        help="What computes the answers. Default: auto, a GPU that is cuda where there is one, else the CPU."
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, and everything else on stderr.")
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="How many processes work together on this machine. Default: one.")
]
Input = Annotated[
    list[str] | None,
    typer.Option(
        help="Input columns, as a,b or by repeating the option. Default: all columns but the target."
    ),
]
Target = Annotated[str | None, typer.Option(help="The column of labels.")]
Kind = Annotated[
    list[str] | None,
    typer.Option(
        help="COLUMN=KIND, to correct a guess. Kinds: text, number, category, ids, vector, image, sparse."
    ),
]
User = Annotated[
    str | None, typer.Option(help="The column of users in a file of events: a row says who did what.")
]
Item = Annotated[str | None, typer.Option(help="The column of items in a file of events.")]
Time = Annotated[str | None, typer.Option(help="The column of times in a file of events.")]
Weight = Annotated[
    str | None,
    typer.Option(help="The column of weights of events; pairs that add up to 0 or less are left out."),
]
Split = Annotated[
    str | None,
    typer.Option(
        help="The events that are kept for evaluate: after time:0.9, last-one, random:0.9; given: no others."
    ),
]
Items = Annotated[
    list[str] | None,
    typer.Option(
        help="A file with a row for each item: items without events are learned from those most like them."
    ),
]
Users = Annotated[
    list[str] | None,
    typer.Option(help="A file with a row for each user, whose columns are read beside the history."),
]
DropBad = Annotated[bool, typer.Option("--drop-bad", help="Count and drop bad rows instead of stopping.")]
Delimiter = Annotated[
    str | None,
    typer.Option(help="What separates cells in CSV, such as ';' or tab. Default: what the first rows say."),
]
LabelSeparator = Annotated[
    str | None,
    typer.Option(
        help="What separates the labels of a row with several, such as ';'. A JSON list needs none."
    ),
]
Encoding = Annotated[
    str | None,
    typer.Option(help="The encoding of text files, such as latin-1. Default: by byte order mark, or UTF-8."),
]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override a config key: section.key=value.")]
DATA_KEYS = (
    *("target", "user", "item", "time", "weight", "split", "items", "users", "valid", "classes", "task"),
    *("target_lines", "valid_target_lines", "delimiter", "encoding", "label_separator"),
)
"""Options that are keys of [data] by the same names."""


def print_json(values: Any) -> None:
    """The one JSON object of a verb."""
    typer.echo(to_json(values))


def print_texts(
    rows: Iterator[dict[str, Any]], text: Callable[[dict[str, Any]], str], form: str | None, *, json: bool
) -> None:
    """Rows as one JSON object, as JSON lines, or the ``text`` of each."""
    if json:
        print_json({"rows": list(rows)})
        return
    on_terminal = sys.stdout.isatty()
    for row in rows:
        if form == "jsonl":
            print_json(row)
        else:
            typer.echo("\n".join(map(visible, text(row).split("\n"))) if on_terminal else text(row))


def print_result(values: Any, lines: Iterable[str], *, json: bool) -> None:
    """The result of a verb as one JSON object, or for people."""
    for line in [to_json(values)] if json else map(visible, lines):
        typer.echo(line)


def to_json(values: Any) -> str:
    """Strict JSON; dates and times are ISO 8601 text.

    Example:
        >>> from datetime import date
        >>> to_json([date(2024, 2, 29), "tea", 7])
        '["2024-02-29", "tea", 7]'
    """
    return json.dumps(values, ensure_ascii=False, allow_nan=False, default=methodcaller("isoformat"))


def task_of(context: typer.Context, run: Path) -> Any:
    """The task of a run, as its manifest has it.

    Raises:
        UsageError: the verb was given an option that says nothing to such a run.
    """
    from widemax.storage import current, read_manifest
    from widemax.systems import CLASSIFIERS, SYSTEMS, about

    task = read_manifest(current(run)).get("task")
    of = about(task)
    for parameter in context.command.params:
        name, source = parameter.opts[-1], context.get_parameter_source(parameter.name or "")
        if source is None or source.name == "DEFAULT" or name in of.options:
            continue
        if others := [each.noun for each in (CLASSIFIERS, *SYSTEMS.values()) if name in each.options]:
            raise UsageError(f"{name} is for {' or '.join(others)}, and {run} is {of.noun}; leave it out.")
    return task


def result_lines(values: Mapping[str, Any], *, every: bool = False) -> Iterator[str]:
    """What ``evaluate`` found, for people: what was evaluated, then the metrics that matter most, or all."""
    from widemax.evaluation.headlines import group_lines, metric_lines
    from widemax.task import task_of

    line = f"{counted(values['rows'], 'row')}, {counted(values['num_classes'], 'class')}"
    yield f"{line}, {values['seconds']:.1f} s, {values['rows_per_s']:,.0f} rows/s"
    if values["skipped"]:
        yield f"dropped {counted(values['skipped'], 'bad row')}"
    if values.get("overlap_rows"):
        yield f"{counted(values['overlap_rows'], 'row')} with the inputs of a training row"
    yield from metric_lines(task_of(values["task"]), values, values.get("baseline", {}), every=every)
    yield from group_lines(values)


def read_config(data: Sequence[str], given: Mapping[str, Any]) -> "Config":
    """A config from FILE.toml or from data and options; options win over the file, --set over both.

    Args:
        data: what the verb was given.
        given: its options by their names, as ``typer.Context.params`` holds them; of no use are those that a
            config does not know.
    """
    from widemax.config import Config, assign, read_toml
    from widemax.systems import refuse_keys, with_task

    is_config = len(data) == 1 and data[0].endswith(".toml")
    values: dict[str, Any] = read_toml(Path(data[0])) if is_config else {"data": {"train": list(data)}}
    unit, kind, limit, out = map(given.get, ("unit", "kind", "time_limit", "out"))
    named: dict[str, dict[str, Any]] = {
        "data": {
            "input": parse_columns(given.get("input")),
            "drop_bad": given.get("drop_bad") or None,
            **{key: given.get(key) for key in DATA_KEYS},
        },
        "encoder": {"unit": unit},
        "train": {"seed": given.get("seed"), "time_limit_s": parse_seconds(limit) if limit else None},
        "distributed": {"workers": given.get("workers")},
        "output": {"dir": str(out) if out else None},
    }
    for section, keys in named.items():
        for key, value in keys.items():
            if value not in (None, (), []):
                table(values, section)[key] = value
    if kind:
        table(table(values, "data"), "kinds").update(parse_kinds(kind))
    config = with_task(Config.from_dict(assign(values, given.get("set_") or ())))
    if unit and config.data.task != "language":
        raise UsageError("--unit is of language models; give --task language, or leave it out.")
    refuse_keys(config)
    return config


def recognize_events(config: "Config") -> tuple["Config", list[str]]:
    """The config with the columns of events named, and the command that trains on them.

    Where the config names no columns, and none has a usual name for labels but some have for users and items.
    """
    from widemax.data import USUAL_TARGETS, EventColumns, Reading, format_of, resolve
    from widemax.task import System

    data = config.data
    if data.target or data.user or data.item or data.input or isinstance(data.task, System):
        return config, []
    source = resolve(data.train)[0]
    names = format_of(source, Reading.of(data)).columns(source)
    columns = EventColumns.recognized(names)
    if columns is None or {name.lower() for name in names} & set(USUAL_TARGETS):
        return config, []
    given = {"--items": data.items, "--users": data.users}
    tables = [part for option, files in given.items() for name in files for part in (option, name)]
    options = f"{columns.options} {shlex.join(tables)}".rstrip()
    command = f"widemax train {shlex.join(data.train)} {options} --out run"
    named = {key: value for key, value in vars(columns).items() if value}
    return config.updated(data=named), [
        f"these look like events of users and items; to learn what users take next: {command}"
    ]


def table(values: dict[str, Any], section: str) -> dict[str, Any]:
    """A table of a config, made where it is absent."""
    found = values.setdefault(section, {})
    if not isinstance(found, dict):
        raise UsageError(f"{section!r} in the config must be a table, got {found!r}.")
    return found


def parse_columns(entries: Sequence[str] | None) -> list[str]:
    """``["a,b", "c"]`` as ``["a", "b", "c"]``."""
    return [column for entry in entries or () for column in entry.split(",")]


def parse_kinds(kinds: Sequence[str]) -> dict[str, str]:
    """``["age=number"]`` as a mapping."""
    parsed = {}
    for entry in kinds:
        column, equals, kind = entry.rpartition("=")
        if not equals:
            raise UsageError(f"--kind takes COLUMN=KIND, such as age=number; got {entry!r}.")
        parsed[column] = kind
    return parsed


def parse_seconds(text: str) -> float:
    """``"90"``, ``"60s"``, ``"5m"`` or ``"2h"`` in seconds."""
    number = text.rstrip("smh")
    try:
        seconds = float(number) * {"": 1, "s": 1, "m": 60, "h": 3600}[text[len(number) :]]
    except (ValueError, KeyError):
        seconds = 0.0
    if not seconds > 0:
        raise UsageError(f"a time limit is a positive number with s, m or h, such as 60s; got {text!r}.")
    return seconds

"""Arguments and output that several verbs share."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from widemax.errors import UsageError

if TYPE_CHECKING:
    from widemax.config import Config

DataOrConfig = Annotated[
    list[str], typer.Argument(help="FILE.toml, or data: paths, globs or a name from `widemax data list`.")
]
Data = Annotated[list[str], typer.Argument(help="Paths, globs or a name from `widemax data list`.")]
Run = Annotated[Path, typer.Argument(help="A run folder made by `widemax train`.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout and nothing else there.")]
Input = Annotated[
    list[str] | None,
    typer.Option(help="Input columns: a,b or repeat the option. All but the target without."),
]
Target = Annotated[str | None, typer.Option(help="The column of labels.")]
Kind = Annotated[
    list[str] | None, typer.Option(help="COLUMN=KIND where the guess is wrong: text, number, category, ids…")
]
DropBad = Annotated[bool, typer.Option("--drop-bad", help="Count and drop bad rows instead of stopping.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override a config key: section.key=value.")]


def print_json(values: Any) -> None:
    """The one JSON object of a verb."""
    typer.echo(json.dumps(values, ensure_ascii=False, allow_nan=False, default=str))


def print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line)


def read_config(
    data: Sequence[str],
    *,
    input: Sequence[str] | None = None,  # noqa: A002 - the name users type
    target: str | None = None,
    kind: Sequence[str] | None = None,
    valid: Sequence[str] | None = None,
    drop_bad: bool = False,
    assignments: Sequence[str] = (),
    train: dict[str, Any] | None = None,
    out: Path | None = None,
) -> "Config":
    """A config from FILE.toml or from data and options; options win over the file, --set over both."""
    import tomllib

    from widemax.config import Config, assign
    from widemax.errors import ConfigError

    values: dict[str, Any] = {"data": {"train": list(data)}}
    if len(data) == 1 and data[0].endswith(".toml"):
        try:
            values = tomllib.loads(Path(data[0]).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"cannot read config {data[0]!r}: {error.strerror}.") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{data[0]} is not valid TOML: {error}.") from None
    if input:
        input = [column for entry in input for column in entry.split(",")]  # noqa: A001
    given: dict[str, dict[str, Any]] = {
        "data": {"input": input, "target": target, "valid": valid, "drop_bad": drop_bad or None},
        "train": train or {},
        "output": {"dir": str(out) if out else None},
    }
    for section, keys in given.items():
        for key, value in keys.items():
            if value:
                values.setdefault(section, {})[key] = value
    if kind:
        values.setdefault("data", {}).setdefault("kinds", {}).update(parse_kinds(kind))
    return Config.from_dict(assign(values, assignments))


def parse_kinds(kinds: Sequence[str]) -> dict[str, str]:
    """``["age=number"]`` as a mapping.

    Raises:
        UsageError: an entry without ``=``.
    """
    parsed = {}
    for entry in kinds:
        column, equals, kind = entry.rpartition("=")
        if not equals:
            raise UsageError(f"--kind takes COLUMN=KIND, such as age=number; got {entry!r}.")
        parsed[column] = kind
    return parsed


def parse_seconds(text: str) -> float:
    """``"90"``, ``"60s"``, ``"5m"`` or ``"2h"`` in seconds.

    Raises:
        UsageError: anything else.
    """
    number = text.rstrip("smh")
    try:
        seconds = float(number) * {"": 1, "s": 1, "m": 60, "h": 3600}[text[len(number) :]]
    except (ValueError, KeyError):
        seconds = 0.0
    if not seconds > 0:
        raise UsageError(f"a time limit is a positive number with s, m or h, such as 60s; got {text!r}.")
    return seconds

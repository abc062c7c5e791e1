"""What the page asks `widemax train` for: a form, the command line and the config that say the same."""

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError

from widemax.config import FILES, Config, assign
from widemax.encoders import encoders
from widemax.errors import UsageError, reason_of
from widemax.heads import heads
from widemax.serving.bodies import Body
from widemax.serving.studio.library import Runs, chosen

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
FIELDS = {
    "data.train": "data",
    "data.input": "inputs",
    "data.target": "target",
    "encoder.kind": "encoder",
    "head.kind": "head",
    "train.epochs": "epochs",
    "train.learning_rate": "learning_rate",
    "train.seed": "seed",
    "train.time_limit_s": "time_limit_s",
    "output.dir": "name",
}
"""The keys of a config that have a field of their own."""
WORD = re.compile(r"(?!(true|false|inf|nan)$)[A-Za-z_][A-Za-z0-9_@-]*")


class Training(Body):
    """What ``widemax train`` is asked for. What is None is left to it."""

    name: Annotated[str, Field(pattern=NAME)]
    data: Annotated[str, Field(max_length=300)]
    inputs: list[str] = Field([], max_length=100)
    target: str | None = None
    encoder: str = "auto"
    head: str = "auto"
    epochs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    time_limit_s: Annotated[float, Field(gt=0)] | None = None
    options: list[Annotated[str, Field(max_length=2000)]] = Field([], max_length=200)
    """Further ones as of ``--set``, which may name no file."""

    @classmethod
    def read(cls, text: str, library: Runs, *, name: str) -> Self:
        """The form that says what a config says.

        Args:
            text: the config in TOML.
            library: what it may name.
            name: of the run, where the config has none that is free.

        Raises:
            ConfigError: a key is unknown, or its value wrong.
            UsageError: it is no TOML, names other files than those of the library, or says what no form can.
        """
        try:
            values = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"this is not valid TOML: {reason_of(error)}.") from None
        config = Config.from_dict(values)
        default = dict(flat(Config().model_dump(mode="json", exclude_none=True)))
        given = {
            key: value
            for key, value in flat(config.model_dump(mode="json", exclude_none=True))
            if value != default.get(key) or key in FIELDS
        }
        own = {field: given.pop(key, None) for key, field in FIELDS.items()}
        own["data"] = named(own["data"], library)
        if own["learning_rate"] == "auto":
            own["learning_rate"] = None
        if not re.match(NAME, own["name"]) or (folder_of(library) / own["name"]).exists():
            own["name"] = name
        try:
            return cls(**own, options=[f"{key}={in_toml(value)}" for key, value in given.items()])
        except ValidationError as error:
            (first, *_) = error.errors()
            raise UsageError(
                f"the form cannot say this {first['loc'][0]}: {first['msg']}. Start it by `widemax train "
                "FILE.toml`."
            ) from None

    def arguments(self, library: Runs) -> list[str]:
        """The command line after ``widemax``.

        Raises:
            UsageError: runs cannot be started here, or one of the name is there already.
            UnknownNameError: there are no such data.
        """
        folder = folder_of(library)
        if (folder / self.name).exists():
            raise UsageError(f"{self.name} is there already. Choose another name.")
        sources = chosen(self.data, library.data(), "data")
        sources = [os.path.relpath(path, folder) if os.path.isabs(path) else path for path in sources]
        arguments = ["train", *sources]
        if self.inputs:
            arguments += ["--input", ",".join(self.inputs)]
        if self.target:
            arguments += ["--target", self.target]
        for assignment in self.assignments():
            arguments += ["--set", assignment]
        return [*arguments, "--seed", str(self.seed), "--out", self.name]

    def assignments(self) -> list[str]:
        """The options that are set."""
        given = {
            "encoder.kind": _auto(self.encoder, list(encoders), "encoder"),
            "head.kind": _auto(self.head, list(heads), "head"),
            "train.epochs": self.epochs,
            "train.learning_rate": self.learning_rate,
            "train.time_limit_s": self.time_limit_s,
        }
        return [*(f"{key}={value}" for key, value in given.items() if value is not None), *self.options]

    def config(self, library: Runs) -> Config:
        """The same as a config.

        Raises:
            ConfigError: an option is unknown, or its value wrong.
            UsageError: an option names a file, or has a field of its own.
        """
        for key, _ in flat(assign({}, self.options)):
            if key in FIELDS:
                raise UsageError(f"{key} has a field of its own: {FIELDS[key]}.")
            section, _, last = key.rpartition(".")
            if (
                section == "output"
                or (last == "model" and section != "data.kinds")
                or (section == "data" and last in FILES)
            ):
                raise UsageError(
                    f"{key} names a file, which is not for pages. Start it by `widemax train FILE.toml`."
                )
        values = {
            "data": {
                "train": self.arguments(library)[1],
                "input": self.inputs,
                **({"target": self.target} if self.target else {}),
            },
            "train": {"seed": self.seed},
            "output": {"dir": self.name},
        }
        return Config.from_dict(assign(values, self.assignments()))


def folder_of(library: Runs) -> Path:
    """Where trainings put their runs.

    Raises:
        UsageError: runs cannot be started here.
    """
    if library.folder is None:
        raise UsageError(
            "this server serves fixed runs. Start `widemax studio FOLDER` to train from the page."
        )
    return library.folder


def named(sources: list[str], library: Runs) -> str:
    """What the library calls the data of a config, which may name them from the folder of a run in it.

    Raises:
        UsageError: it has none, or more than one.
        UnknownNameError: they are none of the library.
    """
    if len(sources) != 1:
        raise UsageError(f"data.train must name one of the data here; the config names {len(sources)}.")
    known = library.data()
    (name,) = sources
    own = {path: called for called, (path,) in known.items()}
    called = own.get(name) or next(
        (other for other in (name.removeprefix("../"), f"{name}:train") if other in known), name
    )
    chosen(called, known, "data")
    return called


def flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """The keys of tables with their values, those of inner tables behind a point.

    Example:
        >>> dict(flat({"train": {"epochs": 3}, "data": {"kinds": {"unit.price": "number"}}}))
        {'train.epochs': 3, 'data.kinds."unit.price"': 'number'}
    """
    for key, value in values.items():
        key = key if WORD.fullmatch(key) else json.dumps(key, ensure_ascii=False)
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def in_toml(value: Any) -> str:
    """A value as ``--set`` takes it.

    Example:
        >>> [in_toml(value) for value in ("adam", "true", True, 0.5, [2, 4])]
        ['adam', '"true"', 'true', '0.5', '[2, 4]']
    """
    is_word = isinstance(value, str) and WORD.fullmatch(value)
    return value if is_word else json.dumps(value, ensure_ascii=False)


def _auto(kind: str, known: list[str], noun: str) -> str | None:
    return None if kind == "auto" else chosen(kind, dict.fromkeys(known, kind), noun)

"""The frozen, strict description of a run: TOML in, TOML out, unknown keys refused.

A config file holds only differences from the defaults; the run folder holds the completed config.
``[encoder]`` and ``[head]`` carry the options of the member that their ``kind`` names, checked against that
member's own signature when it is built.
"""

import os
import tomllib
from collections.abc import Mapping, Sequence
from functools import partial
from glob import iglob
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from widemax.errors import ConfigError, did_you_mean, reason_of, shown
from widemax.options import checked, plain, wrong
from widemax.registry import NAMES
from widemax.task import TASKS, System, Task

PathText = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, Path) else value)]
"""A path as its text, which TOML can hold."""

FILES = "train", "valid", "classes", "items", "users", "target_lines", "valid_target_lines"
"""The keys of [data] that name files."""

# Keys that did nothing; runs saved with them still load.
FORMER_KEYS: dict[tuple[str, str], tuple[Any, str]] = {
    ("data", "test"): ([], "leave it out, and give the test data to `widemax evaluate`.")
}


def _named(value: Any) -> Any:
    """The same with the names of registered members in place of the members."""
    value = plain(value)
    if isinstance(value, Mapping):
        return {key: _named(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_named, value))
    if not callable(value):
        return value
    if value not in NAMES:
        raise ConfigError(
            f"a config is text and cannot hold {value!r}: register it, as in @losses.register('my_loss'), "
            "and it stands here by its name."
        )
    return NAMES[value]


class Section(BaseModel):
    """One table of the TOML file.

    Raises:
        ConfigError: an unknown key (with the nearest known one), or a wrong value.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)

    @partial(checked, of="a section of a config")
    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**_named(values))
        except ValidationError as error:
            raise ConfigError(self._sentence(error.errors()[0], values)) from None
        except RecursionError:
            raise ConfigError("the tables of the config are nested too deep; flatten them.") from None

    def updated(self, **values: Any) -> Self:
        """The same with some other values; of a section, given as a mapping, some of its own."""
        sections = {
            key: getattr(self, key).updated(**value)
            for key, value in values.items()
            if isinstance(value, Mapping) and isinstance(getattr(self, key), Section)
        }
        return self.model_copy(update=values | sections)

    @classmethod
    def _sentence(cls, error: Any, values: Mapping[str, Any]) -> str:
        """A problem of the table as one sentence."""
        key = error["loc"][0]
        name = cls.__name__.removesuffix("Config").lower()
        place = f"[{name}]" if name else "the config"
        if error["type"] == "extra_forbidden":
            return f"unknown key {key!r} in {place}; {did_you_mean(key, list(cls.model_fields))}"
        if error["type"] == "model_type":
            return f"{key!r} in {place} must be a table; got {shown(values[key])}."
        if "error" in (context := error.get("ctx", {})):
            return str(context["error"])
        if error["type"] == "frame":
            return f"{key!r} in {place} {error['msg']}."
        field = cls.model_fields[key]
        annotation = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        return f"{key!r} in {place} {wrong(values[key], annotation)}"


class FreeSection(Section):
    """A table whose keys are checked by what they are for."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @property
    def options(self) -> dict[str, Any]:
        """The keys that are not of every such table."""
        return dict(self.__pydantic_extra__ or {})


class OpenSection(FreeSection):
    """A table whose further keys belong to the member that ``kind`` names."""

    kind: str = "auto"

    def completed(self, kind: str, options: Mapping[str, Any]) -> Self:
        """The same section with its kind decided and its options filled in."""
        own = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**{**own, "kind": kind, **options})


def _task(word: Any) -> Any:
    """A task by its word; others are left to be refused."""
    return TASKS.get(word, word) if isinstance(word, str) else word


class DataConfig(Section):
    """What is read, and which columns mean what.

    Attributes:
        train: the training data: files, globs, folders of images, or one name from ``widemax data list``;
            empty where ``train`` is given a frame.
        valid: data for validation, named likewise; without it ``valid_fraction`` of ``train`` is held out.
        input: the columns that the model reads; every column but the target when empty.
        target: the column of labels; ``widemax init`` guesses it.
        format: the format of the files, such as "csv"; told from the file names when it is not given.
        delimiter: what separates the cells of a row of CSV, such as ";" or "tab"; told from the first rows
            when it is not given.
        encoding: the encoding of text files, such as "latin-1"; told by a byte order mark, and UTF-8
            without one, when it is not given.
        missing: the texts that stand for a missing value in columns of numbers, dates, categories and ids;
            the usual ones, such as "NA", "null", "?" and "-", when none are given.
        label_separator: what separates the labels of a row with several, such as ";"; JSON lists need none.
        kinds: the kind of a column where the guess is wrong, such as ``{age = "category"}``.
        task: whether a row has "one" right class or "several", or the "next" item is ranked; "auto" decides
            by the labels. "translate" makes lines of text out of lines, and "parsing" trees out of sentences,
            which the data tell too; "language" foretells the next token of a text.
        target_lines: files of the translations of the lines in ``train``, line by line.
        valid_target_lines: likewise of ``valid``.
        user, item: the columns of a file of events, an event a row, which are read as histories.
        time, weight: when each event was, and how much it weighs.
        split: which events are held out for ``widemax evaluate``: "time:0.9", those after nine tenths of all;
            "random:0.9", a random tenth; "last-one", each user's last; none when it is not given, or "given",
            where files of their own hold them.
        classes: tables of the classes, a row a class: its label, and columns such as its name, of which a
            tower makes class weights, or which a head that counts takes as rows. Classes that no row has
            are among them.
        items: tables of the items of events, a row an item: those without events are learned from those that
            are most like them by the other columns.
        users: tables of the users, a row a user, whose other columns are read beside the history.
        repeat: whether the next item may be one that already stands in the history; left out otherwise.
        drop_bad: count and drop rows that cannot be read instead of stopping at the first.
        valid_fraction: the part of the training rows that is held out when there is no ``valid``; 0 holds out
            none. Of a text that stands in several rows, each with another label, all rows or none are.
        max_valid_rows: the most rows that are held out.
    """

    train: tuple[PathText, ...] = ()
    valid: tuple[PathText, ...] = ()
    input: tuple[str, ...] = ()
    target: str | None = None
    target_lines: tuple[PathText, ...] = ()
    valid_target_lines: tuple[PathText, ...] = ()
    format: str | None = None
    delimiter: str | None = None
    encoding: str | None = None
    missing: tuple[str, ...] | None = None
    label_separator: str | None = Field(default=None, min_length=1)
    kinds: dict[str, str] = Field(default_factory=dict)
    task: Annotated[Task | System | Literal["auto"], BeforeValidator(_task)] = "auto"
    user: str | None = None
    item: str | None = None
    time: str | None = None
    weight: str | None = None
    split: str | None = None
    classes: tuple[PathText, ...] = ()
    items: tuple[PathText, ...] = ()
    users: tuple[PathText, ...] = ()
    repeat: bool = False
    drop_bad: bool = False
    valid_fraction: float = Field(default=0.1, ge=0.0, lt=1.0)
    max_valid_rows: int = Field(default=5_000, ge=1)

    @field_validator(*FILES, "input", "missing", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        if hasattr(value, "__arrow_c_stream__"):
            raise PydanticCustomError(
                "frame", "must name files or data sets; give a frame as train(config, data=frame)"
            )
        return (value,) if isinstance(value, str | Path) else value


class EncoderConfig(OpenSection):
    """How columns become a hidden vector.

    Attributes:
        kind: the encoder; "auto" decides by the kinds of the columns. Further keys are the encoder's options.
    """


def _kind(value: Any) -> Any:
    """A section given by its kind alone."""
    return {"kind": value} if isinstance(value, str) else value


class WeightConfig(Section):
    """How class weights are made: by a tower, an encoder of what is known of each class.

    Attributes:
        kind: "tower".
        encoder: the encoder of the columns of the table of classes, and its options; of the labels themselves
            where there is no table.
        id: whether each class has weights of its own beside, which are added.
    """

    kind: Literal["tower"] = "tower"
    encoder: Annotated[EncoderConfig, BeforeValidator(_kind)] = EncoderConfig()
    id: bool = True


class HeadConfig(OpenSection):
    """How hidden vectors become a loss and answers about all classes.

    Attributes:
        kind: the head; "auto" takes the best that fits the memory and time of this machine, which
            ``widemax plan`` shows. Further keys are the head's options.
        weight: how the class weights of an exact or sampled head are made, "tower"; they are parameters when
            it is not given, and made by a tower where there is a table of classes.
    """

    weight: Annotated[WeightConfig | None, BeforeValidator(_kind)] = None


class TrainConfig(Section):
    """How the model is trained.

    Attributes:
        epochs: how often every training row is visited.
        batch_size: rows of a step; "auto" decides by the number of rows and classes.
        optimizer: the name of an optimizer; "auto" decides by the model's memory.
        learning_rate: the largest learning rate, which falls linearly to zero; "auto" takes the encoder's.
        weight_decay: the decoupled weight decay of the optimizer.
        time_limit_s: stop after this many seconds and save; unlimited when it is not given.
        metric: the validation metric that chooses the epoch; "auto" decides by the task.
        patience: stop after this many epochs without a better metric, and 100 steps at least.
        refit: train once more on all rows, held-out rows included, for the best number of epochs, at the
            end of which the learning rate is zero; "auto" does so where rows were held out of ``train``.
        neighbors: the most nearest training rows that have a part in each answer, where there are numbers,
            one label a row and a gain on the held-out rows; 0 for none.
        separators: whether linear separators and the log odds of counts have a part in the answers about
            texts, as large as held-out rows gain by it; hidden vectors must be as wide as there are classes,
            and time not limited. Texts with several labels are learned by separators alone, in the head
            "label_tree", or by "counts", where no head is named.
        checkpoint_every_s: seconds between checkpoints.
        device: what training computes on: "cpu", "cuda" (a GPU of NVIDIA or AMD) or "mps" (that of a Mac);
            "auto" takes the GPU that is "cuda" where there is one, else the CPU. Heads that count use that.
        precision: "float32"; or "bfloat16", in which products are taken, and the class weights of a wide
            exact or sampled head kept, rounded stochastically at each step. What is saved is float32.
        seed: the start of all randomness: the same seed on the same machine gives the same result.
    """

    epochs: int = Field(default=8, ge=1)
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    optimizer: str = "auto"
    learning_rate: Annotated[float, Field(gt=0.0)] | Literal["auto"] = "auto"
    weight_decay: float = Field(default=0.0, ge=0.0)
    time_limit_s: Annotated[float, Field(gt=0.0)] | None = None
    metric: str = "auto"
    patience: int = Field(default=3, ge=1)
    refit: bool | Literal["auto"] = "auto"
    neighbors: int = Field(default=16, ge=0)
    separators: bool = True
    checkpoint_every_s: float = Field(default=60.0, gt=0.0)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = Field(default=0, ge=0, lt=2**63)


class DistributedConfig(Section):
    """How many processes train together, and what each of them holds.

    Attributes:
        workers: how many processes ``widemax train`` starts on this machine; torchrun starts its own.
        shard_classes: whether each process holds the weights of some classes alone, rather than of all of
            them; "auto" does so where they are many.
        timeout_s: how many seconds a process waits for another before it gives up.
        max_restarts: how often processes are started again, after one has died, to go on from the last
            checkpoint.
    """

    workers: int = Field(default=1, ge=1)
    shard_classes: bool | Literal["auto"] = "auto"
    timeout_s: float = Field(default=300.0, gt=0.0)
    max_restarts: int = Field(default=3, ge=0)


class OutputConfig(Section):
    """Where the run goes.

    Attributes:
        dir: the run folder, relative to the current directory; "." in the config of a run, which is its own.
    """

    dir: PathText = "run"


class Config(Section):
    """A whole run, section by section; each is a mapping of its keys.

    Raises:
        ConfigError: an unknown key (with the nearest known one) or a value out of range.

    Example:
        >>> config = Config(data={"train": "clinc150", "target": "intent"}, output={"dir": "run"})
        >>> config.train.seed
        0
    """

    data: DataConfig = DataConfig()
    encoder: EncoderConfig = EncoderConfig()
    head: HeadConfig = HeadConfig()
    parser: FreeSection = FreeSection()
    train: TrainConfig = TrainConfig()
    distributed: DistributedConfig = DistributedConfig()
    output: OutputConfig = OutputConfig()

    @partial(checked, of="Config")
    def __init__(self, **sections: Any) -> None:
        for (section, key), (only, advice) in FORMER_KEYS.items():
            table = sections.get(section)
            if isinstance(table, Mapping) and key in table:
                if table[key] != only:
                    raise ConfigError(f"{key!r} in [{section}] is no longer a key: {advice}")
                sections[section] = {name: table[name] for name in table if name != key}
        super().__init__(**sections)

    @classmethod
    @checked
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """The config of a mapping of sections."""
        return cls(**values)

    @classmethod
    @checked
    def load(cls, path: Path | str) -> "Config":
        """Read a TOML file.

        Its data are looked for from the folder of the file, and then from the current directory: a run finds
        its data where both have moved together.
        """
        return cls.from_dict(read_toml(Path(path)))

    @checked
    def to_toml(self, *, home: Path | None = None) -> str:
        """The complete config as TOML; what is None or empty is left out.

        With the folder where the file is to stand, ``home``, paths from the root are told from there.
        """
        dumped = self.model_dump(mode="json", exclude_none=True)
        values = {section: keys for section, keys in dumped.items() if keys}
        if home is not None:
            for key in FILES:
                values["data"][key] = [
                    os.path.relpath(name, home.resolve()) if Path(name).is_absolute() else name
                    for name in values["data"][key]
                ]
        return tomli_w.dumps(values)


@checked
def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: the file cannot be read, or is no TOML.
    """
    if path.exists() and not path.is_file():
        raise ConfigError(f"cannot read config {str(path)!r}: it is no file.")
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise ConfigError(f"cannot read config {str(path)!r}: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {reason_of(error)}.") from None
    folder = path.parent.resolve()
    data = values.get("data")
    if isinstance(data, dict):
        for key in set(FILES) & set(data):
            names = data[key] if isinstance(data[key], list) else [data[key]]
            data[key] = [_found_from(name, folder) if isinstance(name, str) else name for name in names]
    return values


def _found_from(name: str, folder: Path) -> str:
    """A path or glob that leads somewhere from a folder, from the root; others as they are."""
    parent, _, split = name.rpartition(":")
    if parent and (folder / parent).is_dir():
        return f"{(folder / parent).resolve()}:{split}"
    path = folder / name
    found = path.exists() or next(iglob(str(path), recursive=True), None)
    return os.path.normpath(path) if found else name


@checked
def assign(values: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Apply ``--set a.b=value`` texts; a value is read as TOML, and as a plain string where it is not.

    Example:
        >>> assign({}, ["train.epochs=3", 'data.kinds."unit.price"=number'])
        {'train': {'epochs': 3}, 'data': {'kinds': {'unit.price': 'number'}}}
    """
    result = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        *sections, key = _keys(path)
        if not equals or not sections or not key:
            raise ConfigError(f"--set takes section.key=value, such as train.epochs=3; got {assignment!r}.")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except (tomllib.TOMLDecodeError, RecursionError):
            value = text
        target = result
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise ConfigError(f"--set {assignment!r}: {section!r} is a value, not a section.")
        target[key] = value
    return result


def _keys(path: str) -> list[str]:
    """A key of TOML at its points, where it is one: those within quotes are part of a name."""
    try:
        tree, keys = tomllib.loads(f"{path} = 0"), []
        while isinstance(tree, dict):
            ((key, tree),) = tree.items()
            keys.append(key)
    except ValueError:  # it is no TOML, or says nothing or more than a key
        return path.strip().split(".")
    return keys

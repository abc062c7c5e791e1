"""What each task has a use for: the keys of a config, the options of the command line, and who trains it."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from widemax.errors import ConfigError, UsageError
from widemax.storage import current, read_manifest
from widemax.task import System

if TYPE_CHECKING:
    from widemax.config import Config


@dataclass(frozen=True)
class About:
    """What the doors know of a task before they load what does it.

    Args:
        noun: what its runs hold.
        knows: the keys of a config that say something to it, as "section.key", or a whole section.
        options: of the command line that say something to its runs, of those that not all runs know.
        loader: what loads a run in Python.
        home: the module whose ``Training`` trains it; none for the loop over rows.
        but: keys of the sections it knows that say nothing to it.
    """

    noun: str
    knows: frozenset[str]
    options: frozenset[str]
    loader: str
    home: str = ""
    but: frozenset[str] = frozenset()


EVERY = frozenset(
    {
        *("data.train", "data.valid", "data.task", "data.valid_fraction", "train.epochs"),
        *("train.learning_rate", "train.time_limit_s", "train.metric", "train.patience"),
        *("train.checkpoint_every_s", "train.device", "train.precision", "train.seed", "output.dir"),
    }
)
"""Keys that say something to every system."""
LINES = frozenset({"data.target_lines", "data.valid_target_lines"})
CLASSIFIERS = About(
    noun="a classifier",
    knows=frozenset({"data", "encoder", "head", "train", "distributed", "output"}),
    but=LINES,
    loader="widemax.Model.load",
    options=frozenset(
        {
            *("-k", "--threshold", "--coverage", "--calibration", "--rank", "--format", "--drop-bad"),
            *("--keep-going", "--delimiter", "--device", "--encoding", "--safe", "--report", "--json"),
            "--workers",
        }
    ),
)
SYSTEMS = {
    System.LANGUAGE: About(
        noun="a language model",
        knows=EVERY
        | {"data.encoding", "encoder", "head"}
        | {"train.batch_size", "train.optimizer", "train.weight_decay"},
        options=frozenset(
            {
                *("--format", "--encoding", "--json", "--per-token", "--tokens", "--temperature", "--top-k"),
                *("--top-p", "--seed"),
            }
        ),
        loader="widemax.language.LanguageModel.load",
        home="widemax.language.training",
    ),
    System.PARSING: About(
        noun="a parser",
        knows=EVERY | {"data.input", "parser"},
        options=frozenset({"--beam", "--json"}),
        home="widemax.parsing.training",
        loader="widemax.parsing.Parser.load",
    ),
    System.TRANSLATE: About(
        noun="a translator",
        knows=EVERY
        | LINES
        | {"data.encoding", "data.max_valid_rows", "encoder", "head"}
        | {"train.batch_size", "train.optimizer", "train.weight_decay"},
        options=frozenset({"--beam", "--target-lines", "--format", "--encoding", "--json"}),
        home="widemax.translation.training",
        loader="widemax.translation.Translator.load",
    ),
}
TREEBANKS = (".conllu", ".conllu.gz")


def about(task: object) -> About:
    """What there is to know of a task, also as the word of a manifest.

    Example:
        >>> about("translate").noun, about("several").noun
        ('a translator', 'a classifier')
    """
    return next((found for system, found in SYSTEMS.items() if system == task), CLASSIFIERS)


def load(run: Path, *, trusted_key: Path | None = None) -> Any:
    """What a run holds, all its files checked.

    Raises:
        CorruptError: a file is missing, altered or unsafe.
        UsageError: there is no such folder.
    """
    module, name, _ = about(read_manifest(current(run)).get("task")).loader.rsplit(".", 2)
    return getattr(import_module(module), name).load(run, trusted_key=trusted_key)


def with_task(config: "Config") -> "Config":
    """The config with the system that its data are of, where it leaves the task to them.

    Raises:
        UsageError: only some of the files are treebanks.
    """
    data = config.data
    if data.task != "auto":
        return config
    named = [name.endswith(TREEBANKS) for name in data.train]
    if any(named) and not all(named):
        other = data.train[named.index(False)]
        raise UsageError(f"{other} is no CoNLL-U file, as others are. Give them apart.")
    task = System.PARSING if any(named) else System.TRANSLATE if data.target_lines else "auto"
    return config.updated(data={"task": task})


def refuse_keys(config: "Config") -> None:
    """Refuse keys of a config that say nothing to what it trains.

    Raises:
        ConfigError: there is one that is not as it is by default.
    """
    of = about(config.data.task)
    for section, table in config:
        fields = type(table).model_fields
        for key in [*fields, *(table.model_extra or {})]:
            name, usual = f"{section}.{key}", None
            if key in fields:
                usual = fields[key].get_default(call_default_factory=True)
            known = (section in of.knows or name in of.knows) and name not in of.but
            if not known and getattr(table, key) != usual:
                raise ConfigError(f"{name} says nothing to {of.noun}; leave it out.")

"""What can be trained: a classifier of rows, or a system that the task of a config names."""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from widemax.config import Config
from widemax.data import Data
from widemax.errors import UsageError
from widemax.options import checked
from widemax.storage import NEW, WORK
from widemax.task import System
from widemax.training.progress import Reporter
from widemax.training.runs import Outcome, home_of

SYSTEMS = {
    System.LANGUAGE: "widemax.language.training",
    System.TRANSLATE: "widemax.translation.training",
}
"""The modules that train what is no classifier of rows, by task."""


@checked
def train(
    config: Config,
    *,
    data: Data | Iterable[Data] | None = None,
    valid: Data | Iterable[Data] | None = None,
    classes: Data | Iterable[Data] | None = None,
    reporter: Reporter | None = None,
    overwrite: bool = False,
) -> Outcome[Any]:
    """Train a model as configured and save it in ``config.output.dir``.

    Args:
        config: what differs from the defaults is enough; the completed config is saved in the run. Its
            ``data.task`` is "translate" for lines of text with their translations, and "language" for texts
            whose next token is told.
        data: the training rows, in place of ``config.data.train``: a frame of pandas (2.2 or later) or
            polars, a pyarrow table, or what a config can name. Rows in memory are not saved with the run.
        valid: the validation rows, likewise.
        classes: the table of classes, likewise.
        reporter: where progress is told; nowhere by default.
        overwrite: replace a run that is already there instead of refusing. It stays until the new one is
            whole; files that are not of it stay for good.

    Raises:
        UsageError: the folder already holds something, another process writes there, training rows are
            named twice, or the config names a format for frames.
        DataError: the data cannot be used.

    Example:
        >>> config = Config(data={"train": "clinc150", "target": "intent"})
        >>> outcome = train(config)  # doctest: +SKIP
        >>> outcome = train(Config(data={"target": "intent"}), data=frame)  # doctest: +SKIP
    """
    rows = {"data": data, "valid": valid, "classes": classes}
    module = _module(config, rows)
    given = {name: value for name, value in rows.items() if value is not None}
    return module.train(config, **given, reporter=reporter, overwrite=overwrite)  # type: ignore[no-any-return]


@checked
def resume(
    run: Path | str,
    *,
    data: Data | Iterable[Data] | None = None,
    valid: Data | Iterable[Data] | None = None,
    classes: Data | Iterable[Data] | None = None,
    reporter: Reporter | None = None,
) -> Outcome[Any]:
    """Continue a run from its latest checkpoint to bitwise the result it would have had.

    Holds on the same machine with the same data. Under a time limit the learning rate follows the clock, and
    that cannot be repeated.

    Args:
        run: its folder.
        data: the training rows again, where they were in memory or their files have moved.
        valid: the validation rows again, likewise.
        classes: the table of classes again, likewise.
        reporter: where progress is told; nowhere by default.

    Raises:
        UsageError: the folder is no run, holds nothing to continue, another process writes there, or its
            rows were in memory.
        DataError: the data have changed since.
    """
    home = home_of(run)
    replacing = home / WORK / NEW / "config.toml"
    config = Config.load(replacing if replacing.is_file() else home / "config.toml")
    rows = {"data": data, "valid": valid, "classes": classes}
    module = _module(config, rows)
    given = {name: value for name, value in rows.items() if value is not None}
    return module.resume(home, **given, reporter=reporter)  # type: ignore[no-any-return]


def _module(config: Config, rows: dict[str, Any]) -> Any:
    """What trains it.

    Raises:
        UsageError: rows in memory for a system that reads files.
    """
    task = config.data.task
    name = SYSTEMS.get(task) if isinstance(task, System) else None
    if name and any(value is not None for value in rows.values()):
        raise UsageError(f"data.task {str(task)!r} reads files, not rows in memory; name them in the config.")
    return import_module(name or "widemax.training.loop")

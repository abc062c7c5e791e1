"""The runs and data that Studio may speak of: a request names one of a list, and never a path."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request

from widemax.data import USUAL_TARGETS, Reading, at_hand, format_of, formats, resolve, sets
from widemax.errors import UnknownNameError, UsageError, did_you_mean
from widemax.serving.guard import check_may_order
from widemax.serving.models import Models, Served, classifier, serve
from widemax.serving.systems import ServedSystem
from widemax.storage import MANIFEST, current

Member = TypeVar("Member")
MOST_SERVED = 3
"""Models that are kept in memory; of the others, the one asked for least lately makes room."""


@dataclass
class Runs:
    """The runs by name, and the data beside them.

    Args:
        folder: whose subfolders with a config are the runs; new ones are found as they come. None where the
            runs are fixed.
        fixed: the runs that are served, in place of a folder.

    Example:
        >>> runs = Runs(Path("runs"))
        >>> runs.paths()
        {}
    """

    folder: Path | None = None
    fixed: Models | None = None
    _served: "OrderedDict[str, tuple[int, Served | ServedSystem]]" = field(
        default_factory=OrderedDict, repr=False
    )
    _loading: Lock = field(default_factory=Lock, repr=False)

    def paths(self) -> dict[str, Path]:
        """Name to folder, in the order of names."""
        if self.folder is None:
            return dict(self.fixed.folders) if self.fixed else {}
        if not self.folder.is_dir():
            return {}
        return {
            path.name: path
            for path in sorted(self.folder.iterdir())
            if path.is_dir() and any((place / "config.toml").is_file() for place in (path, current(path)))
        }

    def path(self, name: str) -> Path:
        """The folder of a run.

        Raises:
            UnknownNameError: there is no such run.
        """
        return chosen(name, self.paths(), "run")

    def served(self, name: str) -> Served:
        """A classifier as it answers requests.

        Raises:
            UsageError: it has not been saved yet, or is no classifier.
            CorruptError: its files are damaged.
        """
        return classifier(self.answering(name))

    def answering(self, name: str) -> Served | ServedSystem:
        """A run as it answers requests, read again once it was saved anew unless it is a fixed one.

        Raises:
            UsageError: it has not been saved yet.
            CorruptError: its files are damaged.
        """
        path = self.path(name)
        if self.fixed is not None:
            return self.fixed[name]
        manifest = current(path) / MANIFEST
        if not manifest.is_file():
            raise UsageError(f"{name} has not been saved yet. Wait until its training ends.")
        version = manifest.stat().st_mtime_ns
        with self._loading:
            if name in self._served and self._served[name][0] == version:
                self._served.move_to_end(name)
            else:
                self._served[name] = version, serve(name, path)
                while len(self._served) > MOST_SERVED:
                    self._served.popitem(last=False)
            return self._served[name][1]

    def data(self) -> dict[str, list[str]]:
        """Names of data to what they stand for: files beside the runs, and splits of data sets at hand."""
        suffixes = tuple(suffix for member in formats for suffix in formats[member].suffixes)
        beside = [] if self.folder is None or not self.folder.is_dir() else sorted(self.folder.iterdir())
        files = {path.name: [str(path)] for path in beside if path.is_file() and path.name.endswith(suffixes)}
        known = sorted(filter(at_hand, sets), key=lambda name: not sets[name].bundled)
        splits = [f"{name}:{split}" for name in known for split in sets[name].splits]
        return files | {split: [split] for split in splits}

    def data_of(self, name: str) -> dict[str, list[str]]:
        """The same with what a run was trained and validated on, as "train" and "valid"."""
        section = self.served(name).model.config.data
        own = {"train": section.train, "valid": section.valid}
        return {key: list(names) for key, names in own.items() if names} | self.data()

    def columns(self, data: str) -> dict[str, Any]:
        """The columns of some data, and which of them is likely the target."""
        source = resolve(chosen(data, self.data(), "data"))[0]
        columns = list(format_of(source, Reading()).columns(source))
        name, _, _ = data.rpartition(":")
        target = next((usual for usual in USUAL_TARGETS if usual in columns), columns[-1] if columns else "")
        known = {"inputs": [column for column in columns if column != target], "target": target}
        if name in sets:
            known = {"inputs": list(sets[name].inputs), "target": sets[name].target}
        return {"columns": columns, **known}


def chosen(name: str, known: Mapping[str, Member], noun: str) -> Member:
    """A member of a list by its name.

    Raises:
        UnknownNameError: it has no such member.
    """
    if name not in known:
        hint = did_you_mean(name, list(known)) if known else "there is none."
        raise UnknownNameError(f"no {noun} is called {name!r}; {hint}")
    return known[name]


def runs_of(request: Request) -> Runs:
    """The runs that the application speaks of."""
    found: Runs = request.app.state.runs
    return found


OWN = [Depends(check_may_order)]
"""What routes depend on that show rows, configs and paths, or start work: not every client may ask them."""
Library = Annotated[Runs, Depends(runs_of)]

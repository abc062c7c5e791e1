"""The runs that are served, by name; each is replaced whole or stays as it was."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import Any

from widemax.artifact import Model
from widemax.errors import CorruptError, UsageError, WidemaxError
from widemax.serving.abstention import Coverage, Sets
from widemax.serving.batches import Pace
from widemax.serving.labels import LabelSearch
from widemax.serving.predictions import Question, Ranked, predict
from widemax.serving.systems import SERVED, ServedSystem
from widemax.storage import MANIFEST, current, read_manifest, read_whole
from widemax.systems import about, load

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, eq=False)
class Served:
    """A run as it answers requests.

    Attributes:
        name: what it is called in addresses.
        folder: where it was read.
        model: what answers.
        sha256: of its manifest, which holds the hashes of all its files.
        facts: what its manifest says.
        sets: sets of classes that hold the right one with a chosen probability, where they were asked for.
    """

    name: str
    folder: Path
    model: Model
    sha256: str
    facts: Mapping[str, Any]
    sets: Sets | None = None

    @classmethod
    def load(
        cls, name: str, folder: Path, *, coverage: Coverage | None = None, mapped: bool = False
    ) -> "Served":
        """Read a run, its weights mapped or copied, and fit its sets where a coverage is asked for.

        Raises:
            CorruptError, UsageError: as of ``Model.load``.
        """
        model = Model.load(folder, mapped=mapped)
        sets = None if coverage is None else coverage.sets(model)
        return cls(name, folder, model, *_told(folder), sets)

    def predict(self, questions: Sequence[Question]) -> list[list[list[Ranked]] | Exception]:
        """The answers to some questions, computed together; an error for a question that has a bad row."""
        return predict(self.model, questions)

    @cached_property
    def pace(self) -> Pace:
        """How long it takes to answer."""
        return Pace()

    @cached_property
    def labels(self) -> LabelSearch:
        """What finds labels by a part of them."""
        return LabelSearch(self.model.vocabulary)

    @cached_property
    def said(self) -> dict[str, Any]:
        """What stands beside every answer and tells what its numbers are."""
        return {
            "model": self.name,
            "sha256": self.sha256,
            "search": "exact",
            "normalizer": "exact",
            "temperature": self.model.head.calibration_temperature.item(),
        }

    @cached_property
    def description(self) -> dict[str, Any]:
        """What ``/v1/model`` says."""
        model = self.model
        return {
            **self.said,
            "task": model.task.value,
            "target": model.schema.target,
            "num_classes": model.head.num_classes,
            "num_train_rows": model.num_train_rows,
            "inputs": [
                {key: value for key, value in vars(column).items() if value not in (None, ())}
                for column in model.schema.inputs
            ],
            "encoder": model.config.encoder.kind,
            "head": model.config.head.kind,
            "threshold": model.threshold,
            "coverage": None if self.sets is None else self.sets.coverage,
            "metrics": self.facts["metrics"],
            "widemax_version": self.facts["widemax_version"],
        }


def serve(
    name: str, folder: Path, *, coverage: Coverage | None = None, mapped: bool = False
) -> Served | ServedSystem:
    """Read a run, whatever it is of.

    Raises:
        CorruptError: it is damaged.
        UsageError: there is no run, or a coverage or mapping is asked of what is no classifier.
    """
    task = read_manifest(current(folder)).get("task")
    if (kind := SERVED.get(task) if isinstance(task, str) else None) is None:
        return Served.load(name, folder, coverage=coverage, mapped=mapped)
    for option, is_given in (("--coverage", coverage is not None), ("--mmap", mapped)):
        if is_given:
            raise UsageError(
                f"{option} is for classifiers, and {folder} is {about(task).noun}; leave it out."
            )
    return kind(name, folder, load(folder), *_told(folder))


def classifier(served: Served | ServedSystem) -> Served:
    """A run that has classes.

    Raises:
        UsageError: it is of a system that is no classifier.
    """
    if isinstance(served, ServedSystem):
        raise UsageError(
            f"{served.name} is {about(served.model.task).noun}, which answers /v1/predict and /v1/model; "
            "this is asked of classifiers."
        )
    return served


def _told(folder: Path) -> tuple[str, dict[str, Any]]:
    """The hash of the manifest of a run, and what it says."""

    def manifest(place: Path) -> tuple[str, dict[str, Any]]:
        return hashlib.sha256((place / MANIFEST).read_bytes()).hexdigest(), read_manifest(place)

    return read_whole(current(folder), manifest)


class Models(Mapping[str, Served | ServedSystem]):
    """The runs by name, the first of them the one that is meant where none is named.

    Example:
        >>> models = Models(["run"])  # doctest: +SKIP
        >>> models["run"].model.predict(["what is my balance"], k=1)  # doctest: +SKIP

    Args:
        folders: run folders, whose last names become those of the models.
        coverage: what sets of classes each is given.
        mapped: whether weights stay in their files, as ``Model.load`` says.

    Raises:
        UsageError: two are of one name, or one is no run.
        CorruptError: none of them can be read.
    """

    def __init__(
        self, folders: Sequence[Path | str] = (), *, coverage: Coverage | None = None, mapped: bool = False
    ) -> None:
        self._serve = partial(serve, coverage=coverage, mapped=mapped)
        self.folders: dict[str, Path] = {}
        for folder in map(Path, folders):
            name = _NOT_IN_NAMES.sub("-", folder.resolve().name) or "model"
            if name in self.folders:
                raise UsageError(
                    f"{self.folders[name]} and {folder} would both be called {name!r}; rename one of "
                    "the folders."
                )
            self.folders[name] = folder
        self.served: dict[str, Served | ServedSystem] = {}
        self.problems: dict[str, str] = {}
        self._reloading = Lock()
        for name in self.folders:
            try:
                self.load(name)
            except CorruptError:
                if len(self.problems) == len(self.folders):
                    raise

    def load(self, name: str) -> Served | ServedSystem:
        """Read a run, again where it was read before; a run that cannot be read leaves the old one in place.

        Raises:
            CorruptError, UsageError: it cannot be read; ``problems`` says why from then on.
        """
        with self._reloading:
            try:
                self.served[name] = self._serve(name, self.folders[name])
            except WidemaxError as error:
                self.problems[name] = str(error)
                raise
            self.problems.pop(name, None)
            return self.served[name]

    @property
    def prefixes(self) -> dict[str, str]:
        """Which run answers at each address: the first one at two."""
        own = {f"/v1/models/{name}": name for name in self}
        return {"/v1": next(iter(self)), **own} if own else {}

    def __getitem__(self, name: str) -> Served | ServedSystem:
        if name not in self.served and name in self.problems:
            raise CorruptError(self.problems[name])
        return self.served[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.folders)

    def __len__(self) -> int:
        return len(self.folders)

"""What a recipe is, what it gives, and the registry of recipes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from numpy.typing import NDArray

from widemax.charts import Drawing
from widemax.errors import UsageError, did_you_mean
from widemax.recipes.known import Known
from widemax.registry import Registry

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class Line:
    """One quantity: what is known of it, and what came out."""

    what: str
    known: Known
    values: tuple[float, ...]

    @property
    def obtained(self) -> str:
        """The numbers as the known ones are printed."""
        return self.known.show(self.values)

    @property
    def reached(self) -> bool:
        """Whether the obtained numbers agree with the known result."""
        return self.known.admits(self.values)


@dataclass(frozen=True)
class Picture:
    """A saved picture: what it shows, how to read it, and the same in words for those who cannot see it."""

    drawing: Drawing
    title: str
    caption: str
    alt: str
    path: Path


class Results:
    """What a run gathers: lines, pictures, and findings in words.

    Args:
        known: what is known, by the name of the quantity.
        folder: where pictures are saved.

    Example:
        >>> known = {"accuracy": Known.at_least(0.9, digits=2, source="a textbook")}
        >>> results = Results(known, Path())
        >>> results.obtain("accuracy", 0.934)
        >>> results.lines[0].obtained, results.lines[0].reached
        ('0.93', True)
    """

    def __init__(self, known: Mapping[str, Known], folder: Path) -> None:
        self.known = known
        self.folder = folder
        self.lines: list[Line] = []
        self.pictures: list[Picture] = []
        self.findings: list[str] = []

    def obtain(self, what: str, *values: float, known: Known | None = None) -> None:
        """Puts obtained numbers beside the known ones.

        Args:
            what: the quantity, one of those the recipe declares as known.
            values: the numbers; true and false for a statement.
            known: what another program gave in this same run, in place of a declared result.

        Raises:
            UsageError: nothing is known of it.
        """
        if known is None and what not in self.known:
            raise UsageError(f"nothing is known of {what!r}; {did_you_mean(what, list(self.known))}")
        self.lines.append(Line(what, known or self.known[what], tuple(map(float, values))))

    def draw(self, drawing: Drawing, name: str, *, title: str, caption: str, alt: str) -> None:
        """Saves a drawing as ``NAME.svg``.

        Args:
            drawing: what `widemax.charts.figure` or `images` gave.
            name: of the file.
            title: what it shows.
            caption: how to read it.
            alt: what there is to see, in words.
        """
        path = self.folder / f"{name}.svg"
        path.write_text(drawing.file(alt), encoding="utf-8")
        self.pictures.append(Picture(drawing, title, caption, alt, path))

    def find(self, sentence: str) -> None:
        """Adds a finding."""
        self.findings.append(sentence)


class Recipe(ABC):
    """A complete system, composed of the library's public parts in one file.

    Attributes:
        title: one line.
        description: one paragraph: what it does and why.
        data: names of the data sets it reads.
        full_time: how long a full run takes on two cores.
        known: what is known, by the name of the quantity.
    """

    title: ClassVar[str]
    description: ClassVar[str]
    data: ClassVar[tuple[str, ...]] = ()
    full_time: ClassVar[str]
    known: ClassVar[Mapping[str, Known]]

    @abstractmethod
    def run(self, results: Results, *, quick: bool, seed: int) -> None:
        """Runs the system.

        Args:
            results: takes what comes out.
            quick: do less, to finish within a minute on two cores.
            seed: same seed, same results. torch's global generator starts from it.
        """


recipes: Registry[type[Recipe]] = Registry("recipe", "widemax.recipes")

"""What a data set says about itself, and how its original files become tidy ones."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from widemax.storage import sha256


class PublicSet(ABC):
    """A public data set.

    ``files`` gives the sha256 of each original file, ``splits`` names the prepared splits, ``inputs`` and
    ``target`` the columns of interest. ``bundled`` says that the prepared files are part of the package.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    licence: ClassVar[str]
    attribution: ClassVar[str]
    url: ClassVar[str]
    files: ClassVar[Mapping[str, str]]
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    inputs: ClassVar[tuple[str, ...]]
    target: ClassVar[str]
    bundled: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, source: Path, into: Path) -> None:
        """Converts the original files in ``source`` to one Parquet file a split in ``into``."""

    @property
    def version(self) -> str:
        """A sha256 of what prepares it: files that another version prepared are prepared again."""
        return sha256(Path(inspect.getfile(type(self))))

    def path(self, folder: Path, split: str) -> Path:
        """Where a split is stored in a folder of prepared files."""
        return folder / f"{self.name}-{split}.parquet"

    def write(self, into: Path, split: str, columns: dict[str, Any]) -> None:
        """Writes the columns of a split."""
        level = 19 if self.bundled else 3  # the package should be small, other files soon made
        pq.write_table(pa.table(columns), self.path(into, split), compression="zstd", compression_level=level)

"""What a data set says about itself, and how its original files become tidy ones."""

import gzip
import inspect
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from widemax.registry import NAMES
from widemax.storage import sha256


class PublicSet(ABC):
    """A public data set.

    ``files`` gives the sha256 of what each original file holds, which for a ``.gz`` file is what it unpacks
    to: whoever packed it. ``downloads`` maps what :func:`~widemax.data.download` fetches to its address, and
    ``download_bytes`` says how much that is at most; a set without says ``by_hand`` how to come by it.
    ``splits`` names the prepared splits, ``inputs`` and ``target`` the columns of interest. ``bundled`` says
    that the prepared files are part of the package.
    """

    title: ClassVar[str]
    licence: ClassVar[str]
    attribution: ClassVar[str]
    url: ClassVar[str]
    files: ClassVar[Mapping[str, str]]
    downloads: ClassVar[Mapping[str, str]] = {}
    download_bytes: ClassVar[int] = 0
    by_hand: ClassVar[str] = ""
    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    inputs: ClassVar[tuple[str, ...]]
    target: ClassVar[str]
    bundled: ClassVar[bool] = False

    @abstractmethod
    def prepare(self, source: Path, into: Path) -> None:
        """Converts the original files in ``source`` to one Parquet file a split in ``into``."""

    def assemble(self, fetched: Path, into: Path) -> None:
        """Makes the original files in ``into`` of what was fetched; packs what comes unpacked."""
        for name in self.files:
            if name in self.downloads:
                shutil.copyfile(fetched / name, into / name)
            else:
                with (
                    (fetched / name.removesuffix(".gz")).open("rb") as plain,
                    gzip.open(into / name, "wb") as packed,
                ):
                    shutil.copyfileobj(plain, packed)

    @property
    def name(self) -> str:
        """As it is registered."""
        return NAMES[type(self)]

    @property
    def notice(self) -> str:
        """What whoever takes the set should read."""
        return f"{self.title}\n{self.attribution}\nLicence: {self.licence}\n{self.url}"

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


def on_github(repository: str, commit: str, folder: str, *names: str) -> dict[str, str]:
    """The addresses of files in a folder of a repository, as they were at a commit."""
    return {name: f"https://raw.githubusercontent.com/{repository}/{commit}/{folder}{name}" for name in names}

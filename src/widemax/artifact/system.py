"""What a system has trained, such as a translator, as a run holds it."""

from abc import ABC, abstractmethod
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import nn

from widemax.artifact.facts import CONFIG, ENCODER
from widemax.artifact.weights import read_head, read_network, write_head, write_tensors
from widemax.config import Config
from widemax.errors import CorruptError, UsageError
from widemax.heads import Head
from widemax.options import checked
from widemax.signatures import check_signature
from widemax.storage import MANIFEST, check_folder, read_manifest, read_whole, saving
from widemax.systems import about
from widemax.task import TASKS, System


class SavedSystem(ABC):
    """A network, its head where one is apart from it, and the classes that they speak of.

    Attributes:
        task: what it does.
        classes_files: the files of its classes, which its run must list.
        config: what it was trained with.
        encoder: the network.
        head: chooses the next class; None where the network does.
    """

    task: ClassVar[System]
    classes_files: ClassVar[tuple[str, ...]]

    config: Config
    encoder: nn.Module
    head: Head | None

    @classmethod
    @checked
    def load(cls, run: Path | str, *, trusted_key: Path | str | None = None) -> Self:
        """What a run holds, all its files checked.

        Args:
            run: its folder.
            trusted_key: an Ed25519 public key in PEM; refuse a run that its owner has not signed.

        Raises:
            CorruptError: a file is missing, altered or unsafe, or tensors do not fit.
            UsageError: the folder holds something else.
        """
        return read_whole(Path(run).expanduser(), partial(cls._read, trusted_key=trusted_key))

    @classmethod
    def _read(cls, folder: Path, *, trusted_key: Path | str | None) -> Self:
        found = read_manifest(folder).get("task")
        if found not in list(TASKS):
            raise CorruptError(f"{folder / MANIFEST} names no task. Restore it from a copy.")
        if found != cls.task:
            wanted, there = about(cls.task).noun, about(found)
            raise UsageError(f"{folder} holds {there.noun}, not {wanted}; load it with {there.loader}.")
        if trusted_key is not None:
            check_signature(folder, trusted_key)
        check_folder(folder, [CONFIG, ENCODER, *cls.classes_files])
        made = cls.untrained(folder)
        made.read_weights(folder / "weights")
        return made

    @classmethod
    @abstractmethod
    def untrained(cls, folder: Path) -> Self:
        """What the config and the classes in a folder make, its weights not yet read.

        Raises:
            CorruptError: they are damaged, or do not go together.
        """

    @abstractmethod
    def write_classes(self, folder: Path) -> None:
        """Write the files of its classes into a folder."""

    def read_weights(self, folder: Path) -> None:
        """Take over the weights in a folder.

        Raises:
            CorruptError: they are damaged or do not fit.
        """
        read_network(folder / Path(ENCODER).name, self.encoder)
        if self.head is not None:
            read_head(folder, self.head)

    def facts(self) -> dict[str, Any]:
        """What the manifest says of it beside its files."""
        said: dict[str, Any] = {
            "widemax_version": version("widemax"),
            "dtype": str(next(self.encoder.parameters()).dtype).removeprefix("torch."),
            "task": self.task,
        }
        if self.head is not None:
            said |= {"num_classes": self.head.num_classes, "dim": self.head.dim}
        return said

    def write(self, folder: Path, *, home: Path) -> None:
        """Write its files, without the manifest, into an existing folder that is to stand at ``home``."""
        with saving(str(folder)):
            (folder / "weights").mkdir()
            write_tensors(folder / ENCODER, self.encoder.state_dict())
            if self.head is not None:
                write_head(folder / "weights", self.head)
            self.write_classes(folder)
            (folder / CONFIG).write_text(self.config.to_toml(home=home), encoding="utf-8")

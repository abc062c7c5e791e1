"""What the manifest of a model says beside its files, and how these are called."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field

from widemax.config import Config
from widemax.data import Schema
from widemax.errors import CorruptError
from widemax.options import AtLeast1, from_json
from widemax.storage import MANIFEST, sound
from widemax.task import Task

CONFIG, LABELS, ENCODER = "config.toml", "labels.parquet", "weights/encoder.safetensors"
Probability = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Facts:
    """What the manifest of a model says beside its files, as far as a model is made of it."""

    num_classes: AtLeast1
    dim: AtLeast1
    dtype: str
    task: Task
    num_train_rows: Annotated[int, Field(ge=0)]
    schema: Schema
    metrics: dict[str, float | None]
    complete: bool
    repeat: bool | None = None
    num_labels: int | None = None
    neighbors: bool | None = None
    num_users: AtLeast1 | None = None
    tower: Schema | None = None
    threshold: Probability | None = None
    num_conformity_rows: Annotated[int, Field(ge=0)] | None = None
    baseline: dict[str, float | None] = field(default_factory=dict)
    steps: Annotated[int, Field(ge=0)] | None = None
    seconds: Annotated[float, Field(ge=0)] = 0.0

    @classmethod
    def of(cls, path: Path, manifest: Mapping[str, Any]) -> Self:
        """The facts of a manifest.

        Raises:
            CorruptError: one is missing, or of a wrong type or value.
        """
        with sound(path):
            return from_json(cls, manifest)


def agree(said: Mapping[str, tuple[Any, Any]]) -> None:
    """Hold what a file says, where it says it, to what the manifest says.

    Raises:
        CorruptError: they differ.
    """
    for what, (own, stated) in said.items():
        if None not in (own, stated) and own not in ((), stated):
            raise CorruptError(f"its {what} must be {stated!r}, as {MANIFEST} says; got {own!r}")


def said_in(config: Config, facts: Facts) -> dict[str, tuple[Any, Any]]:
    """What a config says again of a manifest's facts, beside them."""
    data, columns = config.data, facts.schema.inputs
    return {
        "head.dim": (config.head.options["dim"], facts.dim),
        "data.repeat": (data.repeat, facts.repeat),
        "data.target": (data.target, facts.schema.target),
        "data.input": (data.input, tuple(column.name for column in columns)),
    } | {f"data.kinds.{column.name}": (data.kinds.get(column.name), column.kind) for column in columns}

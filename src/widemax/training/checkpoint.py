"""Everything needed to continue to bitwise the same result, in one hashed folder a checkpoint."""

import json
import shutil
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer

from widemax.artifact import Model
from widemax.artifact.weights import aligned, read_encoder, read_head, read_tensors, write_head, write_tensors
from widemax.devices import CPU, random_states, set_random_states
from widemax.distributed import (
    ALONE,
    Placement,
    ShardedHead,
    World,
    new_shared_folder,
    placed,
    read_shards,
    read_whole_rows,
    shape_of_shards,
    tables,
    write_shard,
)
from widemax.encoders import Encoder
from widemax.errors import CorruptError, DataError
from widemax.heads import Head
from widemax.options import from_json
from widemax.storage import CHECKPOINTS, MANIFEST, check_folder, read_json, sound
from widemax.storage import sha256 as digest_of

STATE, ENCODER, OPTIMIZER = "state.json", "encoder.safetensors", "optimizer.safetensors"
RANDOM = "random.safetensors"
Count = Annotated[int, Field(ge=0, lt=2**63)]
NOTHING = sha256().hexdigest()
"""The fingerprint of no files."""


@dataclass
class Progress:
    """Where a training run stands; all that is not a tensor.

    Attributes:
        step: optimizer steps done.
        seconds: training time spent so far, over all sessions.
        loss_sum, loss_rows: of the running epoch, for the reported training loss (nats a row).
        best_value, best_step: of the validation metric, larger is better.
        bad_evaluations: evaluations since the best one.
        refit_from: the step at which the second fit, on all rows, began; None before.
        history: the records of metrics.jsonl.
    """

    data_fingerprint: str
    num_threads: Annotated[int, Field(ge=1, le=2**15)]
    classes_fingerprint: str = NOTHING
    step: Count = 0
    seconds: Annotated[float, Field(ge=0)] = 0.0
    loss_sum: float = 0.0
    loss_rows: Count = 0
    best_value: float | None = None
    best_step: Count = 0
    bad_evaluations: Count = 0
    refit_from: Count | None = None
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def mean_loss(self) -> float | None:
        """Training loss of the running epoch, nats a row; None of a head that counts."""
        return self.loss_sum / self.loss_rows if self.loss_rows else None


@dataclass
class State:
    """What a checkpoint holds beside tensors: the progress, and the numbers of the optimizer's state."""

    progress: Progress
    optimizer: dict[str, int | float]


def folder_of(run: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return run / CHECKPOINTS / f"step-{step:08d}"


class Parts(Protocol):
    """What is trained: an encoder, whose state is all it has learned, and a head if that is apart from it."""

    @property
    def encoder(self) -> nn.Module: ...

    @property
    def head(self) -> Head | None: ...


def save_checkpoint(
    run: Path,
    progress: Progress,
    model: Parts,
    optimizer: Optimizer,
    *,
    carried: Mapping[str, Tensor] | None = None,
    world: World = ALONE,
) -> None:
    """Save the state after ``progress.step`` steps, then drop all but the first, the latest and the best.

    Args:
        run: its folder.
        progress, model, optimizer: what is saved.
        carried: further tensors that the next step begins with.
        world: the processes that train together; the first saves what all hold alike.
    """
    tensors, numbers = split_optimizer_state(optimizer)
    with new_shared_folder(folder_of(run, progress.step), {"step": progress.step}, world) as folder:
        encoder = model.encoder.state_dict()
        for name, weight, placement in _split_tables(model.encoder):
            parts = {"weight": encoder.pop(name)} | _taken(tensors, _places(optimizer, [weight]))
            write_shard(folder, placement, parts, kind=_kind(name))
        if isinstance(model.head, ShardedHead):
            parts = {f"head.{name}": value for name, value in model.head.state_dict().items()}
            parts |= _taken(tensors, _places(optimizer, model.head.parameters()))
            write_shard(folder, model.head.placement, parts)
        if not world.is_first:
            return
        write_tensors(folder / ENCODER, encoder)
        random = {f"carried.{name}": value for name, value in (carried or {}).items()}
        random |= random_states(CPU if model.head is None else model.head.device)
        if model.head is not None:
            if not isinstance(model.head, ShardedHead):
                write_head(folder, model.head)
            random |= {f"head.{name}": value for name, value in model.head.training_state().items()}
        write_tensors(folder / OPTIMIZER, tensors)
        write_tensors(folder / RANDOM, random)
        state = asdict(State(progress, numbers))
        (folder / STATE).write_text(json.dumps(state, allow_nan=False), encoding="utf-8")
    keep_checkpoints(run, {0, progress.step, progress.best_step})


def _split_tables(encoder: nn.Module) -> Iterator[tuple[str, nn.Parameter, Placement]]:
    """The tables of which this process holds some rows."""
    placements = placed(encoder)
    for name, _, weight in tables(encoder):
        if weight in placements:
            yield name, weight, placements[weight]


def _of_places(tensors: Iterable[str], places: Container[int]) -> list[str]:
    """The names of an optimizer's state of some parameters."""
    return [name for name in tensors if int(name.partition(".")[0]) in places]


def _taken(tensors: dict[str, Tensor], places: Container[int]) -> dict[str, Tensor]:
    """Takes out of an optimizer's state that of some parameters."""
    return {f"optimizer.{name}": tensors.pop(name) for name in _of_places(tensors, places)}


def _places(optimizer: Optimizer, parameters: Iterable[nn.Parameter]) -> set[int]:
    """Where some parameters stand among those of the optimizer."""
    own = set(map(id, parameters))
    every = (parameter for group in optimizer.param_groups for parameter in group["params"])
    return {place for place, parameter in enumerate(every) if id(parameter) in own}


def _read_rows(folder: Path, head: Head, *, only: str = "") -> dict[str, Tensor]:
    """Fill a head from a checkpoint, whoever saved it; returns the optimizer's state of rows saved apart."""
    placement = head.placement if isinstance(head, ShardedHead) else Placement(head.num_classes)
    own, of_optimizer = head.state_dict(), "optimizer."
    parts = read_shards(folder, placement, {f"head.{name}": rows for name, rows in own.items()}, only=only)
    if not parts and not isinstance(head, ShardedHead):
        read_head(folder, head)
    elif not parts:
        read_whole_rows(sorted(folder.glob("head-*-of-*.safetensors")), placement, own)
    return {k.removeprefix(of_optimizer): v for k, v in parts.items() if k.startswith(of_optimizer)}


def keep_checkpoints(run: Path, steps: set[int]) -> None:
    """Remove the checkpoints of all other steps; they lose their names first, so that none is half there."""
    kept = {folder_of(run, step) for step in steps}
    for folder in sorted(set((run / CHECKPOINTS).iterdir()) - kept):  # those without a name come first
        hidden = folder.with_name(f".{folder.name.lstrip('.')}")
        shutil.rmtree(folder.rename(hidden))


def latest_checkpoint(run: Path) -> Path | None:
    """The newest complete checkpoint; folders a crash left unfinished do not count."""
    return max((path.parent for path in (run / CHECKPOINTS).glob(f"step-*/{MANIFEST}")), default=None)


def read_progress(folder: Path) -> Progress:
    """The progress of a checkpoint, all its files checked.

    Raises:
        CorruptError: a file of the checkpoint is missing or altered.
    """
    manifest = check_folder(folder, [OPTIMIZER, RANDOM, STATE])
    progress = read_state(folder).progress
    if manifest.get("step") != progress.step:
        raise CorruptError(f"{folder / STATE} tells of another step than {MANIFEST}. Restore it from a copy.")
    return progress


def progress_at(checkpoint: Path | None, fingerprint: str, classes_fingerprint: str = NOTHING) -> Progress:
    """Where a training on these data stands: at its beginning, or at a checkpoint, as many threads put back.

    Raises:
        DataError: the data files have changed since the checkpoint.
    """
    if checkpoint is None:
        return Progress(fingerprint, torch.get_num_threads(), classes_fingerprint)
    progress = read_progress(checkpoint)
    if (progress.data_fingerprint, progress.classes_fingerprint) != (fingerprint, classes_fingerprint):
        raise DataError(
            f"the training data have changed since {checkpoint} was saved. "
            "Put them back, or start a new run with `widemax train`."
        )
    torch.set_num_threads(progress.num_threads)
    return progress


def fingerprint_of(files: Iterable[Path]) -> str:
    """A sha256 of what files hold, in their order."""
    return sha256("".join(map(digest_of, files)).encode()).hexdigest()


def read_state(folder: Path) -> State:
    """What a checkpoint holds beside tensors."""
    values = read_json(folder / STATE)
    with sound(folder / STATE):
        return from_json(State, values)


def load_weights(folder: Path, model: Model) -> None:
    """Put a checkpoint's weights into a model, all its files checked.

    Raises:
        CorruptError: a file of the checkpoint is missing or altered.
    """
    check_folder(folder)
    load_encoder(folder, model.encoder)
    _read_rows(folder, model.head, only="head.")


def load_encoder(folder: Path, encoder: Encoder) -> None:
    """Fill an encoder from a checkpoint, of its tables the rows that it holds, whoever saved them.

    Raises:
        CorruptError: a file is missing or damaged, or is of another encoder.
    """

    def held(saved: dict[str, Tensor]) -> dict[str, Tensor]:
        for name, part, weight in tables(encoder):
            if name in saved:
                saved[name] = part.rows.own(saved[name])
            elif shape := shape_of_shards(folder, "weight", kind=_kind(name)):
                own = weight if len(weight) else part.rows.zeros(*shape)
                into, placement = {"weight": own}, part.rows.place(*shape)
                saved |= {
                    name: read_shards(folder, placement, into, only="weight", kind=_kind(name))["weight"]
                }
        return {name: aligned(tensor, most_bytes=tensor.nbytes) for name, tensor in saved.items()}

    read_encoder(folder, encoder, copy=False, held=held)


def _kind(table: str) -> str:
    """What the names of the files begin with that hold the rows of a table."""
    return f"{table}-rows"


def load_rest(folder: Path, model: Parts, optimizer: Optimizer) -> dict[str, Tensor]:
    """Put a checkpoint's head, if there is one, optimizer state and random states in place.

    Returns:
        What it carried.
    """
    head = model.head
    apart = {} if head is None else _read_rows(folder, head)
    placements = placed(model.encoder, head)
    for name, _, weight in tables(model.encoder):
        placement = placements.get(weight, Placement(len(weight)))
        rows = read_shards(folder, placement, only="optimizer.", kind=_kind(name))
        apart |= {key.removeprefix("optimizer."): value for key, value in rows.items()}
    tensors = read_tensors(folder / OPTIMIZER)
    for weight, placement in placements.items():
        ids = placement.ids()
        for name in _of_places(tensors, _places(optimizer, [weight])):
            tensors[name] = tensors[name][ids]
    tensors |= apart
    numbers = read_state(folder).optimizer
    with sound(folder / OPTIMIZER), sound(folder / STATE):  # one of them
        join_optimizer_state(optimizer, tensors, numbers)
    random = read_tensors(folder / RANDOM)
    with sound(folder / RANDOM):
        set_random_states(random)
        carried = {name: random.pop(name) for name in list(random) if name.startswith("carried.")}
        if head is not None:
            head.load_training_state({name.removeprefix("head."): value for name, value in random.items()})
    return {name.removeprefix("carried."): value for name, value in carried.items()}


def split_optimizer_state(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state as named tensors, and the numbers beside them."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            (tensors if isinstance(value, Tensor) else numbers)[f"{index}.{name}"] = value
    return tensors, numbers


def join_optimizer_state(
    optimizer: Optimizer, tensors: dict[str, Tensor], numbers: Mapping[str, int | float]
) -> None:
    """The inverse of ``split_optimizer_state``; the optimizer's own groups stay.

    Raises:
        CorruptError, ShapeError: the state is not of such an optimizer of these parameters.
    """
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **numbers}.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    if not state.keys() <= set(range(sum(len(group["params"]) for group in optimizer.param_groups))):
        raise CorruptError("the checkpoint holds state of more parameters than the model has.")
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

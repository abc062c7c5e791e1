"""Everything needed to continue to bitwise the same result, in one hashed folder a checkpoint."""

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from widemax.artifact import Model, read_head, read_tensors, write_head, write_tensors
from widemax.encoders import Encoder
from widemax.errors import CorruptError
from widemax.heads import Head
from widemax.storage import CHECKPOINTS, MANIFEST, check_folder, new_folder


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
    num_threads: int
    step: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    loss_rows: int = 0
    best_value: float | None = None
    best_step: int = 0
    bad_evaluations: int = 0
    refit_from: int | None = None
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def mean_loss(self) -> float:
        """Training loss of the running epoch, nats a row."""
        return self.loss_sum / max(1, self.loss_rows)


def folder_of(run: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return run / CHECKPOINTS / f"step-{step:08d}"


def save_checkpoint(run: Path, progress: Progress, model: Model, optimizer: Optimizer) -> None:
    """Save the state after ``progress.step`` steps, then drop all but the first, the latest and the best."""
    with new_folder(folder_of(run, progress.step), {"step": progress.step}) as folder:
        write_tensors(folder / "encoder.safetensors", model.encoder.state_dict())
        write_head(folder, model.head)
        tensors, numbers = split_optimizer_state(optimizer)
        write_tensors(folder / "optimizer.safetensors", tensors)
        head_state = {f"head.{name}": value for name, value in model.head.training_state().items()}
        random = {"torch": torch.get_rng_state(), **head_state}
        write_tensors(folder / "random.safetensors", random)
        state = {"progress": asdict(progress), "optimizer": numbers}
        (folder / "state.json").write_text(json.dumps(state, allow_nan=False), encoding="utf-8")
    keep_checkpoints(run, {0, progress.step, progress.best_step})


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
    check_folder(folder)
    return Progress(**json.loads((folder / "state.json").read_text(encoding="utf-8"))["progress"])


def load_encoder(folder: Path, encoder: Encoder) -> None:
    """Put a checkpoint's weights into an encoder, learned or not."""
    encoder.restore(read_tensors(folder / "encoder.safetensors"))


def load_weights(folder: Path, model: Model) -> None:
    """Put a checkpoint's weights into a model, all its files checked.

    Raises:
        CorruptError: a file of the checkpoint is missing or altered.
    """
    check_folder(folder)
    load_encoder(folder, model.encoder)
    read_head(folder, model.head)


def load_rest(folder: Path, head: Head, optimizer: Optimizer) -> None:
    """Put a checkpoint's head, optimizer state and random states in place."""
    read_head(folder, head)
    numbers = json.loads((folder / "state.json").read_text(encoding="utf-8"))["optimizer"]
    join_optimizer_state(optimizer, read_tensors(folder / "optimizer.safetensors"), numbers)
    random = read_tensors(folder / "random.safetensors")
    torch.set_rng_state(random.pop("torch"))
    head.load_training_state({name.removeprefix("head."): value for name, value in random.items()})


def split_optimizer_state(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state as named tensors, and the numbers beside them."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, Any] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            (tensors if isinstance(value, Tensor) else numbers)[f"{index}.{name}"] = value
    return tensors, numbers


def join_optimizer_state(optimizer: Optimizer, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
    """The inverse of ``split_optimizer_state``; the optimizer's own groups stay."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in (tensors | numbers).items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    if len(state) > sum(len(group["params"]) for group in optimizer.param_groups):
        raise CorruptError("the checkpoint holds state of more parameters than the model has.")
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})

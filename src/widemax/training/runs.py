"""The folder of a run from its first file to its last, whatever is trained in it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch

from widemax.config import TrainConfig
from widemax.errors import UsageError
from widemax.storage import (
    CHECKPOINTS,
    MANIFEST,
    NEW,
    WORK,
    current,
    foreign,
    read_manifest,
    saving,
    settle,
    writing,
)
from widemax.threads import using_threads
from widemax.training.checkpoint import latest_checkpoint
from widemax.training.clock import Clock
from widemax.training.evaluate import Metrics
from widemax.training.interrupt import stop_requested
from widemax.training.progress import Reporter
from widemax.training.steps import METRICS, Watch

M = TypeVar("M")


@dataclass(frozen=True)
class Outcome(Generic[M]):
    """A finished or interrupted run.

    Attributes:
        metrics: exact metrics on the held-out rows; empty where none were held out.
        baseline: the same metrics of the most frequent classes as everybody's answer.
        seconds: from the first file read to the last step, over all sessions.
        interrupted: a signal stopped it; ``resume`` continues.
    """

    run: Path
    model: M
    metrics: Metrics
    baseline: Metrics
    steps: int
    seconds: float
    interrupted: bool


Trained = Callable[[Path, Path, Path | None], Outcome[M]]
"""What trains in a workspace, with scratch space, from a checkpoint on."""


@contextmanager
def watching(config: TrainConfig, reporter: Reporter) -> Iterator[Watch]:
    """What a training is watched by; randomness starts from its seed, and what it sets is set back."""
    clock = Clock(config.time_limit_s)
    with (
        torch.random.fork_rng(devices=[]),
        using_threads(torch.get_num_threads()),
        reporter,
        stop_requested() as stop,
    ):
        torch.manual_seed(config.seed)
        yield Watch(reporter, stop, clock)


def begin(run: Path, train: Trained[M], *, overwrite: bool, reporter: Reporter) -> Outcome[M]:
    """Train in a new run, or beside the one that it is to replace.

    Raises:
        UsageError: the folder already holds something, or another process writes there.
    """
    with writing(run, overwrite=overwrite) as scratch:
        workspace = run
        if any(path.name != WORK for path in run.iterdir()):
            if others := foreign(run):
                reporter.say(f"left in {run}, which are not of the run: {', '.join(others)}")
            workspace = run / WORK / NEW
            with saving(str(workspace)):
                if workspace.exists():  # of a run that was to replace this one, and is given up whole
                    workspace.rename(scratch / NEW)
                workspace.mkdir()
        try:
            return train(workspace, scratch, None)
        except BaseException:
            _remove_unfinished(workspace)
            raise


def home_of(run: Path | str) -> Path:
    """The folder of a run, also by that of what is to replace it.

    Raises:
        UsageError: it is no run.
    """
    run = Path(run).expanduser()
    if run.parent.name == WORK:
        run = run.parent.parent
    if not (run / "config.toml").is_file():
        raise UsageError(f"{run} is not a run folder: it has no config.toml. Start one with `widemax train`.")
    return run


def go_on(run: Path, train: Trained[M], *, load: Callable[[Path], M], reporter: Reporter) -> Outcome[M]:
    """Go on in a run, or in what is to replace it, from the latest checkpoint; what is finished is loaded.

    Raises:
        UsageError: there is nothing to continue, or another process writes there.
    """
    left = any((run / name).exists() for name in (WORK, CHECKPOINTS))
    if not left and (outcome := _outcome_of(run, load)):
        return outcome
    with writing(run, overwrite=True) as scratch:
        workspace = run / WORK / NEW
        if (workspace / "config.toml").is_file():
            settle(workspace)
        else:
            if workspace.is_dir():
                reporter.say(f"what was to replace {run} had not begun to train; start it again")
                shutil.rmtree(workspace)
            workspace = run
            if outcome := _outcome_of(run, load):
                return outcome
        return train(workspace, scratch, latest_checkpoint(workspace))


def _outcome_of(run: Path, load: Callable[[Path], M]) -> Outcome[M] | None:
    """What a run gave that has come to its end; None where there is more to do.

    Raises:
        UsageError: it is no run of training.
    """
    folder = current(run)
    manifest = read_manifest(folder) if (folder / MANIFEST).is_file() else {}
    if manifest and "steps" in manifest and manifest["complete"]:
        return Outcome(
            run,
            load(run),
            manifest["metrics"],
            manifest.get("baseline", {}),
            manifest["steps"],
            manifest["seconds"],
            interrupted=False,
        )
    if manifest and not latest_checkpoint(run):
        raise UsageError(f"{run} is a saved model without checkpoints; load it with Model.load.")
    return None


def _remove_unfinished(run: Path) -> None:
    """Remove what a run wrote that has nothing to resume; the config, by which it is a run, goes last."""
    if latest_checkpoint(run) is None and not (run / MANIFEST).is_file():
        shutil.rmtree(run / CHECKPOINTS, ignore_errors=True)
        if (run / CHECKPOINTS).exists():  # as where too many files are open
            return
        for name in (METRICS, "config.toml"):
            (run / name).unlink(missing_ok=True)
        if run.parent.name == WORK:
            run.rmdir()

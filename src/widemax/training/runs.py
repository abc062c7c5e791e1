"""The folder of a run from its first file to its last, whatever is trained in it."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch

from widemax.charts import Drawing
from widemax.config import Config, TrainConfig
from widemax.devices import CPU, repeatable
from widemax.distributed import ALONE, World
from widemax.errors import UsageError
from widemax.evaluation.headlines import rounded_epochs
from widemax.evaluation.report import Findings, ReportData, write_report
from widemax.storage import (
    CHECKPOINTS,
    FINISHED,
    MANIFEST,
    NEW,
    WORK,
    current,
    foreign,
    new_folder,
    read_manifest,
    saving,
    settle,
    writing,
)
from widemax.task import System, Task
from widemax.threads import using_threads
from widemax.training.checkpoint import folder_of, latest_checkpoint
from widemax.training.clock import Clock
from widemax.training.evaluate import Metrics, made_now
from widemax.training.interrupt import stop_requested
from widemax.training.progress import Reporter
from widemax.training.steps import METRICS, Job, Watch, lines_of


class Saved(Protocol):
    """What is trained, as it is written into a run."""

    @property
    def task(self) -> Task | System: ...

    @property
    def config(self) -> Config: ...

    def facts(self) -> dict[str, Any]:
        """What its manifest says of it."""

    def write(self, folder: Path, *, home: Path) -> None:
        """Write its files into a folder that is to stand at ``home``."""


M = TypeVar("M", bound=Saved)


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
def watching(
    config: TrainConfig, reporter: Reporter, device: torch.device = CPU, world: World = ALONE
) -> Iterator[Watch]:
    """What a training is watched by; randomness starts from its seed, and what it sets is set back."""
    clock = Clock(config.time_limit_s)
    with (
        repeatable(device, config.seed),
        using_threads(torch.get_num_threads()),
        reporter,
        stop_requested() as stop,
    ):
        yield Watch(reporter, stop, clock, world)


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
    if not left and (outcome := outcome_of(run, load)):
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
            if outcome := outcome_of(run, load):
                return outcome
        return train(workspace, scratch, latest_checkpoint(workspace))


def take_best(job: Job[Any], load: Callable[[Path], None], reporter: Reporter, *, rows: str = "rows") -> None:
    """Load the weights that were best on the held-out rows, where later steps have made them worse."""
    best = job.progress.best_step
    if best not in (0, job.progress.step):
        load(folder_of(job.run, best))
        reporter.say(f"best on the held-out {rows}: step {best}")


def finish(
    job: Job[Any],
    model: M,
    target: Path,
    *,
    metrics: Metrics,
    num_held_out: int,
    interrupted: bool,
    baseline: Metrics | None = None,
    findings: Findings | None = None,
    drawings: Mapping[str, Drawing] | None = None,
) -> Outcome[M]:
    """Write a model where it belongs: its files, its report, how training went and the manifest, in one."""
    progress, baseline = job.progress, baseline or {}
    said = {"num_train_rows": job.num_rows, **model.facts(), "metrics": metrics, "baseline": baseline}
    said |= {"complete": not interrupted, "steps": progress.step, "seconds": progress.seconds}
    told = [*made_now(), f"trained in {progress.seconds:.1f} s"]
    last = max((record["epoch"] or 0.0 for record in progress.history), default=0.0)
    if last < (epochs := model.config.train.epochs):
        told.append(f"stopped at epoch {rounded_epochs(last)} of {epochs}")
    with new_folder(target / WORK / FINISHED, said) as folder:
        model.write(folder, home=target)
        report = ReportData(
            title=target.resolve().name,
            task=model.task,
            metrics={"rows": num_held_out, "num_classes": said["num_classes"], **metrics},
            baseline=baseline,
            config=model.config.model_dump(mode="json", exclude_none=True),
            history=progress.history,
            findings=findings,
            drawings=drawings or {},
            told=told,
        )
        write_report(folder / "report.html", report)
        if progress.history:
            (folder / METRICS).write_text(lines_of(progress), encoding="utf-8")
    settle(target)
    return Outcome(target, model, metrics, baseline, progress.step, progress.seconds, interrupted)


def outcome_of(run: Path, load: Callable[[Path], M]) -> Outcome[M] | None:
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
        if run.parent.name == WORK and run.exists():  # it has not become the run
            run.rmdir()

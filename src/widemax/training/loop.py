"""A training run from a config to a saved model; reads from top to bottom."""

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from widemax.artifact import Model, facts, write_model
from widemax.config import Config
from widemax.data import Data, Frame, Source
from widemax.errors import ConfigError, UsageError, counted
from widemax.evaluation import Threshold
from widemax.evaluation.headlines import rounded_epochs
from widemax.evaluation.metrics import metrics
from widemax.evaluation.report import ReportCollector, ReportData, write_report
from widemax.heads import CountingHead
from widemax.optim import RowOptimizer, linear_decay
from widemax.options import checked
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
    write_file,
    writing,
)
from widemax.task import Task
from widemax.threads import threads_for, using_threads
from widemax.training.checkpoint import (
    Progress,
    folder_of,
    latest_checkpoint,
    load_weights,
    save_checkpoint,
)
from widemax.training.clock import Clock
from widemax.training.counting import finish_counts
from widemax.training.evaluate import (
    Metrics,
    calibrate,
    calibration_rows,
    collect_metrics,
    made_now,
    numbers_of,
    rows_told,
)
from widemax.training.feed import EncodedRows, Feed
from widemax.training.interrupt import stop_requested
from widemax.training.prepare import Session, prepare, restart, sources_of
from widemax.training.progress import PlainReporter, Reporter, shown_loss
from widemax.training.separating import add_separators, fit_separators, separators_of

METRICS = "metrics.jsonl"
FEW_STEPS = 100
"""So few prove no convergence: patience waits for them, and the latest of their evaluations is the best."""
EVALUATION_ROWS = 2048
# Under a time limit: of what an evaluation is predicted from, the share of the limit it may take, and a rate
# of writing and hashing that disks reach, until saving has been measured.
TRIED_OPERATIONS = 5e9
EVALUATION_SHARE = 0.1
SAVED_BYTES_PER_S = 1e8


@dataclass(frozen=True)
class Outcome:
    """A finished or interrupted run.

    Attributes:
        metrics: exact metrics on the held-out rows; empty where none were held out.
        baseline: the same metrics of the most frequent classes as everybody's answer.
        seconds: from the first file read to the last step, over all sessions.
        interrupted: a signal stopped it; ``resume`` continues.
    """

    run: Path
    model: Model
    metrics: Metrics
    baseline: Metrics
    steps: int
    seconds: float
    interrupted: bool


@checked
def train(
    config: Config,
    *,
    data: Data | Iterable[Data] | None = None,
    valid: Data | Iterable[Data] | None = None,
    classes: Data | Iterable[Data] | None = None,
    reporter: Reporter | None = None,
    overwrite: bool = False,
) -> Outcome:
    """Train a model as configured and save it in ``config.output.dir``.

    Args:
        config: what differs from the defaults is enough; the completed config is saved in the run.
        data: the training rows, in place of ``config.data.train``: a frame of pandas (2.2 or later) or
            polars, a pyarrow table, or what a config can name. Rows in memory are not saved with the run.
        valid: the validation rows, likewise.
        classes: the table of classes, likewise.
        reporter: where progress is told; nowhere by default.
        overwrite: replace a run that is already there instead of refusing. It stays until the new one is
            whole; files that are not of it stay for good.

    Raises:
        UsageError: the folder already holds something, another process writes there, training rows are
            named twice, or the config names a format for frames.
        DataError: the data cannot be used.

    Example:
        >>> config = Config(data={"train": "clinc150", "target": "intent"})
        >>> outcome = train(config)  # doctest: +SKIP
        >>> outcome = train(Config(data={"target": "intent"}), data=frame)  # doctest: +SKIP
    """
    for key, given in (("train", data), ("valid", valid), ("classes", classes)):
        if given is not None and (names := getattr(config.data, key)):
            raise UsageError(
                f"data.{key} in the config already names {list(names)}; leave it or the frame out."
            )
    run = Path(config.output.dir).expanduser()
    sources = sources_of(config, data, valid, classes)
    if config.data.format and all(type(source) is Frame for source in [*sources[1], *sources[2]]):
        raise UsageError(
            f"data.format is {config.data.format!r}, but a frame in memory has no format. Leave it out."
        )
    reporter = reporter or PlainReporter(quiet=True)
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
            return _train(*sources, workspace, run, scratch, None, reporter)
        except BaseException:
            _remove_unfinished(workspace)
            raise


@checked
def resume(
    run: Path | str,
    *,
    data: Data | Iterable[Data] | None = None,
    valid: Data | Iterable[Data] | None = None,
    classes: Data | Iterable[Data] | None = None,
    reporter: Reporter | None = None,
) -> Outcome:
    """Continue a run from its latest checkpoint to bitwise the result it would have had.

    Holds on the same machine with the same data. Under a time limit the learning rate follows the clock, and
    that cannot be repeated.

    Args:
        run: its folder.
        data: the training rows again, where they were in memory or their files have moved.
        valid: the validation rows again, likewise.
        classes: the table of classes again, likewise.
        reporter: where progress is told; nowhere by default.

    Raises:
        UsageError: the folder is no run, holds nothing to continue, another process writes there, or its
            rows were in memory.
        DataError: the data have changed since.
    """
    run = Path(run).expanduser()
    if run.parent.name == WORK:  # which is to replace the run around it
        run = run.parent.parent
    if not (run / "config.toml").is_file():
        raise UsageError(f"{run} is not a run folder: it has no config.toml. Start one with `widemax train`.")
    left = any((run / name).exists() for name in (WORK, CHECKPOINTS))
    if not left and (outcome := _outcome_of(run)):
        return outcome
    reporter = reporter or PlainReporter(quiet=True)
    with writing(run, overwrite=True) as scratch:
        workspace = run / WORK / NEW
        if (workspace / "config.toml").is_file():
            settle(workspace)
        else:
            if workspace.is_dir():
                reporter.say(f"what was to replace {run} had not begun to train; start it again")
                shutil.rmtree(workspace)
            workspace = run
            if outcome := _outcome_of(run):
                return outcome
        sources = sources_of(Config.load(workspace / "config.toml"), data, valid, classes)
        return _train(*sources, workspace, run, scratch, latest_checkpoint(workspace), reporter)


def _outcome_of(run: Path) -> Outcome | None:
    """What a run gave that has come to its end; None where there is more to do.

    Raises:
        UsageError: it is no run of training.
    """
    folder = current(run)
    manifest = read_manifest(folder) if (folder / MANIFEST).is_file() else {}
    if manifest and "steps" in manifest and manifest["complete"]:
        return Outcome(
            run,
            Model.load(run),
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


def _train(
    config: Config,
    train_sources: list[Source],
    valid_sources: list[Source],
    class_sources: list[Source],
    run: Path,
    target: Path,
    scratch: Path,
    checkpoint: Path | None,
    reporter: Reporter,
) -> Outcome:
    clock = Clock(config.train.time_limit_s)
    with (
        torch.random.fork_rng(devices=[]),
        using_threads(torch.get_num_threads()),
        reporter,
        stop_requested() as stop,
    ):
        torch.manual_seed(config.train.seed)
        session = prepare(
            *(config, train_sources, valid_sources, class_sources, run, scratch, checkpoint, reporter)
        )
        watch = Watch(reporter, stop, clock)
        session = _begin(session, watch)
        progress = session.progress
        interrupted = False
        if progress.refit_from is None:
            if checkpoint is None and session.refits:
                save_checkpoint(run, progress, session.model, session.optimizer)
            epochs = session.model.config.train.epochs
            interrupted = _fit(session, watch, session.train, session.valid, epochs=epochs)
            if session.refits and not interrupted:
                session = restart(session)
                reporter.say(f"fitting again on all {counted(len(session.everything), 'row')}")
        if progress.refit_from is not None and not interrupted:
            interrupted = _fit(session, watch, session.second, None, epochs=session.best_epochs)
        return _finish(session, run if interrupted else target, reporter, interrupted)


@dataclass(frozen=True)
class Watch:
    """What the loop looks at between steps, and where it tells how it goes."""

    reporter: Reporter
    stop: Callable[[], bool]
    clock: Clock


def _begin(session: Session, watch: Watch) -> Session:
    """Start the clock of the steps; a time limit keeps as many held-out rows as there is time to evaluate."""
    clock, model = watch.clock, session.model
    clock.earlier_s = session.progress.seconds
    if clock.limit_s is None:
        return session
    weights = [*model.encoder.state_dict().values(), *model.head.state_dict().values()]
    clock.saving_s = sum(tensor.nbytes for tensor in weights) / SAVED_BYTES_PER_S
    if session.valid is not None:
        num_tried = max(1, min(len(session.valid), int(TRIED_OPERATIONS / _answer_operations(model))))
        tried = session.valid.first(num_tried)
        _metrics(model, tried)  # the first time more is loaded and allocated
        started = time.perf_counter()
        _metrics(model, tried)
        row_s = (time.perf_counter() - started) / num_tried
        num_rows = int(EVALUATION_SHARE * clock.limit_s / row_s)
        if num_rows < len(session.valid):
            watch.reporter.say(
                f"evaluating {num_rows:,} of {len(session.valid):,} held-out rows, to keep the time limit"
            )
            session = replace(session, valid=session.valid.first(max(1, num_rows)))
        clock.evaluation_s = row_s * len(session.valid or ())
    if clock.is_over():
        watch.reporter.say(
            f"reading took {clock.seconds:.1f} s of the {clock.limit_s:g} s, and evaluating and saving take "
            f"about {clock.closing_s:.1f} s: one step is taken. Give a longer time limit."
        )
    clock.begin_steps()
    return session


def _fit(session: Session, watch: Watch, feed: Feed, valid: Feed | None, *, epochs: int) -> bool:
    """Take steps until the last epoch, the time limit, patience or a signal; whether a signal stopped it."""
    config, progress, clock = session.model.config.train, session.progress, watch.clock
    steps_per_epoch = -(-len(feed) // session.batch_size)
    total_steps = epochs * steps_per_epoch
    first_step = progress.refit_from or 0
    last_save = time.perf_counter()
    steps = range(progress.step - first_step, epochs * steps_per_epoch)
    with closing(feed.ahead(_shuffled(session, len(feed), steps))) as batches:
        for step, rows in zip(steps, batches, strict=True):
            if valid is not None and step >= FEW_STEPS and progress.bad_evaluations >= config.patience:
                return False
            started = time.perf_counter()
            factor = linear_decay(max(step, clock.share * total_steps), total_steps)
            take_step(session, rows, factor, counts=step < steps_per_epoch)
            step_s = time.perf_counter() - started
            progress.seconds = clock.seconds
            rows_per_s = progress.step * session.batch_size / progress.seconds
            interrupted = watch.stop()
            if not interrupted:  # the terminal may be gone
                watch.reporter.step(step + 1, total_steps, progress.mean_loss, rows_per_s)

            epoch_ends = (step + 1) % steps_per_epoch == 0
            is_over = clock.is_over(step_s)
            if epoch_ends or is_over or interrupted:
                finish_counts(session, valid)
            if epoch_ends or (is_over and not interrupted):
                _evaluate(session, watch, valid, (step + 1) / steps_per_epoch)
                is_over = is_over or clock.is_over(step_s)
            stopping = interrupted or is_over
            if epoch_ends or stopping or time.perf_counter() - last_save >= config.checkpoint_every_s:
                last_save = time.perf_counter()
                save_checkpoint(session.run, progress, session.model, session.optimizer)
                clock.saving_s = time.perf_counter() - last_save
            if is_over and not interrupted:
                watch.reporter.say(
                    f"the time limit ended training after {rounded_epochs((step + 1) / steps_per_epoch)} "
                    f"of {counted(config.epochs, 'epoch')}"
                )
            if stopping:
                return interrupted
    return False


def _shuffled(session: Session, num_rows: int, steps: range) -> Iterator[np.ndarray]:
    """The positions in the feed that each step takes: every epoch all of them, in an order of its own."""
    batch_size, seed = session.batch_size, session.model.config.train.seed
    steps_per_epoch = -(-num_rows // batch_size)
    for epoch, in_epoch in groupby(steps, key=lambda step: step // steps_per_epoch):
        order_N = np.random.default_rng([seed, epoch]).permutation(num_rows)
        for step in in_epoch:
            yield order_N[step % steps_per_epoch * batch_size :][:batch_size]


def take_step(
    session: Session, rows: EncodedRows, learning_rate_factor: float, *, counts: bool = False
) -> None:
    """One optimizer step on these rows; a head that counts does so in the first pass over them.

    Raises:
        ConfigError: training has diverged.
    """
    model, optimizer, progress = session.model, session.optimizer, session.progress
    if counts and isinstance(model.head, CountingHead):
        model.head.partial_fit(model.encoder.eval()(rows.features), rows.labels)
        progress.step += 1
        return
    learning_rate = model.config.train.learning_rate
    assert isinstance(learning_rate, float)
    model.encoder.train()
    model.head.train()
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * learning_rate_factor * group.get("factor", 1.0)
    with using_threads(threads_for(session.step_operations)):
        optimizer.zero_grad(set_to_none=True)
        loss = model.head(model.encoder(rows.features), rows.labels)
        loss.backward()
        optimizer.step()
    if not np.isfinite(loss.item()):
        raise ConfigError(
            f"the loss is {loss.item()} after {progress.step} steps: training has diverged. "
            f"Lower train.learning_rate (now {learning_rate}) and train again."
        )
    progress.step += 1
    progress.loss_sum += loss.item() * len(rows.labels)
    progress.loss_rows += len(rows.labels)


def _evaluate(session: Session, watch: Watch, valid: Feed | None, epoch: float) -> None:
    """Record an epoch, with exact metrics on the held-out rows if there are any; note the best so far."""
    model, progress, config = session.model, session.progress, session.model.config.train
    if isinstance(session.optimizer, RowOptimizer):
        session.optimizer.catch_up()
    record: dict[str, float | None] = {
        "step": progress.step,
        "epoch": round(epoch, 4),
        "seconds": round(progress.seconds, 3),
        "train_loss": progress.mean_loss,
    }
    sentence = f"epoch {rounded_epochs(epoch)}{shown_loss(progress.mean_loss)}"
    progress.loss_sum, progress.loss_rows = 0.0, 0
    if valid is not None:
        started = time.perf_counter()
        values, _ = _metrics(model, valid)
        watch.clock.evaluation_s = time.perf_counter() - started
        record |= {f"valid_{name}": value for name, value in values.items()}
        value = values[config.metric]
        if progress.step <= FEW_STEPS or _is_better(value, progress.best_value, config.metric):
            progress.best_value, progress.best_step, progress.bad_evaluations = value, progress.step, 0
        else:
            progress.bad_evaluations += 1
        sentence += f"  held-out {config.metric} " + ("undefined" if value is None else f"{value:.4f}")
    progress.history.append(record)
    write_file(session.run / METRICS, _lines(progress))
    watch.reporter.say(f"{sentence}  {progress.seconds:.1f} s")


def _lines(progress: Progress) -> str:
    """The records of metrics.jsonl."""
    return "".join(json.dumps(record) + "\n" for record in progress.history)


def _is_better(value: float | None, best: float | None, metric: str) -> bool:
    """Whether a metric has improved; one that is undefined has not, except at first."""
    if value is None or best is None:
        return best is None
    return value > best if metrics[metric].larger_is_better else value < best


def _answer_operations(model: Model) -> int:
    """Of the exact answer for one row."""
    return 2 * (model.encoder.operations + model.head.num_classes * model.head.operations)


def _metrics(
    model: Model,
    feed: Feed,
    collector: ReportCollector | None = None,
    threshold: Threshold | None = None,
) -> tuple[Metrics, Metrics]:
    """Of the model and, where a report is made of them, of the baseline, which no step changes."""
    num_rows = min(len(feed), EVALUATION_ROWS)
    with using_threads(threads_for(num_rows * _answer_operations(model))):
        rows = feed.batches(EVALUATION_ROWS)
        return collect_metrics(
            model, rows, collector, with_baseline=collector is not None, threshold=threshold
        )


def _told(session: Session) -> Iterator[str]:
    """How long training took, and where it stopped before its last epoch."""
    progress, epochs = session.progress, session.model.config.train.epochs
    yield f"trained in {progress.seconds:.1f} s"
    last = max((record["epoch"] or 0.0 for record in progress.history), default=0.0)
    if last < epochs:
        yield f"stopped at epoch {rounded_epochs(last)} of {epochs}"


def answering(session: Session, model: Model) -> Model:
    """The model as it is saved: with the classes that no row has, and with weights in place of a tower."""
    return model if session.classes is None else model.settled(session.classes)


def _finish(session: Session, target: Path, reporter: Reporter, interrupted: bool) -> Outcome:
    """Calibrate and evaluate the best weights on the held-out rows, and write the model where it belongs."""
    model, progress, run = session.model, session.progress, session.run
    session.optimizer.state.clear()  # twice the weights, which no step needs any more
    values: Metrics = {}
    baseline: Metrics = {}
    share = 0.0
    collector = None
    if session.valid is not None:
        if progress.best_step not in (0, progress.step):
            load_weights(folder_of(run, progress.best_step), model)
            reporter.say(f"best on the held-out rows: step {progress.best_step}")
        temperature = float(model.head.calibration_temperature)
        one_softmax = model.task.one_label and model.head.normalizer == "softmax"
        if isinstance(model.head, CountingHead):
            if sentence := model.head.told():
                reporter.say(sentence)
        elif one_softmax:
            held_out = calibration_rows(model, session.valid)
            model = calibrate(model, session.train, held_out)
            if not interrupted:
                share = fit_separators(model, session.train, held_out)
            del held_out
            temperature = float(model.head.calibration_temperature)
            reporter.say(f"calibrated: temperature {temperature:.3f}")
            if share:
                reporter.say("linear separators have a part in the answers")
            if model.neighbors is not None:
                reporter.say(str(model.neighbors))
        whole = answering(session, model)
        collector = ReportCollector(model.task, class_counts=whole.vocabulary.counts)
        threshold = Threshold() if model.task is Task.SEVERAL else None
        values, baseline = _metrics(whole, session.valid, collector, threshold)
        if threshold is not None:
            model = replace(model, threshold=threshold.best())
        if progress.refit_from is not None and not interrupted:
            # The second fit is saved, with the temperature of the held-out rows.
            load_weights(folder_of(run, progress.step), model)
            model.head.calibration_temperature.fill_(temperature)
            if share:
                add_separators(model, separators_of(model, session.everything), share)
            if model.neighbors is not None:
                rows, labels = numbers_of(model, session.everything)
                model = replace(model, neighbors=replace(model.neighbors, rows=rows, labels=labels))

    def tell(positions: list[int]) -> dict[int, tuple[str, str]]:
        assert session.valid is not None
        # Reading the files again takes time that a limit does not leave.
        if model.config.train.time_limit_s is not None:
            return {}
        if session.held_out.fingerprint() != session.held_out_fingerprint:
            reporter.say("the data have changed since they were read: the report does not show their rows")
            return {}
        numbers = {position: int(session.valid.rows_N[position]) for position in positions}
        told = rows_told(session.held_out, numbers.values())
        return {position: told[number] for position, number in numbers.items() if number in told}

    model = answering(session, model)
    said = facts(model, values, complete=not interrupted)
    said |= {"baseline": baseline, "steps": progress.step, "seconds": progress.seconds}
    with new_folder(target / WORK / FINISHED, said) as folder:
        write_model(folder, model, home=target)
        write_report(
            folder / "report.html",
            ReportData(
                title=target.resolve().name,
                task=model.task,
                metrics={"rows": len(session.valid or ()), "num_classes": model.head.num_classes, **values},
                baseline=baseline,
                config=model.config.model_dump(mode="json", exclude_none=True),
                history=progress.history,
                findings=collector.findings(decode=model.vocabulary.decode, tell=tell) if collector else None,
                told=(*made_now(), *_told(session)),
            ),
        )
        if progress.history:
            (folder / METRICS).write_text(_lines(progress), encoding="utf-8")
    settle(target)
    return Outcome(target, model, values, baseline, progress.step, progress.seconds, interrupted)

"""A training run from a config to a saved model; reads from top to bottom."""

import time
from collections.abc import Generator, Iterable
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from widemax.artifact import Model
from widemax.artifact.model import build_encoder, build_head
from widemax.config import Config
from widemax.conformity import Conformity
from widemax.data import Data, Frame, Source
from widemax.devices import CPU, answering_device, autocast
from widemax.distributed import ShardedHead, World, joined, placed, sum_gradients, tables, world_size
from widemax.encoders import Encoder, TableRows
from widemax.errors import UsageError, counted
from widemax.evaluation import Threshold
from widemax.evaluation.metrics import metrics
from widemax.evaluation.report import ReportCollector
from widemax.heads import CountingHead, Head, Labels, SeveralLabels
from widemax.optim import RowOptimizer
from widemax.optim.stochastic_rounding import mixed_seed
from widemax.options import checked
from widemax.storage import NEW, WORK, saving
from widemax.systems import about, load, refuse_keys, with_task
from widemax.task import Task
from widemax.threads import threads_for, using_threads
from widemax.training.checkpoint import folder_of, load_weights, save_checkpoint
from widemax.training.counting import finish_counts
from widemax.training.defaults import training_device
from widemax.training.direct import direct_loss
from widemax.training.evaluate import (
    Metrics,
    calibrate,
    calibration_rows,
    collect_metrics,
    numbers_of,
    rows_told,
)
from widemax.training.feed import EncodedRows, Feed
from widemax.training.prepare import Session, in_several, narrow, prepare, restart, sources_of, widen
from widemax.training.progress import PlainReporter, Reporter
from widemax.training.runs import Outcome, Trained, begin, finish, go_on, home_of, take_best, watching
from widemax.training.separating import add_separators, fit_separators, linear_parts
from widemax.training.steps import Job, Watch, fit, set_rates, shuffled
from widemax.training.system import SystemJob
from widemax.training.together import together, was_begun

EVALUATION_ROWS = 2048
# Under a time limit: of what an evaluation is predicted from, the share of the limit it may take, and a rate
# of writing and hashing that disks reach, until saving has been measured.
TRIED_OPERATIONS = 5e9
EVALUATION_SHARE = 0.1
SAVED_BYTES_PER_S = 1e8
ZEROS_BYTES = 2**20


@checked
def train(
    config: Config,
    *,
    data: Data | Iterable[Data] | None = None,
    valid: Data | Iterable[Data] | None = None,
    classes: Data | Iterable[Data] | None = None,
    items: Data | Iterable[Data] | None = None,
    users: Data | Iterable[Data] | None = None,
    reporter: Reporter | None = None,
    overwrite: bool = False,
) -> Outcome[Any]:
    """Train a model as configured and save it in ``config.output.dir``.

    Args:
        config: what differs from the defaults is enough; the completed config is saved in the run. Its
            ``data.task`` may name a system, such as "translate" for lines with their translations.
        data: the training rows, in place of ``config.data.train``: a frame of pandas (2.2 or later) or
            polars, a pyarrow table, or what a config can name. Rows in memory are not saved with the run.
        valid: the validation rows, likewise.
        classes: the table of classes, likewise.
        items, users: tables of the items and users of events, likewise.
        reporter: where progress is told; nowhere by default.
        overwrite: replace a run that is already there instead of refusing. It stays until the new one is
            whole; files that are not of it stay for good.

    Raises:
        ConfigError: a key says nothing to what is trained.
        UsageError: the folder already holds something, another process writes there, training rows are
            named twice, or the config names a format for frames.
        DataError: the data cannot be used.

    Example:
        >>> config = Config(data={"train": "clinc150", "target": "intent"})
        >>> outcome = train(config)  # doctest: +SKIP
        >>> outcome = train(Config(data={"target": "intent"}), data=frame)  # doctest: +SKIP
    """
    config = with_task(config)
    refuse_keys(config)
    rows = {"train": data, "valid": valid, "classes": classes, "items": items, "users": users}
    reporter = reporter or PlainReporter(quiet=True)
    run = Path(config.output.dir).expanduser()
    if system := _system(config, rows):
        trained_by = _trained_by(system, system.completed(config), run, reporter)
        return begin(run, trained_by, overwrite=overwrite, reporter=reporter)
    for key, given in rows.items():
        if given is not None and (names := getattr(config.data, key)):
            raise UsageError(
                f"data.{key} in the config already names {list(names)}; leave it or the frame out."
            )
    sources = sources_of(config, *rows.values())
    if config.data.format and all(type(source) is Frame for source in [*sources[1], *sources[2]]):
        raise UsageError(
            f"data.format is {config.data.format!r}, but a frame in memory has no format. Leave it out."
        )

    several = config.distributed
    if several.workers > 1 and world_size() == 1:
        raise UsageError(
            f"distributed.workers is {several.workers}: several processes are started by `widemax train` or "
            "torchrun, each of which then calls train(config)."
        )
    return _in_world(several.timeout_s, run, rows, reporter, sources, overwrite=overwrite)


@checked
def resume(
    run: Path | str,
    *,
    data: Data | Iterable[Data] | None = None,
    valid: Data | Iterable[Data] | None = None,
    classes: Data | Iterable[Data] | None = None,
    items: Data | Iterable[Data] | None = None,
    users: Data | Iterable[Data] | None = None,
    reporter: Reporter | None = None,
) -> Outcome[Any]:
    """Continue a run from its latest checkpoint to bitwise the result it would have had.

    Holds on the same machine with the same data. Under a time limit the learning rate follows the clock, and
    that cannot be repeated.

    Args:
        run: its folder.
        data: the training rows again, where they were in memory or their files have moved.
        valid: the validation rows again, likewise.
        classes: the table of classes again, likewise.
        items, users: the tables of items and users again, likewise.
        reporter: where progress is told; nowhere by default.

    Raises:
        UsageError: the folder is no run, holds nothing to continue, another process writes there, or its
            rows were in memory.
        DataError: the data have changed since.
    """
    run, reporter = home_of(run), reporter or PlainReporter(quiet=True)
    replacing = run / WORK / NEW / "config.toml"
    config = with_task(Config.load(replacing if replacing.is_file() else run / "config.toml"))
    rows = {"train": data, "valid": valid, "classes": classes, "items": items, "users": users}
    if system := _system(config, rows):
        return go_on(run, _trained_by(system, None, run, reporter), load=load, reporter=reporter)
    return _in_world(config.distributed.timeout_s, run, rows, reporter)


def _in_world(
    timeout_s: float,
    run: Path,
    rows: dict[str, Any],
    reporter: Reporter,
    sources: tuple[Config, list[Source], list[Source], list[Source]] | None = None,
    *,
    overwrite: bool = False,
) -> Outcome[Model]:
    """Begin a run with its config and sources, or go on in one with those that its config names."""
    with joined(timeout_s) as world:
        told = reporter if world.is_first else PlainReporter(quiet=True)

        def trained(workspace: Path, scratch: Path, checkpoint: Path | None) -> Outcome[Model]:
            read, path = sources, workspace / "config.toml"
            if read is None or checkpoint is not None or path.is_file():  # the last of processes that died
                read = sources_of(Config.load(path), *rows.values())
            return _train(*read, workspace, run, scratch, checkpoint, told, world)

        def lead(train: Trained[Model]) -> Outcome[Model]:
            if sources is None or was_begun(run):
                return go_on(run, train, load=Model.load, reporter=told)
            return begin(run, train, overwrite=overwrite, reporter=told)

        return together(world, lead, trained, Model.load)


def _trained_by(
    system: type[SystemJob[Any, Any]], config: Config | None, target: Path, reporter: Reporter
) -> Trained[Any]:
    """What trains a system in a workspace, by the config saved there where none is given."""

    def trained(workspace: Path, scratch: Path, checkpoint: Path | None) -> Outcome[Any]:
        own = config or system.completed(Config.load(workspace / "config.toml"))
        return system.train_in(own, workspace, target, checkpoint, reporter)

    return trained


def _system(config: Config, rows: dict[str, Any]) -> type[SystemJob[Any, Any]] | None:
    """What trains it where it is no classifier.

    Raises:
        UsageError: rows in memory for a system that reads files.
    """
    home = about(config.data.task).home
    if home and any(given is not None for given in rows.values()):
        task = str(config.data.task)
        raise UsageError(f"data.task {task!r} reads files, not rows in memory; name them in the config.")
    if home and world_size() > 1:
        raise UsageError(
            f"data.task {str(config.data.task)!r} trains in one process; start it without torchrun."
        )
    return import_module(home).Training if home else None


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
    world: World,
) -> Outcome[Model]:
    if world.size > 1:
        config = in_several(config, world.size)
    device = training_device(config)
    with watching(config.train, reporter, device, world) as watch:
        session = prepare(
            *(config, train_sources, valid_sources, class_sources, run, scratch, checkpoint, reporter, world)
        )
        session = _begin(session, watch)
        progress = session.progress
        interrupted = False
        if progress.refit_from is None:
            if checkpoint is None and session.refits:
                save_checkpoint(run, progress, session.model, session.optimizer, world=world)
            job = _Fit(session, session.train, session.valid)
            interrupted = fit(job, watch, epochs=job.config.epochs, patient=session.valid is not None)
            if session.refits and not interrupted:
                session = restart(session)
                reporter.say(f"fitting again on all {counted(len(session.everything), 'row')}")
        if progress.refit_from is not None and not interrupted:
            job = _Fit(session, session.second, None)
            interrupted = fit(job, watch, epochs=session.best_epochs, patient=False)
        return _finish(job, run if interrupted else target, reporter, interrupted)


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


class _Fit(Job[EncodedRows]):
    """A fit of a session to some rows, watched on others."""

    def __init__(self, session: Session, feed: Feed, valid: Feed | None) -> None:
        self.session, self.feed, self.valid = session, feed, valid
        self.run, self.config, self.progress = session.run, session.model.config.train, session.progress
        self.num_rows, self.steps_per_epoch = len(feed), -(-len(feed) // session.batch_size)
        self.larger_is_better = metrics[self.config.metric].larger_is_better

    def batches(self, steps: range) -> Generator[EncodedRows, None, None]:
        size, seed = self.session.batch_size, self.config.seed
        positions = shuffled(len(self.feed), size, steps, seed=seed)
        return self.feed.ahead(map(self._own, positions))

    def _own(self, positions_B: np.ndarray) -> np.ndarray:
        """Those that this process takes; one, which counts nothing, where there are too few for all."""
        share = self.session.world.share(len(positions_B))
        return positions_B[share.start : share.stop] if share else positions_B[:1]

    def step(self, batch: EncodedRows, rate: float, *, epoch: int) -> tuple[float, int]:
        first = (self.progress.step - (self.progress.refit_from or 0)) % self.steps_per_epoch
        size = self.session.batch_size
        num_rows = min(size, len(self.feed) - first * size)
        return take_step(self.session, batch, rate, counts=epoch == 0, num_rows=num_rows)

    @property
    def is_counted(self) -> bool:
        """Whether a head that counts has just met all rows."""
        counts = isinstance(self.session.model.head, CountingHead)
        return counts and self.progress.step == self.steps_per_epoch

    @property
    def is_begun(self) -> bool:
        """Whether rows were counted that gradients train on from now, so that nothing need be judged yet."""
        return self.is_counted and self.config.epochs > 1 and self.config.time_limit_s is None

    def settle(self, *, stops: bool) -> None:
        finish_counts(self.session, self.valid, begins=self.is_begun and not stops)

    def evaluate(self) -> Metrics:
        if isinstance(self.session.optimizer, RowOptimizer):
            self.session.optimizer.catch_up()
        if self.valid is not None and self.is_counted and self.config.epochs == 1:
            self.progress.best_step = self.progress.step  # the one there is, which is evaluated in the end
            return {}
        return {} if self.valid is None or self.is_begun else _metrics(self.session.model, self.valid)[0]

    def save(self) -> None:
        session = self.session
        save_checkpoint(self.run, self.progress, session.model, session.optimizer, world=session.world)


def take_step(
    session: Session, rows: EncodedRows, rate: float, *, counts: bool = False, num_rows: int | None = None
) -> tuple[float, int]:
    """One optimizer step on these rows; a head that counts does so in the first pass over them.

    Args:
        session: what is trained.
        rows: those that this process takes.
        rate: what the learning rate is multiplied by.
        counts: whether this is the first pass over the rows.
        num_rows: how many all processes take; as many as this one unless given.

    Returns:
        The sum of the losses of the rows and how many they are; nothing where they were counted.
    """
    model, optimizer = session.model, session.optimizer
    if counts and isinstance(model.head, CountingHead):
        model.head.partial_fit(model.encoder.eval()(rows.features), rows.labels)
        return 0.0, 0
    for part in (model.encoder, model.head):
        if not part.training:  # which it tells all its parts, at each step
            part.train()
    set_rates(optimizer, model.config.train, rate)
    with using_threads(threads_for(session.step_operations)):
        rows = rows.to(model.device)
        with autocast(model.device, model.config.train.precision):
            if session.world.size == 1:
                num_rows = len(rows.labels)
                loss = direct_loss(model, rows)
                if loss is None:
                    optimizer.zero_grad(set_to_none=True)
                    options = {"every_position": True} if rows.every_position else {}
                    loss = model.head(model.encoder(rows.features, **options), rows.labels)
            else:
                assert num_rows is not None
                optimizer.zero_grad(set_to_none=True)
                # Each leaves out something else, and again the same after a restart.
                train = model.config.train
                torch.manual_seed(mixed_seed(train.seed, session.progress.step, session.world.rank))
                loss = _share_of_loss(session, model.encoder(rows.features), rows.labels, num_rows)
        if loss.requires_grad:
            loss.backward()
        if session.world.size > 1:
            is_split = isinstance(model.head, ShardedHead)
            apart = placed(model.encoder, model.head)
            copies = (*model.encoder.parameters(), *model.head.parameters())
            sum_gradients(session.world, [weight for weight in copies if weight not in apart])
            loss = loss.detach() if is_split else session.world.sum(loss.detach())
        optimizer.step()
    return loss.item() * num_rows, num_rows


def _share_of_loss(session: Session, hidden: Tensor, labels: Labels, num_rows: int) -> Tensor:
    """What the rows of this process add to the mean loss; that mean, where classes are split."""
    num_own, head = len(session.world.share(num_rows)), session.model.head
    if isinstance(head, ShardedHead):
        rows = torch.arange(num_own)
        own = labels.take(rows) if isinstance(labels, SeveralLabels) else labels[rows]
        return head(hidden[:num_own], own)  # type: ignore[no-any-return]
    # Randomness is alike in all processes only if each draws.
    counts = None if num_own else torch.zeros(len(hidden))
    return head(hidden, labels, sample_weight=counts, reduction="sum") / num_rows  # type: ignore[no-any-return]


def _answer_operations(model: Model) -> int:
    """Of the exact answer for one row."""
    return 2 * (model.encoder.operations + model.head.num_classes * model.head.operations)


def _metrics(
    model: Model,
    feed: Feed,
    collector: ReportCollector | None = None,
    threshold: Threshold | None = None,
    conformity: list[Conformity] | None = None,
) -> tuple[Metrics, Metrics]:
    """Of the model and, where a report is made of them, of the baseline, which no step changes."""
    num_rows, device = min(len(feed), EVALUATION_ROWS), model.device
    with using_threads(threads_for(num_rows * _answer_operations(model))):
        rows = feed.batches(EVALUATION_ROWS)
        found = collect_metrics(
            model.to(answering_device(device)),
            *(rows, collector),
            with_baseline=collector is not None,
            threshold=threshold,
            conformity=conformity,
        )
    model.to(device)
    return found


def answering(session: Session, model: Model) -> Model:
    """The model as it is saved: with the classes that no row has, and with weights in place of a tower."""
    return model if session.classes is None else model.settled(session.classes)


def mapped_head(session: Session) -> Head:
    """A head of all classes whose weights lie in files of the scratch space, so that no memory is short."""
    model = session.model
    with torch.device("meta"):
        head = build_head(model.config, model.vocabulary, num_rows=model.num_train_rows)
    state = {
        name: mapped(session.scratch / f"whole-{name}", rows.shape, rows.dtype)
        for name, rows in head.state_dict().items()
    }
    head.load_state_dict(state, assign=True)
    return head


def mapped_encoder(session: Session) -> Encoder:
    """An encoder with nothing learned yet whose tables will lie in files, likewise."""
    encoder = build_encoder(session.model.config.encoder, session.model.schema)
    for name, part, _ in tables(encoder):
        part.rows = MappedTable(session.scratch / f"whole-{name}")
    return encoder


class MappedTable(TableRows):
    """A table of which all rows lie in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def zeros(self, num_rows: int, dim: int) -> Tensor:
        return mapped(self.path, torch.Size([num_rows, dim]), torch.float32)


def mapped(path: Path, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Zeros in a new file."""
    num_bytes = shape.numel() * dtype.itemsize
    with saving(str(path), num_bytes=num_bytes), path.open("wb") as file:
        # Written, not only made longer: a full disk would end the process when a page is first touched.
        for _ in range(-(-num_bytes // ZEROS_BYTES)):
            file.write(bytes(ZEROS_BYTES))
    return torch.from_file(str(path), shared=True, size=shape.numel(), dtype=dtype).view(shape)


def _finish(job: _Fit, target: Path, reporter: Reporter, interrupted: bool) -> Outcome[Model]:
    """Calibrate and evaluate the best weights on the held-out rows, and write the model where it belongs."""
    session, progress = job.session, job.progress
    model = session.model
    session.optimizer.state.clear()  # twice the weights, which no step needs any more
    session.optimizer.param_groups.clear()
    if not session.world.is_first:
        return Outcome(target, model, {}, {}, progress.step, progress.seconds, interrupted)
    parts: dict[str, Any] = {}
    if isinstance(model.head, ShardedHead):
        parts["head"] = mapped_head(session)
        model.head.to("meta")  # what it holds is in the checkpoint too
    if placed(model.encoder):
        parts["encoder"] = mapped_encoder(session)
        model.encoder.to("meta")
    if parts:
        model = replace(model, **parts)
        load_weights(folder_of(job.run, progress.step), model)
    device = model.device
    model.to(CPU)
    values: Metrics = {}
    baseline: Metrics = {}
    separation = None
    collector = None
    if session.valid is not None:
        take_best(job, partial(load_weights, model=model), reporter)
    widen(model.head)
    if session.valid is not None:
        temperature = float(model.head.calibration_temperature)
        one_softmax = model.task.one_label and model.head.normalizer == "softmax"
        if isinstance(model.head, CountingHead):
            if sentence := model.head.told():
                reporter.say(sentence)
        elif one_softmax:
            held_out = calibration_rows(model, session.valid)
            model = calibrate(model, session.train, held_out)
            if not interrupted:
                separation = fit_separators(model, session.train, held_out, session.folds)
            del held_out
            temperature = float(model.head.calibration_temperature)
            reporter.say(f"calibrated: temperature {temperature:.3f}")
            if separation:
                reporter.say("linear separators and log odds have a part in the answers")
            if model.neighbors is not None:
                reporter.say(str(model.neighbors))
        whole = answering(session, model)
        collector = ReportCollector(model.task, class_counts=whole.vocabulary.counts)
        threshold = Threshold() if model.task is Task.SEVERAL else None
        told: list[Conformity] | None = None if model.excludes_seen else []
        values, baseline = _metrics(whole.to(device), session.valid, collector, threshold, told)
        whole.to(CPU)
        if told is not None:
            # Of the model before the second fit, since these rows are then no longer held out.
            model = replace(model, conformity=Conformity.joined(told).some(seed=model.config.train.seed))
        if threshold is not None:
            model = replace(model, threshold=threshold.best())
        if progress.refit_from is not None and not interrupted:
            # The second fit is saved, with the temperature of the held-out rows.
            if not isinstance(session.model.head, ShardedHead):  # whose files are read in float32
                narrow(model.head, model.config.train.precision)
            load_weights(folder_of(job.run, progress.step), model)
            widen(model.head)
            model.head.calibration_temperature.fill_(temperature)
            if separation:
                add_separators(model, linear_parts(model, session.everything), separation)
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
    return finish(
        job,
        model,
        target,
        metrics=values,
        baseline=baseline,
        num_held_out=len(session.valid or ()),
        interrupted=interrupted,
        findings=collector.findings(decode=model.vocabulary.decode, tell=tell) if collector else None,
    )

"""Exact metrics of a model: every row, every class, streamed."""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from widemax.artifact import Model
from widemax.conformity import Conformity
from widemax.data import (
    STORED_BYTES,
    Batch,
    Data,
    Dataset,
    Frame,
    Reading,
    Source,
    count_known,
    held_out_rows,
    resolve,
    row_keys,
)
from widemax.distributed import ALONE, Messages, World, joined
from widemax.encoders import Features, to_tensors
from widemax.encoders.features import Tensors
from widemax.errors import DataError
from widemax.evaluation import Baseline, Measures, OneLabelRows, SeveralLabelRows, Threshold, fit_temperature
from widemax.evaluation.headlines import COUNTS
from widemax.evaluation.report import ReportCollector, ReportData, write_report
from widemax.heads import Answers, Labels, SeveralLabels, TopK
from widemax.neighbors import MOST_NUMBERS, Neighbors
from widemax.options import checked
from widemax.storage import replacing_file
from widemax.training.beside import Beside
from widemax.training.feed import EncodedRows, Feed, encode_labels, in_threads, stand_in

# Rows encoded together share the work on the words they have in common; more gain little.
ROWS_AT_ONCE = 2048
CALIBRATION_LOGITS = 2**26
"""At most this many held-out logits are kept to fit the temperature: 256 MiB."""
NEIGHBORS_ROWS = 2000
"""At most this many held-out rows decide about neighbors."""

EvaluationRows = OneLabelRows | SeveralLabelRows
Metrics = dict[str, float | None]


def answered_rows(
    model: Model,
    rows: Iterable[EncodedRows],
    of_baseline: Measures | None = None,
    beside: Beside | None = None,
    world: World = ALONE,
) -> Iterator[EvaluationRows]:
    """The head's exact answers for each batch, as evaluation takes them; others take their own beside it.

    Of several processes each answers for its share of the rows, whose features alone its batches have.
    """
    baseline, messages = Baseline(model.vocabulary.counts), Messages(world)
    for batch in rows:
        seen = batch.seen if model.excludes_seen else None
        labels = batch.labels if model.task.one_label else SeveralLabels.of(batch.labels)
        answers = _of_all(messages, model, batch.features, labels, seen)
        if seen is not None:
            excluded_P = stand_in(labels, seen, model.head.num_classes)
            answers = replace(answers, label_ranks=answers.label_ranks.masked_fill(excluded_P, 0))
        answered = evaluation_rows(answers, labels)
        yield answered
        if beside is not None and isinstance(answered, SeveralLabelRows):
            beside.update(answered, seen)
        if of_baseline is None:
            continue
        if isinstance(answered, OneLabelRows):
            of_baseline.update(baseline.one(answered))
        else:
            pairs = None if seen is None else seen.pairs()
            excluded = pairs and (pairs.rows_P.numpy(), pairs.ids_P.numpy())
            of_baseline.update(baseline.several(answered, excluded))


def _of_all(
    messages: Messages, model: Model, features: Tensors, labels: Labels, seen: SeveralLabels | None
) -> Answers:
    """The answers about all rows, each from the process whose share it is in."""
    world, num_rows = messages.world, len(labels)
    if world.size == 1:
        return model.answer(features, labels, k=model.task.k, exclude=seen)
    rows = torch.arange(num_rows)[world.asked(num_rows)]
    of_rows = labels.take(rows) if isinstance(labels, SeveralLabels) else labels[rows]
    excluded = None if seen is None else seen.take(rows)
    found = model.answer(features, of_rows, k=model.task.k, exclude=excluded)
    parts = *vars(found.topk).values(), *(part for name, part in vars(found).items() if name != "topk")
    all_parts = messages.joined_answers(num_rows, *parts)
    return Answers(TopK(*all_parts[:3]), *all_parts[3:])


def evaluation_rows(answers: Answers, labels: Tensor | SeveralLabels) -> EvaluationRows:
    """Tensors of the heads room as the arrays of the evaluation room."""
    topk_ids_BK = answers.topk.class_ids.numpy()
    if isinstance(labels, SeveralLabels):
        return SeveralLabelRows(
            label_ids_P=labels.ids_P.numpy(),
            offsets_B1=labels.offsets_B1.numpy(),
            ranks_P=answers.label_ranks.numpy(),
            topk_ids_BK=topk_ids_BK,
            topk_log_probs_BK=answers.topk.log_probs.double().numpy(),
        )
    return OneLabelRows(
        labels_B=labels.numpy(),
        ranks_B=answers.label_ranks.numpy(),
        log_probs_B=answers.label_log_probs.double().numpy(),
        topk_ids_BK=topk_ids_BK,
        topk_log_probs_BK=answers.topk.log_probs.double().numpy(),
        square_sums_B=answers.square_sum.double().numpy(),
    )


def collect_metrics(
    model: Model,
    rows: Iterable[EncodedRows],
    collector: ReportCollector | None = None,
    *,
    with_baseline: bool = True,
    beside: Beside | None = None,
    threshold: Threshold | None = None,
    conformity: list[Conformity] | None = None,
    world: World = ALONE,
) -> tuple[Metrics, Metrics]:
    """Every metric of the model's task over all rows and all classes, None where no row counts.

    Beside the model's those of the baseline, which gives every row the most frequent classes. ``conformity``
    collects that of the right labels.
    """
    measures, of_baseline = (
        Measures(model.task, class_counts=model.vocabulary.counts, num_rows_train=model.num_train_rows)
        for _ in range(2)
    )
    model.head.eval()
    with parametrize.cached():  # a tower encodes the classes once for all rows
        for answered in answered_rows(model, rows, of_baseline if with_baseline else None, beside, world):
            if collector is not None:
                collector.update(answered)
            if threshold is not None and isinstance(answered, SeveralLabelRows):
                threshold.update(answered)
            if conformity is not None:
                conformity.append(answered.conformity())
            measures.update(answered)
    values, baseline = (
        {name: None if math.isnan(value) else value for name, value in each.compute().items()}
        for each in (measures, of_baseline)
    )
    return values, {name: value for name, value in baseline.items() if name not in COUNTS}


def dataset_rows(
    model: Model, dataset: Dataset, keys: list[Any] | None = None, world: World = ALONE
) -> Iterator[EncodedRows]:
    """A dataset's batches through the encoder's featurizer, some ahead; ``keys`` collects the rows'.

    Of several processes each encodes its share of the rows.
    """

    def encoded(batch: Batch) -> Features:
        rows = world.asked(len(batch))
        return model.encoder.encode({name: values[rows] for name, values in batch.columns.items()})

    for batch, features in in_threads(encoded, dataset.batches(world.size * ROWS_AT_ONCE)):
        assert batch.labels is not None
        if keys is not None:
            keys.append(row_keys(batch.columns, num_bytes=STORED_BYTES))
        labels = encode_labels(model.vocabulary, batch.labels, several=dataset.schema.several)
        yield EncodedRows(to_tensors(features), labels, model.seen_items(batch.columns))


@partial(checked, of="evaluate", moved={"sources": "give them as data."})
def evaluate(
    model: Model,
    data: Data | Iterable[Data],
    *,
    drop_bad: bool = False,
    delimiter: str | None = None,
    encoding: str | None = None,
    report: Path | None = None,
) -> dict[str, Any]:
    """All metrics of a model on data, exact over every row and class.

    Where several processes were started together, each answers for its share of the rows, and all get the
    metrics of all rows.

    Args:
        model: as trained or loaded.
        data: a path, a glob, the name of a data set such as "clinc150:test", a frame of pandas (2.2 or later)
            or polars, a pyarrow table, or a list of them.
        drop_bad: count and drop bad rows instead of raising at the first.
        delimiter, encoding: of the files, where they differ from those in training.
        report: where to write a page of what was found.

    Returns:
        the fields of ``widemax evaluate --json``; nll is in nats, seconds is wall time, and ``overlap_rows``
        counts the rows whose inputs stand in training too; ``baseline`` holds the same metrics of the most
        frequent classes as everybody's answer. Of events also ``item_knn``, those of the nearest items, and
        ``by_history`` and ``by_popularity``, recall and nDCG of groups. Of several labels a row also ``f1``,
        the micro F1 of those that reach ``threshold``, the probability that was fitted in training.

    Raises:
        ArgumentError: the model or the data are something else.
        DataError: no usable row, or a bad row without ``drop_bad``.
    """
    started = time.perf_counter()
    if not (sources := resolve(data)):
        raise DataError("data must name something to evaluate; got an empty list.")
    if model.histories is not None:
        sources = [held_out_of(model, sources, drop_bad=drop_bad, delimiter=delimiter, encoding=encoding)]
    reading = Reading.of(model.config.data, delimiter=delimiter, encoding=encoding)
    dataset = Dataset(sources, model.schema, format=reading, drop_bad=drop_bad)
    num_rows = 0
    keys: list[Any] | None = None if model.row_keys is None else []

    def counted(world: World) -> Iterator[EncodedRows]:
        nonlocal num_rows
        for rows in dataset_rows(model, dataset, keys, world):
            num_rows += len(rows.labels)
            yield rows

    collector = None if report is None else ReportCollector(model.task, class_counts=model.vocabulary.counts)
    beside = None if model.histories is None else Beside(model)
    threshold = None if model.threshold is None else Threshold()
    with joined(model.config.distributed.timeout_s) as world:
        metrics, baseline = collect_metrics(
            *(model, counted(world), collector), beside=beside, threshold=threshold, world=world
        )
    if threshold is not None and model.threshold is not None:
        f1 = threshold.f1(model.threshold)
        metrics |= {"f1": None if math.isnan(f1) else f1, "threshold": model.threshold}
    if num_rows == 0:
        raise dataset.without_rows(" to evaluate")
    seconds = time.perf_counter() - started
    values = {
        "rows": num_rows,
        "skipped": dataset.num_bad_rows,
        "num_classes": model.head.num_classes,
        "task": model.task,
        **({} if keys is None else {"overlap_rows": count_known(keys, model.row_keys)}),
        "seconds": round(seconds, 3),
        "rows_per_s": round(num_rows / seconds, 1),
        **metrics,
        "baseline": baseline,
        **({} if beside is None else beside.compute()),
    }
    if report is not None and collector is not None and world.is_first:
        found = collector.findings(decode=model.vocabulary.decode, tell=partial(rows_told, dataset))
        title = f"{', '.join(source.name for source in sources)}: evaluated"
        page = ReportData(title, model.task, values, baseline, findings=found, told=made_now())
        with replacing_file(report) as temporary:
            write_report(temporary, page)
    return values


def held_out_of(model: Model, sources: Sequence[Source], **given: Any) -> Frame:
    """The histories that a run keeps, and what came next in events: pairs it was trained on are left out."""
    section = model.config.data
    trained_on = [str(Path(name).resolve()) for name in section.train]
    same = [str(source.resolve()) for source in sources if isinstance(source, Path)] == trained_on
    section = section.updated(**{name: value for name, value in given.items() if value})
    return held_out_rows(sources, section, model.user_histories, seed=model.config.train.seed, same=same)


def rows_told(dataset: Dataset, numbers: Iterable[int]) -> dict[int, tuple[str, str]]:
    """Where some usable rows stand and what their inputs are, by their numbers."""
    images = {column.name for column in dataset.schema.inputs if column.kind == "image"}
    alone = len(dataset.schema.inputs) == 1
    told = {}
    for number, (place, inputs) in dataset.tell(list(numbers)).items():
        shown = {name: value for name, value in inputs.items() if name not in images}
        text = ", ".join(str(value) if alone else f"{name}: {value}" for name, value in shown.items())
        told[number] = place, text
    return told


def made_now() -> tuple[str, str]:
    """The version and the date, for a page."""
    return f"widemax {version('widemax')}", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True)
class CalibrationRows:
    """What held-out rows with a label that training knows say of a model that is not calibrated.

    Attributes:
        known_B: which of the rows have such a label.
        features: of all rows; the rest is of those known.
        logits_BC: None where the head has no weight rows.
    """

    features: Tensors
    known_B: Tensor
    labels_B: Tensor
    hidden_BD: Tensor
    logits_BC: Tensor | None


@torch.no_grad()
def calibration_rows(model: Model, valid: Feed) -> CalibrationRows:
    """As many held-out rows as have logits that fit in ``CALIBRATION_LOGITS``.

    They are in random order, so the first are a fair sample. The head's calibration is taken back.
    """
    head = model.head.eval()
    rows = valid.take(np.arange(min(len(valid), max(1, CALIBRATION_LOGITS // head.num_classes))))
    assert isinstance(rows.labels, Tensor)
    known_B = rows.labels >= 0
    head.calibration_temperature.fill_(1.0)
    hidden_BD = model.encoder.eval()(rows.features)[known_B]
    logits_BC = head.logits(hidden_BD) if head.has_weight_rows else None
    return CalibrationRows(rows.features, known_B, rows.labels[known_B], hidden_BD, logits_BC)


@torch.no_grad()
def calibrate(model: Model, train: Feed, rows: CalibrationRows) -> Model:
    """Fit the head's calibration temperature, then the part in the answers that the nearest rows get, if any.

    Held-out rows, each with one label, decide.
    """
    head, most, labels_B = model.head, model.config.train.neighbors, rows.labels_B
    if not len(labels_B):
        return model

    def label_log_probs(temperature: float) -> Tensor:
        head.calibration_temperature.fill_(temperature)
        if rows.logits_BC is not None:
            logits_BC = rows.logits_BC / temperature
            return -torch.nn.functional.cross_entropy(logits_BC, labels_B, reduction="none")
        # Each softmax inside such a head has the temperature, which no scaling of log-probabilities equals.
        return head.log_probs(rows.hidden_BD, labels_B[:, None]).squeeze(1)

    temperature = fit_temperature(lambda t: -float(label_log_probs(t).mean()), num_rows=len(labels_B))
    log_probs_B = label_log_probs(temperature)
    numbers_BN = model.encoder.numbers(rows.features)
    if not most or numbers_BN is None or len(train) * numbers_BN.shape[1] > MOST_NUMBERS:
        return model
    told = (values[:NEIGHBORS_ROWS] for values in (numbers_BN[rows.known_B], labels_B, log_probs_B))
    return replace(model, neighbors=Neighbors.fit(*numbers_of(model, train), *told, most=most))


def numbers_of(model: Model, feed: Feed) -> tuple[Tensor, Tensor]:
    """The scaled numbers of all rows of a feed, and their labels."""
    batches = [(model.encoder.numbers(rows.features), rows.labels) for rows in feed.batches(ROWS_AT_ONCE)]
    numbers, labels = zip(*batches, strict=True)
    return torch.cat(numbers), torch.cat(labels)

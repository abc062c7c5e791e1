"""From a config to everything the loop works on: data read, encoder fitted, head chosen and built."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from torch.optim import Optimizer

from widemax.artifact import Model
from widemax.artifact.model import Tower, build_encoder, build_head
from widemax.artifact.tables import known_histories
from widemax.classes import Classes
from widemax.config import Config, TrainConfig, WeightConfig
from widemax.data import (
    GIVEN,
    HISTORY,
    NEXT,
    ClassTable,
    Data,
    Dataset,
    Frame,
    HistoryRows,
    LabelVocabulary,
    Reading,
    Schema,
    Source,
    history_rows,
    infer_class_schema,
    infer_schema,
    resolve,
)
from widemax.data.convert import lists
from widemax.distributed import ALONE, Placement, ShardedHead, SplitTable, World, agree, placed, tables
from widemax.encoders import ClassTower, Encoder, Features, Ragged, encoders, to_tensors
from widemax.errors import ConfigError, DataError, counted, shown
from widemax.heads import CountingHead, Head, LinearHead, heads
from widemax.heads.scores.adaface import AdaFace
from widemax.optim import RowOptimizer, optimizers
from widemax.planner import ELEMENTWISE_NUMEL
from widemax.storage import check_folder, write_file
from widemax.task import System, Task
from widemax.training.checkpoint import (
    Progress,
    folder_of,
    load_encoder,
    load_rest,
    load_weights,
    progress_at,
)
from widemax.training.defaults import (
    are_countable,
    check_words,
    complete_data,
    complete_encoder,
    complete_rest,
    complete_weight,
    counting_head,
    decide_task,
    separating,
    splits_classes,
    width_needed,
)
from widemax.training.feed import Feed, HistoryFeed, hold_out, read_encoded, read_training
from widemax.training.progress import Reporter

TRAINED_EVENTS, BLENDED_EVENTS, TRAINED_EPOCHS = 1_000_000, 2_000_000, 3
"""Where no head is named, a blend is trained for some epochs of so many events; of more it is only begun,
which takes no step; beyond the second number counts stand alone."""
WHOLE_NUMEL = ELEMENTWISE_NUMEL
"""Of several processes each has a copy of an encoder's table of at most so many numbers."""
REFIT_SHARE = 0.05
"""Fit again on all rows where at least this share of them was held out."""


def sources_of(
    config: Config,
    data: Data | Iterable[Data] | None,
    valid: Data | Iterable[Data] | None,
    classes: Data | Iterable[Data] | None = None,
    items: Data | Iterable[Data] | None = None,
    users: Data | Iterable[Data] | None = None,
) -> tuple[Config, list[Source], list[Source], list[Source]]:
    """The config naming what is read; the sources given or, where none are, those the config names."""
    if isinstance(config.data.task, System):
        raise ConfigError(
            f"data.task is {str(config.data.task)!r}, which reads texts and no rows with columns: there is "
            "nothing to count in it before `widemax train`."
        )
    has_table = config.data.classes or classes is not None
    if has_table and config.head.weight is None and not counts_rows(config):
        config = config.updated(head={"weight": WeightConfig()})
    check_words(config)
    given = {"train": data, "valid": valid, "classes": classes, "items": items, "users": users}
    sources = {
        key: resolve(getattr(config.data, key) if rows is None else rows) for key, rows in given.items()
    }
    names = {key: tuple(map(str, sources[key])) for key, rows in given.items() if rows is not None}
    config = config.updated(data=names)
    section = config.data
    if not section.user or not section.item:
        for key in ("user", "item", "time", "weight", "split", "items", "users"):
            if getattr(section, key):
                raise ConfigError(
                    f"data.{key} is of events, which need data.user and data.item (--user, --item)."
                )
        return config, sources["train"], sources["valid"], sources["classes"]
    classes_of_them = sources.pop("classes")
    return *of_events(config, **sources), classes_of_them


def of_events(
    config: Config,
    train: list[Source],
    valid: list[Source],
    items: Sequence[Source] = (),
    users: Sequence[Source] = (),
) -> tuple[Config, list[Source], list[Source]]:
    """A config whose input are the histories of events, and these; where no head is named, one counts."""
    data = config.data
    is_made = data.input[:1] == (HISTORY,) and (data.target, data.task) == (NEXT, Task.NEXT)
    if valid or not (is_made or (data.input, data.target, data.task) == ((), None, "auto")):
        raise ConfigError(
            "events become histories and what comes next: leave input, target, task and valid out, and hold "
            "events out by data.split."
        )
    rows = history_rows(train, data, seed=config.train.seed, items=items, users=users)
    inputs = tuple(rows.table.column_names[1:])
    columns: dict[str, Any] = {
        "input": inputs,
        "target": NEXT,
        "kinds": dict.fromkeys(inputs, "ids"),
        "task": Task.NEXT,
    }
    columns["split"] = None if data.split == GIVEN else data.split
    updates: dict[str, Any] = {"data": columns}
    if config.encoder.kind == "sequence":
        if not rows.ordered:
            raise ConfigError(
                "the encoder 'sequence' learns from the order of events: name the column of times (--time), "
                "or take the split last-one."
            )
        if data.items or data.users:
            raise ConfigError(
                "the encoder 'sequence' reads nothing but histories: leave data.items and data.users out "
                "(--items, --users), or take the encoder 'history'."
            )
        options = encoders.options("sequence").complete(config.encoder.options)
        rows = replace(rows, window=options["max_length"])
    elif config.head.kind == "auto" and not config.head.options and config.head.weight is None:
        updates["head"] = config.head.completed(
            "blend" if rows.num_events <= BLENDED_EVENTS else "counts", {}
        )
        if "epochs" not in config.train.model_fields_set:
            epochs = 1 + TRAINED_EPOCHS * (rows.num_events <= TRAINED_EVENTS)
            updates["train"] = {"epochs": epochs}
    recency = {} if rows.ordered else {"recency": 1.0}
    if config.encoder.kind in ("auto", "history"):
        updates["encoder"] = config.encoder.completed("history", {**recency, **config.encoder.options})
    return config.updated(**updates), [rows], []


@dataclass(frozen=True)
class Session:
    """What the loop works on.

    Attributes:
        model: the encoder and head in training, with the completed config.
        train, valid: encoded rows; valid is None where nothing is held out.
        everything: all training rows read: those of train, those held out, and those that know these.
        progress: where the run stands.
        held_out: where the rows of valid were read from, by their numbers in its store.
        held_out_fingerprint: of these files and frames as they were read, where the report is to show rows.
        scratch: space for files that no one needs afterwards.
        classes: what is known of the classes, and of those that no row has; where a tower makes weights.
        world: the processes that train together.
    """

    run: Path
    model: Model
    optimizer: Optimizer
    train: Feed
    valid: Feed | None
    everything: Feed
    progress: Progress
    held_out: Dataset
    held_out_fingerprint: str
    scratch: Path
    classes: ClassTable | None = None
    world: World = ALONE

    @property
    def batch_size(self) -> int:
        """Rows a step."""
        batch_size = self.model.config.train.batch_size
        assert isinstance(batch_size, int)
        return batch_size

    @property
    def step_operations(self) -> int:
        """Operations of a step: a product and a sum for each weight of a row, and twice that backward."""
        head = self.model.head
        num_sampled = int(self.model.config.head.options.get("num_sampled", head.num_classes))
        num_classes = min(num_sampled, head.num_classes)
        return 6 * self.batch_size * (self.model.encoder.operations + num_classes * head.operations)

    @property
    def second(self) -> Feed:
        """What the second fit reads: all rows, or those that a head has not counted yet."""
        if not isinstance(self.model.head, CountingHead):
            return self.everything
        return replace(self.everything, rows_N=np.setdiff1d(self.everything.rows_N, self.train.rows_N))

    @property
    def refits(self) -> bool:
        """Whether a second fit on all rows follows the choice of the best epoch.

        It costs as much again, so by default it is made where a real share of the rows was held out, or
        where a head only counts these. A time limit leaves no time for it.
        """
        train = self.model.config.train
        held_out = len(self.everything) - len(self.train)
        if train.time_limit_s is not None or not held_out:
            return False
        is_cheap = isinstance(self.model.head, CountingHead)
        pays = is_cheap or held_out >= REFIT_SHARE * len(self.train)
        return pays if train.refit == "auto" else train.refit

    @property
    def folds(self) -> Iterator[tuple[Feed, Feed]]:
        """Other parts of the training rows held out, and those left; none where valid rows were given."""
        data, train = self.model.config.data, self.model.config.train
        if len(self.everything) > len(self.train):
            for fold in count(1):
                sizes = data.valid_fraction, data.max_valid_rows
                yield hold_out(self.everything, *sizes, seed=train.seed + fold)

    @property
    def best_epochs(self) -> int:
        """After how many epochs the held-out rows were predicted best.

        1 where a head counts them; where rows fade, those held out are the latest, from which its gradients
        learn as often as they did from the others.
        """
        model = self.model
        if isinstance(model.head, CountingHead):
            return model.config.train.epochs if model.encoder.fades and model.head.learns_by_gradients else 1
        return self.progress.best_step // -(-len(self.train) // self.batch_size)


def prepare(
    config: Config,
    train_sources: list[Source],
    valid_sources: list[Source],
    class_sources: list[Source],
    run: Path,
    scratch: Path,
    checkpoint: Path | None,
    reporter: Reporter,
    world: World = ALONE,
) -> Session:
    """Read the data, complete the config, build the model, and go back to the checkpoint if there is one.

    Raises:
        DataError: the data cannot be used, are not those the checkpoint was trained on, or are others in
            another process.
        ConfigError: the config does not fit the data.
    """
    given, data, reading = config, config.data, Reading.of(config.data)
    reporter.say(f"reading {', '.join(source.name for source in train_sources)}")
    schema = infer_schema(
        train_sources, inputs=data.input, target=data.target, kinds=data.kinds, format=reading
    )
    part = world.rank, world.size
    dataset = Dataset(train_sources, schema, format=reading, drop_bad=data.drop_bad, part=part)
    needed, countable = width_needed(config), are_countable(config, schema)

    def width(vocabulary: LabelVocabulary, num_rows: int) -> int:
        is_counted = countable and counting_head(vocabulary, num_rows) is not None
        return 0 if is_counted or needed is None else needed(len(vocabulary))

    config = complete_encoder(complete_data(config, schema), schema)
    fingerprints = dataset.fingerprint(), Dataset(class_sources, schema, format=reading).fingerprint()
    versions = {"version of widemax": version("widemax"), "version of torch": torch.__version__}
    agree(world, {**versions, "set of rows": fingerprints})
    progress = progress_at(checkpoint, *fingerprints)
    encoder = build_encoder(config.encoder, schema)
    if world.size > 1:
        for _, reader, _ in tables(encoder):
            reader.rows = SplitTable(world, whole_numel=WHOLE_NUMEL)
    if checkpoint is not None:
        load_encoder(checkpoint, encoder)
    table: ClassTable | None = None
    more: list[Features] = []
    if class_sources and counts_rows(config):
        table = table_of_rows(class_sources, schema, reading)
        more = [encoder.featurize(table.columns)]
    feed, vocabulary = read_training(
        *(dataset, encoder, scratch),
        seed=config.train.seed,
        fitted=checkpoint is not None,
        width=None if needed is None else width,
        more=more,
        world=world,
    )
    for sentence in [*schema.left_out, *dataset.told(), *dataset.passed_over(), *vocabulary.warnings()]:
        reporter.say(sentence)
    if dataset.num_bad_rows:
        reporter.say(f"dropped {counted(dataset.num_bad_rows, 'bad row')}; `widemax check` lists them")
    if isinstance(train_sources[0], HistoryRows) and train_sources[0].window is not None:
        if world.size > 1:
            raise ConfigError(
                f"the encoder {config.encoder.kind!r} learns at every position of a history, in one process; "
                "take the encoder 'history', or leave out distributed.workers."
            )
        feed = HistoryFeed(
            *(feed.store, feed.labels, None, feed.rows_N), classes_F=classes_of_items(encoder, vocabulary)
        )
    shared, own = feed.labels_in_histories(len(vocabulary)), feed.labels_in_own_rows(len(vocabulary))
    task = decide_task(config, schema, labels_in_histories=shared, labels_in_own_rows=own)
    unasked = shared >= 0.5 and config.data.task == "auto"
    if own and (task is Task.NEXT or unasked) and not config.data.repeat:
        reporter.say(
            f"{own:.0%} of the labels stand in their own row's list: "
            + (
                "they are never predicted; data.repeat = true lets items return"
                if task is Task.NEXT
                else 'it is an input like others; data.task = "next" and data.repeat = true rank next items'
            )
        )
    tower = None
    if config.head.weight is not None:
        table = class_table(class_sources, vocabulary, schema, reading)
        config = complete_weight(config, table.schema, dim=encoder.dim)
        tower = build_tower(config, table, vocabulary)
    if table is not None:
        compare(table, vocabulary, schema, reporter)
    if table is not None and tower is None:
        vocabulary = vocabulary.extended(table.labels)
    if countable and (kind := counting_head(vocabulary, len(feed))) is not None:
        learners = {"label_tree": "linear separators", "counts": "counts, which read other parts of them,"}
        reporter.say(
            f'{learners[kind]} learn these texts with several labels; set head.kind to "exact" to train a '
            "sigmoid for each label by gradients"
        )
        if kind == "counts":
            config = given.updated(head=given.head.completed(kind, {}))
            sources = train_sources, valid_sources, class_sources
            return prepare(config, *sources, run, scratch / kind, checkpoint, reporter, world)
        config = separating(config)
    asked = config.head.options
    agree(world, {"number of classes": len(vocabulary), "length of a hidden vector": encoder.dim})
    head_plan = None
    if world.is_first:
        config, head_plan = complete_rest(
            config, vocabulary, task=task, encoder=encoder, num_rows=len(feed), tower=tower
        )
    # What follows from the speed of a machine, the first one decides.
    if told := world.tell(config.to_toml() if world.size > 1 else ""):
        config = Config.from_dict(tomllib.loads(told))
    if head_plan is not None:
        reporter.say(f"{config.head.kind} head: {head_plan.reason}")
    if issubclass(heads[config.head.kind], CountingHead):
        epochs = config.train.epochs
        others = f"the other {counted(epochs - 1, 'epoch')} train" if epochs > 1 else "train.epochs is 1"
        reporter.say(f"{config.head.kind} head: every row is counted once, {others}")
    if "num_sampled" in asked.keys() - config.head.options.keys():
        reporter.say(
            "head.num_sampled is left out: all classes are taken. Set head.kind to 'sampled' to draw"
        )
    if world.is_first:
        write_file(run / "config.toml", config.to_toml(home=run))
    head: Head
    if world.size > 1 and splits_classes(config, len(vocabulary), encoder.dim):
        head = sharded_head(config, vocabulary, len(feed), world)
    else:
        head = build_head(config, vocabulary, num_rows=len(feed), tower=tower).to(config.train.device)
        if world.size > 1:
            refuse_copies(head)
    narrow(head, config.train.precision)
    head.seed(config.train.seed)
    encoder.to(config.train.device)
    model = Model(config, schema, task, len(feed), vocabulary, encoder, head, feed.row_keys)
    if table is not None and isinstance(head, CountingHead) and checkpoint is None:
        labels = torch.from_numpy(vocabulary.encode(table.labels))
        head.partial_fit(encoder.eval()(to_tensors(encoder.index(more[0]))), labels)
    if tower is not None and table is not None:
        model = replace(model, tower=Tower(table.schema, tower.encoder))
    if isinstance(train_sources[0], HistoryRows):
        events = train_sources[0]
        if events.last_times is not None:
            vocabulary = vocabulary.with_last_times(*events.last_times)
        histories = known_histories(events.table, vocabulary)
        model = replace(model, vocabulary=vocabulary, row_keys=None, histories=histories)
    optimizer = build_optimizer(config.train, step_factors(model), placed(encoder, head))
    if checkpoint is not None:
        load_rest(checkpoint, model, optimizer)
        reporter.say(f"continuing after step {progress.step}")
    held_out = Dataset(valid_sources or train_sources, schema, format=reading, drop_bad=data.drop_bad)
    train, valid = split(model, feed, train_sources[0], held_out if valid_sources else None, scratch)
    if checkpoint is None and len(train) < len(feed) and not isinstance(head, CountingHead):
        encoder.weigh(train.chunks)  # rows held out are as strange to it as rows to come
    inputs = ", ".join(f"{column.name} ({column.kind})" for column in schema.inputs)
    reporter.say(
        f"{counted(len(train), 'row')} and {len(valid) if valid else 0:,} held out, "
        f"{counted(len(vocabulary), 'class')}; {inputs} → {schema.target}"
    )
    is_told = valid_sources and config.train.time_limit_s is None
    fingerprint = held_out.fingerprint() if is_told else progress.data_fingerprint
    classes = None if tower is None else table
    return Session(
        *(run, model, optimizer, train, valid, feed, progress, held_out, fingerprint, scratch),
        *(classes, world),
    )


def sharded_head(config: Config, vocabulary: LabelVocabulary, num_rows: int, world: World) -> ShardedHead:
    """The head a completed config names, of which this process holds the weights of some classes."""
    options = config.head.options
    classes = Classes(len(vocabulary), torch.from_numpy(vocabulary.counts), num_rows)
    return ShardedHead(config.head.kind, classes, options.pop("dim"), world=world, **options)


def in_several(config: Config, workers: int) -> Config:
    """The config of a training in several processes, which compute on the CPU.

    Raises:
        ConfigError: names what one process alone can train.
    """
    kind, train = config.head.kind, config.train
    reason = ""
    if kind != "auto" and issubclass(heads[kind], CountingHead):
        reason = f"the head {kind!r} learns from all rows in one place"
    elif config.head.weight is not None:
        reason = "a tower makes the weights of all classes in one place"
    elif config.encoder.kind == "sequence":
        reason = "the encoder 'sequence' shares the positions of a batch with no other process"
    elif train.time_limit_s is not None:
        reason = "a time limit follows the clock of one process (train.time_limit_s)"
    elif train.device not in ("auto", "cpu"):
        reason = f"several processes compute on the CPU (train.device is {train.device!r})"
    if reason:
        raise ConfigError(f"{reason}; leave that out, or train in one process (distributed.workers = 1).")
    return config.updated(train={"device": "cpu"}, distributed={"workers": workers})


def refuse_copies(head: Head) -> None:
    """Refuse a head whose loss of a row depends on other rows, which are not in the same process.

    Raises:
        ConfigError: names the score or sampler.
    """
    sampler, score = getattr(head, "sampler", None), getattr(head, "score", None)
    follows = sampler is not None and (sampler.follows_model or sampler.uses_labels or bool(sampler.state()))
    if follows or isinstance(score, AdaFace):
        raise ConfigError(
            f"{sampler if follows else score!r} follows all rows of a batch, of which each process has some; "
            "set distributed.shard_classes = true, or take another."
        )


def narrow(head: Head, precision: str) -> None:
    """Where training is in bfloat16, keep the class weights of a wide head in it too.

    Its optimizer rounds them stochastically.
    """
    whole = head.options[0] if isinstance(head, ShardedHead) else head
    if precision == "float32" or not isinstance(whole, LinearHead) or whole.tower is not None:
        return
    if whole.weight.numel() > ELEMENTWISE_NUMEL:
        head.weight.data = head.weight.data.bfloat16()


def widen(head: Head) -> None:
    """Class weights in float32 again, in which they answer."""
    for parameter in head.parameters():
        if parameter.dtype == torch.bfloat16:
            parameter.data = parameter.data.float()


def counts_rows(config: Config) -> bool:
    """Whether the head counts rows, and so those of a table of classes, rather than take a tower of them."""
    return config.head.kind != "auto" and issubclass(heads[config.head.kind], CountingHead)


def class_table(
    sources: list[Source], vocabulary: LabelVocabulary, schema: Schema, reading: Reading
) -> ClassTable:
    """What is known of the classes: a table that is given, or their labels."""
    assert schema.target is not None
    sources = sources or [Frame.of(pa.table({schema.target: vocabulary.labels}))]
    own = infer_class_schema(sources, target=schema.target, target_type=schema.target_type, reading=reading)
    return ClassTable.read(sources, own, reading)


def table_of_rows(sources: list[Source], schema: Schema, reading: Reading) -> ClassTable:
    """A table of classes whose columns are inputs: a single column is the single input, whatever its name.

    Raises:
        ConfigError: it lacks an input.
    """
    assert schema.target is not None
    own = infer_class_schema(sources, target=schema.target, target_type=schema.target_type, reading=reading)
    inputs, names = schema.inputs, [column.name for column in own.inputs]
    if len(inputs) != 1 or len(names) != 1:
        if missing := [column.name for column in inputs if column.name not in names]:
            raise ConfigError(
                f"a head that counts takes a table of classes as rows, but it lacks the inputs {missing} and "
                f"has {names}. Name its columns as the inputs, or choose the head 'exact' or 'sampled'."
            )
        names = [column.name for column in inputs]
    read = tuple(replace(column, name=name) for column, name in zip(inputs, names, strict=True))
    table = ClassTable.read(sources, replace(own, inputs=read), reading)
    rows = {column.name: table.columns[name][:-1] for column, name in zip(inputs, names, strict=True)}
    return replace(table, columns=rows)


def compare(table: ClassTable, vocabulary: LabelVocabulary, schema: Schema, reporter: Reporter) -> None:
    """Say how many classes stand in the table or the training rows alone.

    Raises:
        DataError: no label of the table is one of the training rows.
    """
    known = int((vocabulary.encode(table.labels) >= 0).sum())
    if not known:
        raise DataError(
            f"none of the {len(table.labels):,} labels of the table of classes, such as "
            f"{shown(table.labels[0].as_py())}, occurs in the training rows, where one is "
            f"{shown(vocabulary.labels[0].as_py())}. They were looked for in column {table.schema.target!r}; "
            f"name that of the labels {schema.target!r}."
        )
    if new := len(table.labels) - known:
        reporter.say(
            f"{counted(new, 'class')} of the table have no training row; the table alone speaks of them"
        )
    if without := len(vocabulary) - known:
        reporter.say(f"{counted(without, 'class')} of the training rows are not in the table of classes")


def build_tower(config: Config, table: ClassTable, vocabulary: LabelVocabulary) -> ClassTower:
    """The tower a completed config names, its encoder fitted to the columns of the classes."""
    assert config.head.weight is not None
    encoder = build_encoder(config.head.weight.encoder, table.schema)
    features = encoder.featurize(table.of(vocabulary.labels))
    generator = torch.Generator().manual_seed(config.train.seed)
    encoder.fit([features], generator=generator)
    return ClassTower(encoder, encoder.index(features), generator=generator)


def restart(session: Session) -> Session:
    """Back to the first weights, for the second fit; what was learned about the best epoch stays.

    A head that counts goes on from its best epoch, since it has counted all but the held-out rows.
    """
    progress = session.progress
    progress.refit_from = progress.step
    if isinstance(session.model.head, CountingHead):
        if progress.best_step != progress.step:
            load_weights(folder_of(session.run, progress.best_step), session.model)
        return session
    session.optimizer.state.clear()  # before as much is read again
    start = folder_of(session.run, 0)
    check_folder(start)
    model = session.model
    load_encoder(start, model.encoder)
    placements = placed(model.encoder, model.head)
    optimizer = build_optimizer(model.config.train, step_factors(model), placements)
    load_rest(start, model, optimizer)
    session.model.encoder.weigh(session.everything.chunks)
    return replace(session, optimizer=optimizer)


def split(
    model: Model, feed: Feed, source: Source, given: Dataset | None, scratch: Path
) -> tuple[Feed, Feed | None]:
    """Training rows, and the validation rows given or held out, of histories those that their source says."""
    data, seed = model.config.data, model.config.train.seed
    if given is not None:
        return feed, read_encoded(given, model.encoder, model.vocabulary, scratch / "valid")
    if data.valid_fraction == 0.0:
        return feed, None
    if isinstance(source, HistoryRows) and source.window is None:
        valid = replace(feed, rows_N=source.held_out)
        unknown_N = np.append(source.held_out, source.leaking)
        train = replace(feed, rows_N=np.setdiff1d(feed.rows_N, unknown_N))
    else:
        train, valid = hold_out(feed, data.valid_fraction, data.max_valid_rows, seed=seed)
    if isinstance(valid, HistoryFeed):
        valid = replace(valid, every_position=False)
    return train, valid if len(valid) else None


def classes_of_items(encoder: Encoder, vocabulary: LabelVocabulary) -> np.ndarray:
    """[F] the class of each item that an encoder of histories knows, where all items are classes."""
    alone = lists(np.ones(len(vocabulary), np.int64), vocabulary.labels)
    ((_, items),) = encoder.encode({HISTORY: alone}).items()
    assert isinstance(items, Ragged)
    classes_F = np.empty(len(vocabulary), np.int64)
    classes_F[items.ids_P] = np.arange(len(vocabulary))
    return classes_F


def step_factors(model: Model) -> Iterator[tuple[nn.Parameter, float]]:
    """Each parameter of the encoder and the head, and what its learning rate is multiplied by."""
    yield from model.encoder.step_factors()
    yield from model.head.step_factors()


def build_optimizer(
    train: TrainConfig,
    parameters: Iterable[tuple[nn.Parameter, float]],
    placements: Mapping[nn.Parameter, Placement] = MappingProxyType({}),
) -> RowOptimizer:
    """The optimizer the completed config names, over parameters with what multiplies their learning rates.

    Args:
        train: the config.
        parameters: of the encoder and the head.
        placements: those of which this process holds some rows; they are trained as they would be as a whole.

    Raises:
        ConfigError: weight decay is asked of an optimizer that has none.
    """
    kind = optimizers[train.optimizer]
    options = optimizers.options(train.optimizer).complete({"lr": train.learning_rate, "seed": train.seed})
    if kind.has_weight_decay:
        options["weight_decay"] = train.weight_decay
    elif train.weight_decay:
        raise ConfigError(
            f"train.weight_decay is {train.weight_decay}, but optimizer {train.optimizer!r} has none. "
            "Leave it out, or choose another train.optimizer."
        )
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter, factor in parameters:
        numel = parameter.numel()
        if parameter in placements:
            numel = placements[parameter].num_classes * parameter.shape[1:].numel()
        rowwise = kind.has_rowwise and numel > ELEMENTWISE_NUMEL
        groups.setdefault((-factor, rowwise), []).append(parameter)
    keys = sorted(groups)
    rowwise_too = ({"rowwise": rowwise} if kind.has_rowwise else {} for _, rowwise in keys)
    optimizer = kind(
        [{"params": groups[key], **own} for key, own in zip(keys, rowwise_too, strict=True)], **options
    )
    for group, (factor, _) in zip(optimizer.param_groups, keys, strict=True):
        group["factor"] = -factor
    for parameter, placement in placements.items():
        optimizer.split(parameter, placement.shard, placement.num_shards)
    return optimizer

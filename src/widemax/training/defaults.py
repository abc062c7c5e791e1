"""What "auto" means: the config is completed from the data before the first step, and saved complete."""

from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any, Literal

import torch

from widemax.config import Config
from widemax.data import LabelVocabulary, Schema, formats
from widemax.devices import CPU, device_of, on_the_cpu
from widemax.distributed import SHARDED, tables, world_size
from widemax.encoders import ClassTower, Encoder, default_encoder, encoders
from widemax.errors import ConfigError, did_you_mean
from widemax.evaluation.metrics import metrics
from widemax.heads import PARTS, CountingHead, heads
from widemax.optim import optimizers
from widemax.planner import ELEMENTWISE_NUMEL, FLOAT_BYTES, Plan, optimizer_bytes, plan
from widemax.task import System, Task

MIN_BATCH, MAX_BATCH = 64, 512
STEPS_PER_EPOCH = 256
DIM_STEP = 32
LINEAR_HEADS = ("auto", "exact", "sampled")
SEPARATED_ROWS, COUNTED_ROWS, FEWER_LABELS = 1 << 16, 1 << 18, 12
"""Where no head is named, linear separators learn up to the first number of texts with several labels, and
counts up to the second, all held in memory, where a row has fewer labels than the third: where it has more,
fewer dimensions than labels learn what goes together."""


def check_words(config: Config) -> None:
    """Look up every name that a config gives, and every option, before any data are read.

    Raises:
        UnknownNameError: no member has the name.
        OptionError: an option that the member does not have, or a wrong value.
    """
    encoder, head, train = config.encoder, config.head, config.train
    if head.weight is not None:
        if head.kind not in LINEAR_HEADS:
            raise ConfigError(
                f"the head {head.kind!r} takes no tower and no table of classes: leave out head.weight and "
                "data.classes (--classes), or choose the head 'exact', 'sampled' or, for a table, 'counts'."
            )
        tower = head.weight.encoder
        if tower.kind != "auto":
            encoders.options(tower.kind).complete(tower.options)
    if encoder.kind != "auto":
        encoders.options(encoder.kind).complete(encoder.options)
    if train.optimizer != "auto":
        optimizers[train.optimizer]
    if train.metric != "auto":
        metrics[train.metric]
    if config.data.format is not None:  # frames have no format, but another word is refused
        formats[config.data.format]
    for name, value in head.options.items():
        kind = head.kind
        if kind == "auto":  # which of both it will be, the data decide
            kind = "sampled" if name in heads.options("sampled").keywords else "exact"
        if name != "dim":
            heads.options(kind).complete({name: value})
        if name in PARTS:
            PARTS[name].choose(value)
    if head.kind != "auto":
        heads[head.kind]


def complete_encoder(config: Config, schema: Schema) -> Config:
    """Decide the encoder and fill in its options."""
    kinds = tuple(column.kind for column in schema.inputs)
    kind = default_encoder(kinds) if config.encoder.kind == "auto" else config.encoder.kind
    allowed = encoders[kind].kinds
    for column in schema.inputs:
        if column.kind not in allowed:
            raise ConfigError(
                f"encoder {kind!r} takes {sorted(allowed)} columns; {column.name!r} is {column.kind}. "
                f"Set encoder.kind = {default_encoder(kinds)!r} or name other input columns."
            )
    given = config.encoder.options
    head = None if config.head.kind == "auto" else heads[config.head.kind]
    if counts := head is not None and issubclass(head, CountingHead):
        usual = encoders[kind].counted_options
        own = usual.keys() & {"dim"} if head.separates else usual.keys()
        given = {**{name: usual[name] for name in own}, **given}
    options = encoders.options(kind).complete(given)
    if (options["dim"] == "features") != counts:
        counting = [name for name in heads if issubclass(heads[name], CountingHead)]
        counted = sorted(name for name in encoders if encoders[name].counted_options)
        raise ConfigError(
            f"the heads {counting} take encoder.dim = 'features', no other head does, and only the encoders "
            f"{counted} have it; got head {config.head.kind!r} and encoder {kind!r} of dim "
            f"{options['dim']!r}. Choose another head or encoder, or leave encoder.dim out."
        )
    return config.updated(encoder=config.encoder.completed(kind, from_root(options)))


def complete_weight(config: Config, schema: Schema, *, dim: int) -> Config:
    """Decide the encoder of a tower and its options; its weights are as long as hidden vectors."""
    assert config.head.weight is not None
    kinds, own = tuple(column.kind for column in schema.inputs), config.head.weight.encoder
    kind = default_encoder(kinds) if own.kind == "auto" else own.kind
    if wrong := [f"{c.name} ({c.kind})" for c in schema.inputs if c.kind not in encoders[kind].kinds]:
        raise ConfigError(
            f"encoder {kind!r} takes {sorted(encoders[kind].kinds)} columns; that table has {wrong}. "
            f"Set head.weight.encoder = {default_encoder(kinds)!r}, or leave these columns out of the table."
        )
    options = encoders.options(kind).complete({"dim": dim, **own.options})
    if options["dim"] != dim:
        raise ConfigError(f"head.weight.encoder.dim must equal the encoder's dim {dim}; leave it out.")
    return config.updated(head={"weight": {"encoder": own.completed(kind, from_root(options))}})


def from_root(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of an encoder and of its parts; a ``model`` that is a folder is told from the root."""

    def told(name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return from_root(value)
        is_folder = name == "model" and Path(value).expanduser().is_dir()
        return str(Path(value).expanduser().resolve()) if is_folder else value

    return {name: told(name, value) for name, value in options.items()}


def are_countable(config: Config, schema: Schema) -> bool:
    """Whether texts with several labels may be learned by a head that counts, as nothing else is asked.

    Anything else is what only training by gradients, another device or several processes have.
    """
    train, encoder = config.train, config.encoder
    asked = (
        config.head.kind != "auto" or config.head.options or config.head.weight is not None,
        encoder.kind not in ("auto", "text") or {"dim", "dropout"} & encoder.options.keys(),
        (train.optimizer, train.learning_rate, train.time_limit_s) != ("auto", "auto", None),
        train.weight_decay or train.batch_size != "auto" or "epochs" in train.model_fields_set,
        train.precision != "float32" or training_device(config) != CPU or not train.separators,
        max(config.distributed.workers, world_size()) > 1,
    )
    are_texts = all(column.kind == "text" for column in schema.inputs)
    return schema.several and are_texts and config.data.task in ("auto", Task.SEVERAL) and not any(asked)


def counting_head(vocabulary: LabelVocabulary, num_rows: int) -> str | None:
    """The head that counts by which so many countable rows with such labels are learned, if any."""
    if vocabulary.counts.sum() >= FEWER_LABELS * num_rows or num_rows > COUNTED_ROWS:
        return None
    return "label_tree" if num_rows <= SEPARATED_ROWS else "counts"


def separating(config: Config) -> Config:
    """The config that names the head "label_tree", whose hidden vectors are the features."""
    encoding = config.encoder.completed(config.encoder.kind, {**config.encoder.options, "dim": "features"})
    head = config.head.completed("label_tree", {})
    return config.updated(encoder=encoding, head=head)


def width_needed(config: Config) -> Callable[[int], int] | None:
    """The width that suffices for so many classes, where the encoder is linear and no width is given.

    C logits that are products of hidden vectors and class weights have rank C at most, so longer vectors add
    memory and time and nothing to say.
    """
    given = {*config.encoder.options, *config.head.options} & {"dim", "score"}
    if given or config.head.weight is not None or config.head.kind not in LINEAR_HEADS:
        return None
    return lambda num_classes: -(-num_classes // DIM_STEP) * DIM_STEP


def decide_task(
    config: Config, schema: Schema, *, labels_in_histories: float, labels_in_own_rows: float = 0.0
) -> Task:
    """One right class, several, or the next item of a history.

    Args:
        labels_in_histories: the share of classes that also occur in the input histories; half or more means
            that labels and history items are the same things.
        labels_in_own_rows: the share of labels that stand in their own row's history; half or more means that
            it is no history, unless items may repeat.
    """
    if isinstance(config.data.task, System):
        raise ConfigError(
            f"data.task {str(config.data.task)!r} is trained by widemax.train, from text files."
        )
    if config.data.task != "auto":
        if config.data.task.one_label and schema.several:
            raise ConfigError(f"data.task is 'one', but target {schema.target!r} holds lists of labels.")
        return config.data.task
    if labels_in_histories >= 0.5 and (labels_in_own_rows < 0.5 or config.data.repeat):
        return Task.NEXT
    return Task.SEVERAL if schema.several else Task.ONE


def complete_rest(
    config: Config,
    vocabulary: LabelVocabulary,
    *,
    task: Task,
    encoder: Encoder,
    num_rows: int,
    tower: ClassTower | None = None,
) -> tuple[Config, Plan | None]:
    """Decide batch size, head, optimizer and metric; the plan is None where the head was named."""
    train, dim = config.train, encoder.dim
    sizes = head_sizes(config, vocabulary, encoder=encoder, num_rows=num_rows)
    optimizer, learning_rate = suited(config, encoder)
    optimizers[optimizer]
    head_plan = None
    kind, head_options = config.head.kind, config.head.options
    if kind == "auto":
        learned = [encoder] if tower is None else [encoder, tower.encoder]
        head_plan = plan(
            **sizes,
            encoder_bytes=sum(encoder_bytes(each, optimizer) for each in learned),
            encoder_operations=encoder.operations,
        )
        kind = head_plan.choice
        if head_plan.num_sampled is None:
            head_options.pop("num_sampled", None)
        else:
            head_options["num_sampled"] = head_plan.num_sampled
    takes_loss = "loss" in heads.options(kind).keywords
    options = {**({"loss": task.loss} if takes_loss else {}), **head_options}
    plain_softmax = (
        options.get("loss") in ("cross_entropy", {"kind": "cross_entropy"}) and "score" not in options
    )
    if plain_softmax and encoder.smooths_labels:
        options = {**heads[kind].training_options, **options}
    if options.pop("dim", dim) != dim:
        raise ConfigError(f"head.dim must equal the encoder's dim {dim}; leave it out.")
    values: dict[str, Any] = {
        "device": training_device(config).type,
        "batch_size": sizes["batch_size"],
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "metric": task.metric if train.metric == "auto" else train.metric,
    }
    known = [name for name in metrics.names() if task in metrics[name].tasks and metrics[name].judges]
    if values["metric"] not in known:
        raise ConfigError(
            f"train.metric {values['metric']!r} is not a metric of task {task.value!r}; "
            f"{did_you_mean(values['metric'], known)}"
        )
    section = config.head.completed(kind, {"dim": dim, **heads.options(kind).complete(options)})
    encoder_options = config.encoder.options
    if not heads[kind].learns_by_gradients:
        values["epochs"] = 1
    if not issubclass(heads[kind], CountingHead):
        encoder_options["dim"] = dim
    encoding = config.encoder.completed(config.encoder.kind, encoder_options)
    return config.updated(encoder=encoding, head=section, train=values), head_plan


def training_device(config: Config) -> torch.device:
    """What a config trains on; heads that count, and several processes, do so on the CPU.

    Raises:
        ConfigError: this machine has no such device, or the head does not train on it in that precision.
    """
    kind, train = config.head.kind, config.train
    if kind != "auto" and issubclass(heads[kind], CountingHead):
        on_the_cpu(train.device, train.precision, f"heads such as {kind!r}")
    elif max(config.distributed.workers, world_size()) > 1:
        if train.device not in ("auto", "cpu"):
            raise ConfigError(
                f"train.device is {train.device!r}, but several processes are trained on the CPU; leave it "
                "out."
            )
    else:
        return device_of(train.device, key="train.device")
    return CPU


def splits_classes(config: Config, num_classes: int, dim: int) -> bool:
    """Whether each of several processes holds the weights of some classes alone."""
    asked = config.distributed.shard_classes
    if asked == "auto":
        return config.head.kind in ("auto", *SHARDED) and num_classes * dim > ELEMENTWISE_NUMEL
    return asked


def head_sizes(
    config: Config, vocabulary: LabelVocabulary, *, encoder: Encoder, num_rows: int
) -> dict[str, Any]:
    """What the planner asks of a config and its data."""
    train = config.train
    is_split = splits_classes(config, len(vocabulary), encoder.dim)
    room: dict[str, int] = {}
    if training_device(config).type == "cuda":  # where the encoder alone stands as yet
        room["available_bytes"] = torch.cuda.mem_get_info()[0]
        room["base_bytes"] = sum(parameter.nbytes for parameter in encoder.parameters())
    return {
        "num_classes": len(vocabulary),
        "dim": encoder.dim,
        "batch_size": decide_batch_size(train.batch_size, num_rows),
        "num_rows": num_rows,
        "num_sampled": config.head.options.get("num_sampled"),
        "num_labels_per_row": float(vocabulary.counts.sum()) / num_rows,
        "optimizer": suited(config, encoder)[0],
        "epochs": train.epochs,
        "time_limit_s": train.time_limit_s,
        "workers": config.distributed.workers if is_split else 1,
        "precision": train.precision,
        **room,
    }


def suited(config: Config, encoder: Encoder) -> tuple[str, float]:
    """The optimizer and its learning rate: as configured, or what suits the head or else the encoder."""
    kind, train = config.head.kind, config.train
    of_head = None if kind == "auto" else heads[kind].optimizer
    optimizer, learning_rate = of_head or (encoder.optimizer, encoder.learning_rate)
    if of_head and encoder.fades:
        learning_rate /= 2
    return (
        optimizer if train.optimizer == "auto" else train.optimizer,
        learning_rate if train.learning_rate == "auto" else train.learning_rate,
    )


def encoder_bytes(encoder: Encoder, optimizer: str, *, workers: int = 1, weights: bool = False) -> int:
    """What training an encoder takes: gradients and the optimizer's state, and its weights if asked.

    Of several processes each holds some rows of its wide tables.
    """
    split = {weight for _, _, weight in tables(encoder) if weight.numel() > ELEMENTWISE_NUMEL}
    shapes = [
        (-(-len(weight) // workers) if weight in split else len(weight), *weight.shape[1:])
        for weight in encoder.parameters()
    ]
    weights_bytes = FLOAT_BYTES * sum(map(prod, shapes))
    dense_bytes = min(weights_bytes, FLOAT_BYTES * encoder.operations)
    return dense_bytes + optimizer_bytes(optimizer, shapes) + (weights_bytes if weights else 0)


def decide_batch_size(batch_size: int | Literal["auto"], num_rows: int) -> int:
    """A power of two that gives about ``STEPS_PER_EPOCH`` steps, within limits."""
    if batch_size != "auto":
        return batch_size
    return min(max(1 << max(0, (num_rows // STEPS_PER_EPOCH).bit_length() - 1), MIN_BATCH), MAX_BATCH)


def complete_data(config: Config, schema: Schema) -> Config:
    """Name the columns and kinds that were inferred, and the data from the root; a run is its own folder."""
    data = {
        "train": tuple(map(absolute, config.data.train)),
        "valid": tuple(map(absolute, config.data.valid)),
        "classes": tuple(map(absolute, config.data.classes)),
        "input": tuple(column.name for column in schema.inputs),
        "target": schema.target,
        "kinds": {column.name: column.kind for column in schema.inputs},
    }
    return config.updated(data=data, output={"dir": "."})


def absolute(name: str) -> str:
    """A path from the root, so that a run can be resumed from any directory; catalog names as they are."""
    folder, _, split = name.rpartition(":")
    if folder and not Path(name).exists() and Path(folder).is_dir():
        return f"{Path(folder).resolve()}:{split}"
    return str(Path(name).resolve()) if Path(name).exists() or "/" in name else name

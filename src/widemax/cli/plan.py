"""``widemax plan``: memory and time of each head on this machine, and the choice."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from widemax.cli import options
from widemax.cli.options import print_result, read_config
from widemax.errors import UsageError

if TYPE_CHECKING:
    from widemax.config import Config
    from widemax.encoders import Features

OF_DATA = "input", "target", "kind", "set_", "drop_bad", "delimiter", "label_separator", "encoding"


def command(
    context: typer.Context,
    data: Annotated[
        list[str] | None,
        typer.Argument(help="A config FILE.toml, or data; its rows are read to count classes."),
    ] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="The number of classes C.")] = None,
    dim: Annotated[int | None, typer.Option(min=1, help="The length D of a hidden vector.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Rows per step, B. Default: 256.")] = None,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Rows per epoch. With it the time of an epoch is shown.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that hold the classes together. Default: one.")
    ] = None,
    input: options.Input = None,  # noqa: A002 - the name users type
    target: options.Target = None,
    kind: options.Kind = None,
    set_: options.Set = None,
    drop_bad: options.DropBad = False,
    delimiter: options.Delimiter = None,
    label_separator: options.LabelSeparator = None,
    encoding: options.Encoding = None,
    json: options.Json = False,
) -> None:
    """Predict peak memory and time of each head, and say which one is chosen and why."""
    sizes: dict[str, Any] = {
        "num_classes": classes,
        "dim": dim,
        "batch_size": batch or 256,
        "num_rows": rows,
        "workers": workers or 1,
    }
    named, copies = "auto", ""
    if data:
        given = {"--classes": classes, "--batch": batch, "--rows": rows}
        if told := [name for name, size in given.items() if size is not None]:
            raise UsageError(f"{told[0]} is told by the data and their config; leave it out.")
        config = read_config(data, context.params)
        sizes, named = sizes_of(config, dim)
        if config.distributed.workers > sizes["workers"]:
            copies = f"each of {config.distributed.workers} processes holds a copy of the head"
    elif told := [name for name in OF_DATA if context.params[name]]:
        name = told[0].strip("_").replace("_", "-")
        raise UsageError(f"--{name} is of data; give FILE.toml or data too, or leave it out.")
    if sizes["num_classes"] is None or sizes["dim"] is None:
        raise UsageError("give FILE.toml or data, or both --classes and --dim.")
    from widemax.planner import plan

    result = plan(**sizes)
    lines = [*result.lines(), *filter(None, [copies]), *named_line(named)]
    print_result(result.to_dict() | {"named": named}, lines, json=json)


def named_line(kind: str) -> Iterator[str]:
    """That the head, named or following from the data, is taken whatever it costs."""
    from widemax.heads import CountingHead, heads

    if kind != "auto":
        line = f"the config, or else what its data are, names {kind!r}, which is taken in any case"
        if issubclass(heads[kind], CountingHead):
            line += (
                ": it counts every row once; its memory grows with the pairs of features and "
                "classes that occur, and is not predicted"
            )
        yield f"{line}."


def sizes_of(config: "Config", dim: int | None) -> tuple[dict[str, Any], str]:
    """What the planner asks of a config, learned in one pass over its data, and the head that is named."""
    import torch

    from widemax.artifact.model import build_encoder
    from widemax.config import HeadConfig
    from widemax.data import Dataset, LabelCounter, Reading, infer_schema
    from widemax.heads import CountingHead, heads
    from widemax.training.defaults import (
        are_countable,
        complete_encoder,
        complete_weight,
        counting_head,
        encoder_bytes,
        head_sizes,
        training_device,
        width_needed,
    )
    from widemax.training.feed import chunks_of
    from widemax.training.prepare import build_tower, class_table, sources_of

    config, sources, _, class_sources = sources_of(config, None, None)
    training_device(config)  # refuses one that is not here
    named = config.head.kind
    if config.head.kind != "auto" and issubclass(heads[config.head.kind], CountingHead):
        options = {name: value for name, value in config.encoder.options.items() if name != "dim"}
        encoding = config.encoder.completed(config.encoder.kind, options)
        config = config.updated(encoder=encoding, head=HeadConfig())
    data, reading = config.data, Reading.of(config.data)
    schema = infer_schema(sources, inputs=data.input, target=data.target, kinds=data.kinds, format=reading)
    dataset = Dataset(sources, schema, format=reading, drop_bad=data.drop_bad)
    encoder = build_encoder(complete_encoder(config, schema).encoder, schema)
    counter, width = LabelCounter(), width_needed(config)
    vocabulary, num_rows = None, 0

    def features() -> Iterator["Features"]:
        nonlocal vocabulary, num_rows
        for chunk in chunks_of(dataset):
            assert chunk.labels is not None
            counter.update(chunk.labels)
            num_rows += len(chunk)
            yield encoder.featurize(chunk.columns)
        vocabulary = counter.finish()
        if width:
            encoder.narrow(width(len(vocabulary)))

    encoder.fit(features(), generator=torch.Generator())
    assert vocabulary is not None  # the last of the features has been read
    if named == "auto" and are_countable(config, schema):
        named = counting_head(vocabulary, num_rows) or named
    sizes = head_sizes(config, vocabulary, encoder=encoder, num_rows=num_rows)
    workers = config.distributed.workers
    sizes |= {"dim": dim or encoder.dim, "encoder_operations": encoder.operations}
    is_base = "base_bytes" in sizes  # on a GPU it is in what is held before the head
    sizes["encoder_bytes"] = encoder_bytes(encoder, sizes["optimizer"], workers=workers, weights=not is_base)
    if config.head.weight is not None:
        table = class_table(class_sources, vocabulary, schema, reading)
        tower = build_tower(complete_weight(config, table.schema, dim=encoder.dim), table, vocabulary)
        sizes["encoder_bytes"] += encoder_bytes(tower.encoder, sizes["optimizer"], weights=True)
    return sizes, named

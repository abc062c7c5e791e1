"""``widemax plan``: memory and time of each head on this machine, and the choice."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from widemax.cli import options
from widemax.cli.options import print_result, read_config
from widemax.errors import UsageError

if TYPE_CHECKING:
    from widemax.config import Config


def command(
    context: typer.Context,
    data: Annotated[
        list[str] | None,
        typer.Argument(help="A config FILE.toml, or data; its rows are read to count classes."),
    ] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="The number of classes C.")] = None,
    dim: Annotated[int | None, typer.Option(min=1, help="The length D of a hidden vector.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Rows per step, B.")] = 256,
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
        "batch_size": batch,
        "num_rows": rows,
        "workers": workers or 1,
    }
    named = "auto"
    if data:
        config = read_config(data, {**context.params, "classes": None, "workers": None})
        sizes, named = sizes_of(config, dim)
        sizes["workers"] = workers or config.distributed.workers
    if sizes["num_classes"] is None or sizes["dim"] is None:
        raise UsageError("give FILE.toml or data, or both --classes and --dim.")
    from widemax.planner import plan

    result = plan(**sizes)
    lines = [*result.lines(), *named_line(named)]
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
    """What the planner asks of a config, counted in one pass over its data, and the head that is named."""
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
    from widemax.training.prepare import build_tower, class_table, sources_of

    config, sources, _, class_sources = sources_of(config, None, None)
    training_device(config)  # refuses one that is not here
    named = config.head.kind
    if config.head.kind != "auto" and issubclass(heads[config.head.kind], CountingHead):
        options = {name: value for name, value in config.encoder.options.items() if name != "dim"}
        encoding = config.encoder.completed(config.encoder.kind, options)
        config = config.model_copy(update={"encoder": encoding, "head": HeadConfig()})
    data, reading = config.data, Reading.of(config.data)
    schema = infer_schema(sources, inputs=data.input, target=data.target, kinds=data.kinds, format=reading)
    counter, num_rows = LabelCounter(), 0
    for chunk in Dataset(sources, schema, format=reading, drop_bad=data.drop_bad).batches():
        assert chunk.labels is not None
        counter.update(chunk.labels)
        num_rows += len(chunk)
    vocabulary, encoder = counter.finish(), build_encoder(complete_encoder(config, schema).encoder, schema)
    if width := width_needed(config):
        encoder.narrow(width(len(vocabulary)))
    if named == "auto" and are_countable(config, schema):
        named = counting_head(vocabulary, num_rows) or named
    sizes = head_sizes(config, vocabulary, encoder=encoder, num_rows=num_rows)
    if config.head.weight is not None:
        table = class_table(class_sources, vocabulary, schema, reading)
        tower = build_tower(complete_weight(config, table.schema, dim=encoder.dim), table, vocabulary)
        weights_bytes = sum(weight.nbytes for weight in tower.encoder.parameters())
        sizes["encoder_bytes"] = weights_bytes + encoder_bytes(tower.encoder, sizes["optimizer"])
    return sizes | {"dim": dim or encoder.dim}, named

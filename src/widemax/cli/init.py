"""``widemax init``: guess the columns and write a commented config."""

from collections.abc import Iterable, Iterator
from json import dumps as json_text
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from widemax.cli import options
from widemax.cli.options import print_result, read_config, recognize_events
from widemax.errors import UsageError

if TYPE_CHECKING:
    from widemax.data import Schema
    from widemax.options import Options


class Command(typer.core.TyperCommand):
    """A verb whose help lists what a config can name, members of other distributions included."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        from widemax.encoders import encoders
        from widemax.heads import CORRECTIONS, heads, scores
        from widemax.losses import losses
        from widemax.optim import optimizers
        from widemax.samplers import samplers

        names: dict[str, Iterable[str]] = {
            "encoder.kind": encoders,
            "head.kind": heads,
            "head.loss": (name for name in losses if losses.traits(name).of == "logits"),
            "head.score": scores,
            "head.sampler": samplers,
            "head.correction": CORRECTIONS,
            "train.optimizer": optimizers,
        }
        with formatter.section("What a config can name"):
            formatter.write_dl([(key, ", ".join(members)) for key, members in names.items()])
        super().format_epilog(ctx, formatter)


def command(
    context: typer.Context,
    data: options.Data,
    out: Annotated[Path, typer.Option("-o", "--out", help="The config to write.")] = Path("widemax.toml"),
    input: options.Input = None,  # noqa: A002 - the name users type
    target: options.Target = None,
    kind: options.Kind = None,
    user: options.User = None,
    item: options.Item = None,
    time: options.Time = None,
    weight: options.Weight = None,
    split: options.Split = None,
    items: options.Items = None,
    users: options.Users = None,
    delimiter: options.Delimiter = None,
    label_separator: options.LabelSeparator = None,
    encoding: options.Encoding = None,
    json: options.Json = False,
) -> None:
    """Guess the columns, write a commented config, and print the next command."""
    if out.exists():
        raise UsageError(f"{out} already exists; choose another file with -o.")
    from widemax.data import Reading, infer_schema
    from widemax.encoders import default_encoder, encoders
    from widemax.heads import heads
    from widemax.storage import write_file
    from widemax.training.defaults import are_countable
    from widemax.training.prepare import sources_of

    config, told = recognize_events(read_config(data, {**context.params, "out": None}))
    config, sources, *_ = sources_of(config, None, None)
    section = config.data
    schema = infer_schema(
        sources, inputs=section.input, target=section.target, kinds=section.kinds, format=Reading.of(section)
    )
    keys = ("delimiter", "encoding", "label_separator", "user", "item", "time", "weight", "items", "users")
    given = {key: getattr(section, key) for key in keys}
    if section.user:
        given["split"] = section.split or ("time:0.9" if section.time else "random:0.9")
    choice = "counts and blends, for events" if section.user else "asks the planner"
    if are_countable(config, schema):
        choice = "separates several labels of texts (label_tree), counts them (counts), or asks the planner"
    encoder = default_encoder([column.kind for column in schema.inputs])
    text = "\n".join(
        [
            "# Written by widemax init. What is commented out is the default.",
            "[data]",
            f"train = {toml(data)}",
            *(f"{key} = {toml(value)}" for key, value in given.items() if value),
            *([] if section.user else columns_of(schema)),
            "",
            "[encoder]",
            f"kind = {toml(encoder)}  # one of {', '.join(encoders)}",
            *option_lines(encoders.options(encoder)),
            "",
            "[head]",
            f'kind = "auto"  # one of {", ".join(heads)}; auto {choice}',
            "",
            "[train]",
            "# epochs = 8",
            '# batch_size = "auto"',
            "# time_limit_s = 600",
            "# seed = 0",
            "",
            "[output]",
            'dir = "run"',
            "",
        ]
    )
    write_file(out, text)
    columns = {column.name: column.kind for column in schema.inputs}
    facts = {"config": str(out), "inputs": columns, "target": schema.target, "several": schema.several}
    print_result(facts, [*told, f"wrote {out}", f"next: widemax train {out}"], json=json)


def columns_of(schema: "Schema") -> Iterator[str]:
    """The columns that were guessed."""
    yield "# valid = []            # a tenth of the training rows is held out without"
    yield f"input = {toml([column.name for column in schema.inputs])}"
    yield f"target = {toml(schema.target)}  # {'several labels' if schema.several else 'one label'} a row"
    yield ""
    yield "[data.kinds]"
    yield from (f"{toml(column.name)} = {toml(column.kind)}" for column in schema.inputs)


def option_lines(options: "Options") -> Iterator[str]:
    """Each option with its default, commented out."""
    for name, parameter in options.keywords.items():
        default = parameter.default
        yield f"# {name} = {toml(default)}" if default is not None else f"# {name} is unset by default"


def toml(value: Any) -> str:
    """A value as TOML writes it; JSON agrees on texts, numbers, booleans and lists."""
    return json_text(value, ensure_ascii=False)

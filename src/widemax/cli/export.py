"""``widemax export``: a trained model in fewer bytes, with what that costs."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from widemax.cli.options import Delimiter, DropBad, Encoding, Json, Run, TrustedKey, print_result
from widemax.errors import UsageError, WidemaxError, visible


def command(
    run: Run,
    out: Annotated[Path, typer.Option(help="The folder for the smaller run.", readable=False)],
    format: Annotated[  # noqa: A002 - the name users type
        Literal["widemax"], typer.Option(help="A run folder that every other verb reads.")
    ] = "widemax",
    precision: Annotated[
        Literal["float32", "float16", "int8"], typer.Option(help="The precision of weights in the files.")
    ] = "float16",
    keep: Annotated[
        float,
        typer.Option(
            help="The share of the squared length of the encoder's rows that stays; the shortest rows go.",
            min=0.01,
            max=1.0,
        ),
    ] = 0.8,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Rows on which both models are evaluated. Default: those the model was trained on."
        ),
    ] = None,
    drop_bad: DropBad = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    trusted_key: TrustedKey = None,
    json: Json = False,
) -> None:
    """Write a smaller copy of a model, and state what its answers lose."""
    from widemax.artifact import Model
    from widemax.data import resolve
    from widemax.storage import current, foreign, read_manifest
    from widemax.training.evaluate import evaluate

    if out.resolve() == run.resolve():
        raise UsageError(f"{out} is the run itself; give another folder.")
    model = Model.load(run, trusted_key=trusted_key)
    rows = data or list(model.config.data.train)
    try:
        resolve(rows)
    except WidemaxError as error:
        raise UsageError(f"{error} Give --data ROWS, on which the loss is measured.") from None
    section = model.config.data
    if section.user and not (data or section.split):
        raise UsageError("the run was trained on all its events; give --data EVENTS to measure what is lost.")
    measured = partial(evaluate, data=rows, drop_bad=drop_bad, delimiter=delimiter, encoding=encoding)
    before = measured(model)
    model.save(out, overwrite=overwrite, precision=precision, keep=keep)
    after = measured(Model.load(out))
    metric = "accuracy" if "accuracy" in before else model.config.train.metric
    sizes = {
        name: sum(entry["bytes"] for entry in read_manifest(current(folder))["files"].values())
        for name, folder in (("bytes_before", run), ("bytes", out))
    }
    facts: dict[str, Any] = {
        "run": str(out),
        **sizes,
        "rows": rows,
        "metric": metric,
        "before": before[metric],
        "after": after[metric],
    }
    line = (
        f"saved {out}: {sizes['bytes'] / 1e6:.1f} MB in place of {sizes['bytes_before'] / 1e6:.1f} MB; "
        f"{metric} {after[metric]:.4f} in place of {before[metric]:.4f} on "
        + (
            ", ".join(rows)
            if data
            else "what its split held out"
            if section.split
            else "the rows it was trained on; give --data for others"
        )
    )
    if others := foreign(out):
        typer.echo(visible(f"left in {out}, which are not of the run: {', '.join(others)}"), err=True)
    print_result(facts, [line], json=json)

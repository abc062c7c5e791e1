"""``widemax export``: a trained model in fewer bytes, with what that costs, or for other programs."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from widemax.cli.options import Delimiter, DropBad, Encoding, Json, Run, TrustedKey, print_result
from widemax.errors import UsageError, WidemaxError, visible


def command(
    run: Run,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The folder for what is written. Default: beside the run, RUN-FORMAT.", readable=False
        ),
    ] = None,
    format: Annotated[  # noqa: A002 - the name users type
        Literal["widemax", "onnx", "embeddings", "tsv"],
        typer.Option(
            help="widemax: a run folder that every other verb reads. onnx: the head, hidden vectors to "
            "logits and the k best. embeddings: label, count and vector of each class in Parquet. tsv: these "
            "for the Embedding Projector."
        ),
    ] = "widemax",
    precision: Annotated[
        Literal["float32", "float16", "int8"] | None,
        typer.Option(help="The precision of weights in the files of a run. Default: float16."),
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option(
            help="The share of the squared length of the encoder's rows that stays; the shortest rows go. "
            "Default: 0.8.",
            min=0.01,
            max=1.0,
        ),
    ] = None,
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
    """Write a smaller copy of a model, and state what its answers lose; or its head for other programs."""
    from widemax.artifact import Model
    from widemax.data import resolve
    from widemax.storage import current, foreign, read_manifest
    from widemax.training.evaluate import evaluate

    whole = run.resolve()
    out = out or Path(os.path.relpath(whole.with_name(f"{whole.name}-{format}")))
    if out.resolve() == whole:
        raise UsageError(f"{out} is the run itself; give another folder.")
    model = Model.load(run, trusted_key=trusted_key)
    if format != "widemax":
        from widemax.exports import export

        own = {
            "--precision": precision,
            "--keep": keep,
            "--data": data,
            "--drop-bad": drop_bad or None,
            "--delimiter": delimiter,
            "--encoding": encoding,
        }
        for option, value in own.items():
            if value is not None:
                raise UsageError(f"{option} is for --format widemax; leave it out.")
        written = list(map(str, export(model, out, form=format, overwrite=overwrite)))
        print_result({"files": written}, [f"wrote {', '.join(written)}"], json=json)
        return
    precision, keep = precision or "float16", keep or 0.8
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

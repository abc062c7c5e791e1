"""``widemax extend``: more classes for a trained model, by their names alone."""

from pathlib import Path
from typing import Annotated

import typer

from widemax.cli.options import Json, Run, TrustedKey, print_result
from widemax.errors import counted


def command(
    run: Run,
    classes: Annotated[
        list[str], typer.Option(help="A table of the new classes, with the columns of that of the training.")
    ],
    out: Annotated[Path, typer.Option(help="The folder for the larger run.", readable=False)],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    trusted_key: TrustedKey = None,
    json: Json = False,
) -> None:
    """Add classes to a model whose class weights a tower makes, without training."""
    from widemax.artifact import Model

    model = Model.load(run, trusted_key=trusted_key)
    larger = model.extend(classes)
    larger.save(out, overwrite=overwrite)
    num_new, num_classes = larger.head.num_classes - model.head.num_classes, larger.head.num_classes
    lines = [f"saved {out}: {counted(num_new, 'new class')}, {num_classes:,} in all"]
    print_result({"run": str(out), "new_classes": num_new, "num_classes": num_classes}, lines, json=json)

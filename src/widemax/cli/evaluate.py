"""``widemax evaluate``: exact metrics over every row and every class."""

from typing import Annotated

import typer

from widemax.cli.options import Data, Delimiter, DropBad, Encoding, Json, Run, print_result, result_lines


def command(
    run: Run,
    data: Data,
    drop_bad: DropBad = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    every: Annotated[
        bool, typer.Option("--all", help="Show every metric. Default: those that matter most.")
    ] = False,
    json: Json = False,
) -> None:
    """Compute exact metrics over every row. A label never seen in training is a miss."""
    from widemax.artifact import Model
    from widemax.training.evaluate import evaluate

    values = evaluate(Model.load(run), data, drop_bad=drop_bad, delimiter=delimiter, encoding=encoding)
    print_result(values, result_lines(values, every=every), json=json)

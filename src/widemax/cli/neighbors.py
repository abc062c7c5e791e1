"""``widemax neighbors``: what goes together with an item, or the classes nearest to one."""

from typing import Annotated

import typer

from widemax.cli.options import Json, Run, TrustedKey, print_result
from widemax.errors import UsageError, visible


def command(
    run: Run,
    label: Annotated[str | None, typer.Argument(help="A class, such as an item.")] = None,
    item: Annotated[str | None, typer.Option(help="The same.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many to give.")] = 10,
    trusted_key: TrustedKey = None,
    json: Json = False,
) -> None:
    """Give the items that people take beside one, or the classes with the nearest weights."""
    name = item if label is None else label
    if name is None or None not in (item, label):
        raise UsageError("name one item, as in `widemax neighbors run --item tea`.")
    from widemax.artifact import Model
    from widemax.recommender import neighbors

    model = Model.load(run, trusted_key=trusted_key)
    found = neighbors(model, name, k=k)
    measure = "cosine" if model.head.has_weight_rows else "probability"
    result = {"label": name, "neighbors": [{"label": near, measure: value} for near, value in found]}
    if not found:
        typer.echo(visible(f"the run knows nothing beside {name!r}."), err=True)
    print_result(result, [f"{value:.4f}  {near}" for near, value in found], json=json)

"""``widemax recipe``: complete systems on real data, the known result beside the obtained one."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from widemax.cli.examples import examples
from widemax.cli.options import Json, print_result

if TYPE_CHECKING:
    from widemax.recipes import RecipeResult

app = typer.Typer(
    help="Run complete systems on real data and compare with known results.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list", epilog=examples("recipe list"))
def list_recipes(json: Json = False) -> None:
    """List the recipes, the data they read, and how long a full run takes."""
    from widemax.data import at_hand
    from widemax.recipes import recipes

    entries = [
        {
            "name": name,
            "title": recipe.title,
            "description": recipe.description,
            "data": {data_set: at_hand(data_set) for data_set in recipe.data},
            "full_time": recipe.full_time,
            "known": {
                what: {"known": known.text, "source": known.source} for what, known in recipe.known.items()
            },
        }
        for name, recipe in ((name, recipes[name]) for name in recipes)
    ]
    width = max(map(len, recipes))
    lines = (
        f"{entry['name']:<{width}}  {entry['title']}\n"
        f"{'':<{width}}  data: {', '.join(entry['data']) or 'none'}; full run: {entry['full_time']}"
        for entry in entries
    )
    print_result({"recipes": entries}, lines, json=json)


@app.command("run", epilog=examples("recipe run"))
def run(
    name: Annotated[str, typer.Argument(help="A name from `widemax recipe list`.")],
    quick: Annotated[bool, typer.Option("--quick", help="Do less, to finish within a minute.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder of the results. Default: recipe-NAME.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="The seed of all randomness; the same seed gives the same result.")
    ] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the results in --out.")] = False,
    json: Json = False,
) -> None:
    """Run a recipe and save its pictures, results.json and report.html."""
    from widemax.recipes import run_recipe

    folder = out or Path(f"recipe-{name}")
    outcome = run_recipe(name, folder=folder, quick=quick, seed=seed, overwrite=overwrite)
    print_result({"folder": str(folder), **outcome.facts}, lines_of(outcome), json=json)


def lines_of(outcome: "RecipeResult") -> Iterator[str]:
    """The known results beside the obtained ones, and where the pictures are."""
    facts, lines = outcome.facts, outcome.facts["lines"]
    widths = {key: max(len(line[key]) for line in lines) for key in ("what", "known")}
    yield f"{outcome.recipe.title}\n"
    for line in lines:
        yield (
            f"{line['what']:<{widths['what']}}  known {line['known']:<{widths['known']}}  "
            f"obtained {line['obtained']}{'' if line['reached'] else '  NOT REACHED'}"
        )
    yield from ["", *(f"- {finding}" for finding in facts["findings"]), ""]
    reached = sum(line["reached"] for line in lines)
    yield (
        f"{reached} of {len(lines)} known results reached{' in a quick run' if facts['quick'] else ''}, "
        f"{facts['seconds']:.1f} s, seed {facts['seed']}"
    )
    yield f"pictures: {', '.join(picture['file'] for picture in facts['pictures'])}"
    yield f"report: {outcome.folder / 'report.html'}"

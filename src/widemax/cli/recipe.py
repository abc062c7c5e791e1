"""``widemax recipe``: complete systems on real data, the known result beside the obtained one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from widemax.cli.options import Json, print_json, print_lines

if TYPE_CHECKING:
    from widemax.recipes import RecipeResult

app = typer.Typer(
    help="Run complete systems on real data and compare with known results.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
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
    if json:
        print_json({"recipes": entries})
        return
    width = max(map(len, recipes))
    for name in recipes:
        recipe = recipes[name]
        print_lines(
            [
                f"{name:<{width}}  {recipe.title}",
                f"{'':<{width}}  data: {', '.join(recipe.data) or 'none'}; full run: {recipe.full_time}",
            ]
        )


@app.command("run")
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
    if json:
        print_json({"folder": str(folder), **outcome.facts})
    else:
        show(outcome)


def show(outcome: "RecipeResult") -> None:
    """The known results beside the obtained ones, and where the pictures are."""
    facts, lines = outcome.facts, outcome.facts["lines"]
    widths = {key: max(len(line[key]) for line in lines) for key in ("what", "known")}
    print_lines([outcome.recipe.title, ""])
    print_lines(
        f"{line['what']:<{widths['what']}}  known {line['known']:<{widths['known']}}  "
        f"obtained {line['obtained']}{'' if line['reached'] else '  NOT REACHED'}"
        for line in lines
    )
    print_lines(["", *(f"- {finding}" for finding in facts["findings"]), ""])
    reached = sum(line["reached"] for line in lines)
    print_lines(
        [
            f"{reached} of {len(lines)} known results reached{' in a quick run' if facts['quick'] else ''}, "
            f"{facts['seconds']:.1f} s, seed {facts['seed']}",
            f"pictures: {', '.join(picture['file'] for picture in facts['pictures'])}",
            f"report: {outcome.folder / 'report.html'}",
        ]
    )

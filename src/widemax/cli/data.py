"""``widemax data``: the data sets by name, with licence and sha256."""

from typing import Annotated

import typer

from widemax.cli.options import Json, print_json, print_lines

app = typer.Typer(
    help="List data sets by name, and prepare one.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("list")
def list_sets(json: Json = False) -> None:
    """List the data sets, their licences, and whether their files are present."""
    from widemax.data import at_hand, sets

    entries = [
        {
            "name": entry.name,
            "title": entry.title,
            "splits": list(entry.splits),
            "inputs": list(entry.inputs),
            "target": entry.target,
            "licence": entry.licence,
            "attribution": entry.attribution,
            "url": entry.url,
            "bundled": entry.bundled,
            "at_hand": at_hand(entry.name),
            "sha256": entry.files,
        }
        for entry in map(sets.__getitem__, sets)
    ]
    if json:
        print_json({"sets": entries})
    else:
        width = max(len(name) for name in sets)
        print_lines(
            f"{entry['name']:<{width}}  {'at hand' if entry['at_hand'] else 'absent':<7}  "
            f"{entry['title']}  [{entry['licence']}]"
            for entry in entries
        )


@app.command("get")
def get_set(
    name: Annotated[str, typer.Argument(help="A name from `widemax data list`.")], json: Json = False
) -> None:
    """Prepare a data set: check the SHA-256 of its original files and write one file per split."""
    from widemax.data import get, sets

    folder = get(name)
    files = [sets[name]().path(folder, split).name for split in sets[name].splits]
    if json:
        print_json({"name": name, "folder": str(folder), "files": files})
    else:
        print_lines([f"{name} is in {folder}: {', '.join(files)}", f"use it as data: widemax check {name}"])

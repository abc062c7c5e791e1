"""``widemax data``: the data sets by name, with licence and sha256."""

from typing import Annotated

import typer

from widemax.cli.examples import examples
from widemax.cli.options import Json, print_result

app = typer.Typer(
    help="List data sets by name, and prepare one.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("list", epilog=examples("data list"))
def list_sets(json: Json = False) -> None:
    """List the data sets, their licences, and whether their files are present."""
    from widemax.data import at_hand, sets

    facts = ("name", "title", "splits", "inputs", "target", "licence", "attribution", "url", "bundled")
    entries = [
        {fact: getattr(entry, fact) for fact in facts}
        | {"at_hand": at_hand(entry.name), "sha256": entry.files, "downloads": entry.downloads}
        for entry in (sets[name]() for name in sets)
    ]
    width = max(map(len, sets))
    lines = (
        f"{entry['name']:<{width}}  {'at hand' if entry['at_hand'] else 'absent':<7}  "
        f"{entry['title']}  [{entry['licence']}]"
        for entry in entries
    )
    print_result({"sets": entries}, lines, json=json)


@app.command("get", epilog=examples("data get"))
def get_set(
    name: Annotated[str, typer.Argument(help="A name from `widemax data list`.")],
    fetch: Annotated[
        bool,
        typer.Option("--download", help="Say the licence, then fetch what is absent of the original files."),
    ] = False,
    json: Json = False,
) -> None:
    """Prepare a data set: check the SHA-256 of its original files and write one file per split."""
    from widemax.data import download, get, sets

    if fetch:
        download(name)
    folder = get(name)
    files = [sets[name]().path(folder, split).name for split in sets[name].splits]
    lines = [f"{name} is in {folder}: {', '.join(files)}", f"use it as data: widemax check {name}"]
    print_result({"name": name, "folder": str(folder), "files": files}, lines, json=json)

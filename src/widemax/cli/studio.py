"""``widemax studio``: the page over all runs in a folder."""

from pathlib import Path
from typing import Annotated

import typer

from widemax.cli.options import Json, print_json
from widemax.cli.serve import AllowHost, TokenFile, read_token
from widemax.errors import UsageError


def command(
    folder: Annotated[
        Path, typer.Argument(help="Where the runs are, and where trainings put new ones.")
    ] = Path("."),
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 for any that is free.")] = 8000,
    token_file: TokenFile = None,
    allow_host: AllowHost = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    json: Json = False,
) -> None:
    """Look at runs in a browser: curves as they train, mistakes, classes, predictions, softmax itself."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder. Name the one where your runs are.")
    from widemax.serving import Settings, create_app
    from widemax.serving.server import address_of, listen, run
    from widemax.serving.studio import Runs

    runs = Runs(folder.resolve())
    settings = Settings(token=read_token(token_file), hosts=tuple(allow_host or ()), feedback=runs.folder)
    listener = listen(host, port)
    url = address_of(listener)
    if json:
        print_json({"url": url, "runs": list(runs.paths())})
    typer.echo(f"Studio is at {url} over {folder} (Ctrl-C stops)", err=True)
    if open_:
        typer.launch(url)
    run(create_app(None, settings, runs=runs), listener)

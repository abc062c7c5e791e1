"""``widemax sign``: a signature, by which others know who saved a run."""

from pathlib import Path
from typing import Annotated

import typer

from widemax.cli.options import Json, Run, print_result


def command(
    run: Run,
    key: Annotated[Path, typer.Option(help="An Ed25519 private key in PEM, as openssl makes it.")],
    json: Json = False,
) -> None:
    """Sign the manifest of a run, which names every other file by its hash, after checking all of it."""
    from widemax.artifact import Model
    from widemax.signatures import sign
    from widemax.storage import SIGNATURE

    Model.load(run)
    sign(run, key)
    path = str(run / SIGNATURE)
    print_result({"run": str(run), "signature": path}, [f"signed: {path}"], json=json)

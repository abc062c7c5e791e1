"""``widemax serve``: trained runs behind HTTP."""

from pathlib import Path
from typing import Annotated

import typer

from widemax.cli.options import Json, print_json
from widemax.errors import UsageError

TokenFile = Annotated[
    Path | None,
    typer.Option(
        help="A file with the token that who asks from another machine must bring, for orders such as reload "
        "and for rows, configs and trainings in Studio."
    ),
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(help="A name that requests may call the server by, beside its address and localhost."),
]


def command(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Run folders made by `widemax train`; their last names become those of the models.",
            exists=True,
            file_okay=False,
            readable=False,
        ),
    ],
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 for any that is free.")] = 8000,
    threads: Annotated[int, typer.Option("--workers-threads", min=1, help="Batches computed at a time.")] = 1,
    max_batch: Annotated[int, typer.Option(min=1, help="Rows that are answered together.")] = 64,
    max_wait_ms: Annotated[
        float,
        typer.Option(min=0, help="How long a request waits for others, where answers take 5 ms or more."),
    ] = 2,
    queue: Annotated[int, typer.Option(min=1, help="Requests that may wait; others are answered 429.")] = 256,
    timeout: Annotated[
        float,
        typer.Option(min=0.001, help="Seconds that a request may wait, and that it may take to arrive."),
    ] = 10,
    token_file: TokenFile = None,
    allow_host: AllowHost = None,
    coverage: Annotated[
        float | None,
        typer.Option(
            min=0.5,
            max=0.999,
            help="Say to abstain where a set of labels that holds the right one so often is larger than k.",
        ),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            help="Rows with their labels, unseen in training, that these sets go by; else those held out."
        ),
    ] = None,
    feedback: Annotated[
        Path | None,
        typer.Option(
            help="A folder that keeps rows with their right labels, a file a model, as training data.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    mmap: Annotated[
        bool, typer.Option("--mmap", help="Leave weights in their files: less memory, which processes share.")
    ] = False,
    json: Json = False,
) -> None:
    """Answer requests over HTTP: predictions, labels, neighbors, explanations, and the page Studio at /."""
    from widemax.serving import Models, Settings, create_app
    from widemax.serving.abstention import Coverage
    from widemax.serving.server import address_of, listen, run

    if calibration and (coverage is None or len(runs) > 1):
        raise UsageError("--calibration is rows of one run for --coverage P to go by; leave it out.")
    sets = None if coverage is None else Coverage(coverage, calibration)
    with listen(host, port) as listener:
        models = Models(runs, coverage=sets, mapped=mmap)
        for name, problem in models.problems.items():
            typer.echo(f"{name} is not served: {problem}", err=True)
        settings = Settings(
            threads,
            max_batch,
            max_wait_ms,
            queue,
            timeout,
            read_token(token_file),
            tuple(allow_host or ()),
            feedback,
        )
        url = address_of(listener)
        if json:
            print_json({"url": url, "models": list(models)})
        typer.echo(
            f"serving {', '.join(models)} at {url} (with the page Studio; /docs lists all routes; "
            "Ctrl-C stops)",
            err=True,
        )
        run(create_app(models, settings), listener)


def read_token(path: Path | None) -> str | None:
    """The token in a file.

    Raises:
        UsageError: the file cannot be read, or holds none.
    """
    if path is None:
        return None
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read a token from {path}: {error}.") from None
    if len(token) < 16 or not token.isprintable() or " " in token:
        raise UsageError(f"{path} must hold one token of at least 16 letters and digits.")
    return token

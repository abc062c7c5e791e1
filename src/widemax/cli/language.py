"""What the verbs do with texts and with runs of language models."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from widemax.cli.options import print_result, print_texts, result_lines
from widemax.errors import UsageError

Unit = Annotated[
    Literal["word", "subword", "character"] | None,
    typer.Option(help="What a token of a language model is. Default: word."),
]
PerToken = Annotated[
    Path | None,
    typer.Option(
        help="A file to write: a JSON object a token, with its log-probability and rank, where the run is a "
        "language model.",
        readable=False,
    ),
]
Tokens = Annotated[
    int | None, typer.Option(min=0, help="How many tokens a language model adds. Default: 100.")
]
Temperature = Annotated[
    float | None,
    typer.Option(
        min=0, help="Divides the logits of a language model; 0 takes the most probable token. Default: 1."
    ),
]
TopK = Annotated[
    int | None, typer.Option(min=1, help="A language model draws among so many most probable tokens.")
]
TopP = Annotated[
    float | None,
    typer.Option(help="A language model draws among the fewest most probable tokens that reach it."),
]
Seed = Annotated[int | None, typer.Option(min=0, help="The seed of what a language model draws. Default: 0.")]


def evaluate(
    run: Path,
    data: Sequence[str],
    *,
    encoding: str | None,
    per_token: Path | None,
    trusted_key: Path | None,
    every: bool,
    json: bool,
) -> None:
    """Print the perplexity of texts."""
    from widemax.language import LanguageModel
    from widemax.language.evaluate import evaluate as evaluate_texts

    model = LanguageModel.load(run, trusted_key=trusted_key)
    values = evaluate_texts(model, data, encoding=encoding, per_token=per_token)
    print_result(values, result_lines(values, every=every), json=json)


def predict(
    run: Path,
    data: Sequence[str],
    *,
    form: str | None,
    encoding: str | None,
    trusted_key: Path | None,
    json: bool,
    seed: int | None,
    **options: Any,
) -> None:
    """Print texts with what may follow, or JSON with what follows."""
    from widemax.language import LanguageModel

    if form not in (None, "jsonl"):
        raise UsageError(f"--format {form} is of labels; a text goes on as text, or jsonl. Leave it out.")
    model = LanguageModel.load(run, trusted_key=trusted_key)
    given = {name: value for name, value in options.items() if value is not None}
    rows: Iterator[dict[str, Any]] = (
        {"row": row, "text": text, "continuation": model.continue_(text, seed=(seed or 0) + row, **given)}
        for row, text in enumerate(_texts(data, encoding))
    )
    print_texts(rows, lambda row: row["text"] + row["continuation"], form, json=json)


def _texts(data: Sequence[str], encoding: str | None) -> Iterator[str]:
    """The lines of stdin as they arrive, or the text of files as one."""
    from widemax.cli.predict import stdin_texts
    from widemax.language import read_lines

    if list(data) == ["-"]:
        yield from chain.from_iterable(stdin_texts(encoding))
    else:
        yield "".join(read_lines(data, encoding=encoding))

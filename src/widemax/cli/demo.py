"""``widemax demo``: the main job on real data, end to end."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Annotated, Any

import typer

from widemax.cli.options import Json, print_json, result_lines
from widemax.cli.workers import INTERRUPTED
from widemax.errors import UnknownNameError, did_you_mean, visible

if TYPE_CHECKING:
    from widemax.artifact import Model
    from widemax.training.runs import Outcome


@dataclass(frozen=True)
class Demo:
    """One demonstration: data by catalog name, a config, and what to ask the trained model."""

    title: str
    train: str
    test: str
    input: str
    target: str
    run: Path
    questions: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)


DEMOS = {
    "intents": Demo(
        title="CLINC150: what does a customer want? 150 intents, 18,000 sentences",
        train="clinc150",
        test="clinc150:test",
        input="text",
        target="intent",
        run=Path("demo-run"),
        questions=(
            "how much money is left on my card",
            "please wake me up at six tomorrow",
            "is it going to rain this weekend",
        ),
    ),
    "words": Demo(
        title="Open English WordNet as a reverse dictionary: definition → one of 128,000 words",
        train="open_english_wordnet",
        test="open_english_wordnet:test",
        input="definition",
        target="word",
        run=Path("demo-words-run"),
        questions=(
            "a large body of salt water",
            "someone who repairs shoes",
            "fear of being in a small closed space",
        ),
        settings={"head": {"kind": "sampled"}},
    ),
}


def command(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(DEMOS)}.")] = "intents",
    out: Annotated[
        Path | None, typer.Option("--out", help="The run folder. Default: demo-run, or demo-NAME-run.")
    ] = None,
    json: Json = False,
) -> None:
    """Train on real data, evaluate exactly, and answer examples. A finished run is used again."""
    if name not in DEMOS:
        raise UnknownNameError(f"unknown demo {name!r}; {did_you_mean(name, list(DEMOS))}")
    demo = DEMOS[name]
    run = out or demo.run
    model = trained(demo, run)

    from widemax.training.evaluate import evaluate

    tell(f"\nwidemax evaluate {run} {demo.test}")
    metrics = evaluate(model, demo.test)
    for line in result_lines(metrics):
        tell(f"  {line}")
    tell(f"\nwidemax predict {run} - -k 3")
    answers = {question: answer(model, demo, question) for question in demo.questions}
    if json:
        print_json({"run": str(run), "metrics": metrics, "answers": answers})
    elif sys.stdin.isatty():
        tell("\nType your own, one a line; end with Ctrl-D.")
        for line in sys.stdin:
            answer(model, demo, line.strip())
    called = "widemax" if which("widemax") else sys.argv[0]
    tell(f"\nto serve it, with Studio at http://127.0.0.1:8000: {called} serve {run}")


def trained(demo: Demo, run: Path) -> "Model":
    """The demo's finished run if there is one, an unfinished one continued, or a new one."""
    from widemax.config import Config
    from widemax.training.loop import resume, train
    from widemax.training.progress import reporter_for_terminal

    tell(demo.title)
    if (run / "config.toml").is_file():
        tell(f"using the run in {run}; remove that folder to train anew")
        return finished(resume(run, reporter=reporter_for_terminal()))
    tell(f"\nwidemax train {demo.train} --input {demo.input} --target {demo.target} --out {run}")
    config = Config.from_dict(
        {
            "data": {"train": demo.train, "input": demo.input, "target": demo.target},
            "output": {"dir": str(run)},
            **demo.settings,
        }
    )
    return finished(train(config, reporter=reporter_for_terminal()))


def finished(outcome: "Outcome[Model]") -> "Model":
    """The model of a run, unless Ctrl-C has stopped it."""
    if outcome.interrupted:
        tell(f"stopped; `widemax resume {outcome.run}` or the same demo goes on from there")
        raise typer.Exit(INTERRUPTED)
    return outcome.model


def answer(model: "Model", demo: Demo, question: str) -> list[dict[str, Any]]:
    """Ask the model, and show the three best answers."""
    predictions = model.predict([{demo.input: question}], k=3)[0]
    shown = ", ".join(f"{p.label} {p.probability:.2f}" for p in predictions)
    tell(f"  {question!r}: {shown}")
    return [{"label": p.label, "probability": p.probability} for p in predictions]


def tell(sentence: str) -> None:
    """Messages go to stderr, so that --json keeps stdout to itself."""
    typer.echo(visible(sentence), err=True)

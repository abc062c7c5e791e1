"""``widemax train``: from data to a saved, calibrated model."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from widemax.cli import options
from widemax.cli.language import Unit
from widemax.cli.options import print_result, read_config
from widemax.cli.translation import TargetLines, ValidTargetLines
from widemax.cli.workers import INTERRUPTED, is_first, is_worker, run_workers
from widemax.errors import counted

if TYPE_CHECKING:
    from widemax.training.runs import Outcome


def command(
    context: typer.Context,
    data: options.DataOrConfig,
    input: options.Input = None,  # noqa: A002 - the name users type
    target: options.Target = None,
    kind: options.Kind = None,
    task: Annotated[
        str | None,
        typer.Option(help="What is learned: one, several, next, translate, language. Default: by the data."),
    ] = None,
    unit: Unit = None,
    user: options.User = None,
    item: options.Item = None,
    time: options.Time = None,
    weight: options.Weight = None,
    split: options.Split = None,
    items: options.Items = None,
    users: options.Users = None,
    valid: Annotated[
        list[str] | None,
        typer.Option(help="Validation data. Default: a tenth of DATA is held out, of a text its end."),
    ] = None,
    target_lines: TargetLines = None,
    valid_target_lines: ValidTargetLines = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(help="A table of the classes: their labels, and their names or what else is known."),
    ] = None,
    set_: options.Set = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The run folder. Default: run.", readable=False)
    ] = None,
    time_limit: Annotated[
        str | None, typer.Option(help="Stop training after this long, such as 60s or 10m.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="The seed of all randomness; the same seed gives the same result.")
    ] = None,
    drop_bad: options.DropBad = False,
    delimiter: options.Delimiter = None,
    label_separator: options.LabelSeparator = None,
    encoding: options.Encoding = None,
    workers: options.Workers = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
    json: options.Json = False,
) -> None:
    """Train a classifier and save it, a translator of lines, a language model of a text (--task language), or
    of CoNLL-U files a dependency parser.

    Ctrl-C saves and stops; `widemax resume` continues.
    """
    config = read_config(data, context.params)
    if config.distributed.workers > 1 and not is_worker():
        several = config.distributed
        run_workers(sys.argv[1:], workers=several.workers, max_restarts=several.max_restarts)
    from widemax.kernels import keep_freed_memory
    from widemax.training.loop import train as train_model
    from widemax.training.progress import reporter_for_terminal

    keep_freed_memory()
    finish(train_model(config, reporter=reporter_for_terminal(), overwrite=overwrite), json=json)


def finish(outcome: "Outcome[Any]", *, json: bool) -> None:
    """Print what training gave; exit with 130 after Ctrl-C. Of several processes the first one prints."""
    if not is_first():
        raise typer.Exit(INTERRUPTED if outcome.interrupted else 0)
    from widemax.evaluation.headlines import metric_lines

    config = outcome.model.config
    named = {"head": config.head.kind, "encoder": config.encoder.kind}
    summary = {
        "run": str(outcome.run),
        "task": outcome.model.task,
        "num_classes": outcome.model.facts()["num_classes"],
        **(config.parser.options or named),
        "steps": outcome.steps,
        "seconds": round(outcome.seconds, 3),
        "interrupted": outcome.interrupted,
        "metrics": outcome.metrics,
        "baseline": outcome.baseline,
    }
    use = f"predict {outcome.run} DATA"
    if config.data.user is not None:
        use = f"recommend {outcome.run} --user USER"
    shown = metric_lines(outcome.model.task, outcome.metrics, outcome.baseline)
    lines = [
        f"saved {outcome.run} after {counted(outcome.steps, 'step')}, {outcome.seconds:.1f} s",
        *(f"held out: {line}" for line in shown),
        f"report: {outcome.run / 'report.html'}",
        f"next: widemax {f'resume {outcome.run}' if outcome.interrupted else use}",
    ]
    print_result(summary, lines, json=json)
    if outcome.interrupted:
        raise typer.Exit(INTERRUPTED)

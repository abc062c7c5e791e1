"""``widemax evaluate``: exact metrics over every row and every class."""

import os
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from widemax.cli import language, treebanks
from widemax.cli.options import (
    Data,
    Delimiter,
    Device,
    DropBad,
    Encoding,
    Json,
    Run,
    TrustedKey,
    Workers,
    print_result,
    result_lines,
    task_of,
)
from widemax.cli.translation import USUAL_BEAM, Beam, TargetLines
from widemax.cli.workers import answer_in_several, is_first
from widemax.errors import UsageError
from widemax.task import System


def command(
    context: typer.Context,
    run: Run,
    data: Data,
    target_lines: TargetLines = None,
    beam: Beam = None,
    per_token: language.PerToken = None,
    drop_bad: DropBad = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    every: Annotated[
        bool, typer.Option("--all", help="Show every metric. Default: those that matter most.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="The page to write. Default: report-DATA.html in the run.")
    ] = None,
    device: Device = None,
    workers: Workers = None,
    trusted_key: TrustedKey = None,
    json: Json = False,
) -> None:
    """Compute exact metrics over every row. A label never seen in training is a miss.

    A run that translates is asked for BLEU and chrF, and for the likelihood of the references; a parser for
    attachment scores; a language model for the perplexity of a text.
    """
    task = task_of(context, run)
    answer_in_several(workers)
    if task == System.PARSING:
        treebanks.evaluate(run, data, trusted_key=trusted_key, beam=beam, every=every, json=json)
        return
    if task == System.LANGUAGE:
        options: dict[str, Any] = {"encoding": encoding, "per_token": per_token, "trusted_key": trusted_key}
        language.evaluate(run, data, **options, every=every, json=json)
        return
    if task == System.TRANSLATE:
        from widemax.translation import Translator
        from widemax.translation.evaluate import evaluate as evaluate_lines

        if not target_lines:
            raise UsageError("the references are missing; name their files with --target-lines.")
        values = evaluate_lines(
            Translator.load(run, trusted_key=trusted_key),
            *(data, target_lines),
            encoding=encoding,
            beam=beam or USUAL_BEAM,
        )
        print_result(values, [*result_lines(values, every=every), values["signature"]], json=json)
        return
    from widemax.artifact import Model
    from widemax.training.evaluate import evaluate

    page = report
    if page is None and os.access(run, os.W_OK):
        name = re.sub(r"[^\w.-]+", "-", Path(data[0]).name)
        page = run / f"report-{name}{f'-and-{len(data) - 1}-more' * (len(data) > 1)}.html"
    reading: dict[str, Any] = {"drop_bad": drop_bad, "delimiter": delimiter, "encoding": encoding}
    model = Model.load(run, trusted_key=trusted_key).to(device or "auto")
    values = evaluate(model, data, **reading, report=page)
    if not is_first():
        return
    told = f"report: {page}" if page else f"no report: {run} is read-only; name a place with --report"
    lines = [*result_lines(values, every=every), told]
    print_result(values | {"report": page and str(page)}, lines, json=json)

"""``widemax check``: what is in the data, before anything is trained."""

from dataclasses import replace
from typing import Annotated

import typer

from widemax.cli import options, translation, treebanks
from widemax.cli.options import print_result, read_config, recognize_events
from widemax.cli.translation import TargetLines, ValidTargetLines
from widemax.task import System


def command(
    context: typer.Context,
    data: options.DataOrConfig,
    input: options.Input = None,  # noqa: A002 - the name users type
    target: options.Target = None,
    kind: options.Kind = None,
    user: options.User = None,
    item: options.Item = None,
    time: options.Time = None,
    weight: options.Weight = None,
    split: options.Split = None,
    items: options.Items = None,
    users: options.Users = None,
    valid: Annotated[list[str] | None, typer.Option(help="Validation data, to compare with DATA.")] = None,
    target_lines: TargetLines = None,
    valid_target_lines: ValidTargetLines = None,
    set_: options.Set = None,
    drop_bad: options.DropBad = False,
    delimiter: options.Delimiter = None,
    label_separator: options.LabelSeparator = None,
    encoding: options.Encoding = None,
    json: options.Json = False,
) -> None:
    """Report rows, classes, bad rows with line numbers, unseen labels, overlap with validation data.

    Of lines and their translations it reports which do not pair up, are empty on one side or are no text; of
    CoNLL-U files every sentence without a sound tree.
    """
    complete = read_config(data, context.params)
    if complete.data.task == System.PARSING:
        treebanks.check([*complete.data.train, *complete.data.valid], json=json)
        return
    if complete.data.task == System.TRANSLATE:
        translation.check(complete.data, json=json)
        return
    from widemax.data import Reading, check, infer_schema
    from widemax.training.prepare import sources_of

    complete, told = recognize_events(complete)
    complete, sources, held_out, _ = sources_of(complete, None, None)
    config = complete.data
    reading = Reading.of(config)
    schema = infer_schema(
        sources, inputs=config.input, target=config.target, kinds=config.kinds, format=reading
    )
    report = check(sources, schema=schema, valid=held_out, format=reading)
    report = replace(report, notes=(*told, *report.notes))
    print_result(report.to_dict(), report.lines(), json=json)
    if report.num_bad_rows and not config.drop_bad:
        raise typer.Exit(3)

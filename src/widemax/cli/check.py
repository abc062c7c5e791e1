"""``widemax check``: what is in the data, before anything is trained."""

from dataclasses import replace
from typing import Annotated

import typer

from widemax.cli import translation, treebanks
from widemax.cli.options import (
    DataOrConfig,
    Delimiter,
    DropBad,
    Encoding,
    Input,
    Item,
    Items,
    Json,
    Kind,
    Set,
    Split,
    Target,
    Time,
    User,
    Users,
    Weight,
    print_result,
    read_config,
    recognize_events,
)
from widemax.cli.translation import TargetLines, ValidTargetLines
from widemax.task import System


def command(
    data: DataOrConfig,
    input: Input = None,  # noqa: A002 - the name users type
    target: Target = None,
    kind: Kind = None,
    user: User = None,
    item: Item = None,
    time: Time = None,
    weight: Weight = None,
    split: Split = None,
    items: Items = None,
    users: Users = None,
    valid: Annotated[list[str] | None, typer.Option(help="Validation data, to compare with DATA.")] = None,
    target_lines: TargetLines = None,
    valid_target_lines: ValidTargetLines = None,
    set_: Set = None,
    drop_bad: DropBad = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    json: Json = False,
) -> None:
    """Report rows, classes, bad rows with line numbers, unseen labels, overlap with validation data.

    Of lines and their translations it reports which do not pair up, are empty on one side or are no text; of
    CoNLL-U files every sentence without a sound tree.
    """
    complete = read_config(
        data,
        input=input,
        target=target,
        kind=kind,
        events={
            "user": user,
            "item": item,
            "time": time,
            "weight": weight,
            "split": split,
            "items": items,
            "users": users,
        },
        valid=valid,
        target_lines=target_lines,
        valid_target_lines=valid_target_lines,
        drop_bad=drop_bad,
        delimiter=delimiter,
        encoding=encoding,
        assignments=set_ or (),
    )
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

"""``widemax recommend``: the best items for users, or after a history that is typed in."""

from collections.abc import Callable, Iterator
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from widemax.cli.options import Delimiter, DropBad, Encoding, Json, Run, TrustedKey
from widemax.cli.predict import ROWS_AT_ONCE, Answers, Form, Safe, kept, print_answers, stdin_lines, tell_bad
from widemax.errors import DataError, UsageError, counted, visible

if TYPE_CHECKING:
    from widemax.artifact import Model
    from widemax.data import LabelVocabulary, Reading
    from widemax.recommender import Recommender

SHOWN_STRANGERS = 5


def command(
    run: Run,
    data: Annotated[
        list[str] | None,
        typer.Argument(help="Files with a column of users, to answer all of them; - for users on stdin."),
    ] = None,
    user: Annotated[list[str] | None, typer.Option(help="Users, as a,b or by repeating the option.")] = None,
    history: Annotated[
        list[str] | None, typer.Option(help="Items that somebody has had, oldest first, as a,b.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many items to give.")] = 20,
    include_seen: Annotated[
        bool | None,
        typer.Option(
            "--include-seen/--exclude-seen",
            help="Whether items of the history may be given. Default: where data.repeat is true.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="A file with a column of items, or items as a,b: no others.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="A file with a column of items, or items as a,b: not these.")
    ] = None,
    ranker: Annotated[
        Path | None, typer.Option(help="What `widemax rank` wrote, to order the best items of the run anew.")
    ] = None,
    format: Form = None,  # noqa: A002 - the name users type
    drop_bad: DropBad = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    safe: Safe = True,
    trusted_key: TrustedKey = None,
    json: Json = False,
) -> None:
    """Give the best items for users of a run, or after a history, beside those that they have had.

    Somebody whom the run does not know is given what is popular, and stderr says so. With - a user a line is
    read from stdin, bare or as a JSON object, and answered as it arrives; a line that is none is answered by
    {"row": …, "error": …}, and the exit code is 3 in the end.
    """
    if sum(map(bool, (data, user, history))) != 1:
        raise UsageError("name users (--user 42), a history (--history a,b) or a file of users, one of them.")
    from widemax.artifact import Model
    from widemax.data import USER, Reading
    from widemax.recommender import Recommender

    model = Model.load(run, trusted_key=trusted_key)
    reading = Reading.of(model.config.data, delimiter=delimiter, encoding=encoding)
    read = partial(column_of, reading=reading, drop_bad=drop_bad)
    items_of = partial(items_named, model, read=read)
    second = None
    if ranker is not None:
        from widemax.ranking import Ranker

        second = Ranker.load(ranker, trusted_key=trusted_key)
    recommender = Recommender(
        model,
        k=k,
        include_seen=include_seen,
        only=items_of(only) if only else None,
        exclude=items_of(exclude),
        ranker=second,
    )
    if history:
        histories = model.schema.inputs[0]
        told: tuple[str, ...] = (histories.name,)
        items = items_of(history)
        rows: Answers = iter([(0, recommender.histories([items])[0], lambda: {histories.name: items})])
    else:
        told = USER, "known"
        column = model.config.data.user
        if data == ["-"]:
            users: Iterator[list[Any]] = stdin_users(column or USER, encoding)
        else:
            users = read(data, column) if data else iter([typed(recommender.known_users, user)])
        rows = of_users(recommender, users)
    bad: list[int] = []
    rows = kept(rows, bad, drop_bad=drop_bad)
    print_answers([told[0]], rows, format, json=json, safe=safe, told=told, least=0)
    tell_bad(bad, drop_bad=drop_bad)


def typed(known: "LabelVocabulary", entries: list[str] | None) -> list[Any]:
    """``["a,b", "c"]`` as ``["a", "b", "c"]``, unless something known is called "a,b"."""
    from widemax.recommender import names_of

    whole = names_of(known, entries or [])[1] >= 0
    names = [
        name
        for entry, is_name in zip(entries or [], whole, strict=True)
        for name in ([entry] if is_name else entry.split(","))
    ]
    return names_of(known, names)[0]


def items_named(
    model: "Model", entries: list[str] | None, *, read: Callable[..., Iterator[list[Any]]]
) -> list[Any]:
    """Items as they are typed, or of files, which may hold some that the run does not know."""
    from widemax.recommender import names_of

    items = []
    for entry in entries or ():
        if not Path(entry).is_file():
            items += typed(model.vocabulary, [entry])
            continue
        parts = [names_of(model.vocabulary, part) for part in read([entry], model.config.data.item)]
        known = [name for names, ids in parts for name, at in zip(names, ids, strict=True) if at >= 0]
        num_items = sum(len(names) for names, _ in parts)
        if len(known) < num_items:
            unknown = f"{entry}: the run does not know {num_items - len(known):,} of {num_items:,} items"
            if not known:
                raise UsageError(f"{unknown}; name items that it was trained on.")
            typer.echo(visible(unknown), err=True)
        items += known
    return items


def column_of(
    data: list[str], name: str | None, *, reading: "Reading", drop_bad: bool
) -> Iterator[list[Any]]:
    """The values of a column of files, some at a time: the one named, or the only one there is."""
    from widemax.data import Column, Dataset, Schema, format_of, resolve

    for source in resolve(data):
        columns = format_of(source, reading).columns(source)
        own = columns[0] if len(columns) == 1 or name is None else name
        schema = Schema((Column(own, "category"),), None)
        for batch in Dataset([source], schema, format=reading, drop_bad=drop_bad).batches(ROWS_AT_ONCE):
            yield batch.columns[own].to_pylist()


def stdin_users(column: str, encoding: str | None) -> Iterator[list[Any]]:
    """The users that arrive on stdin, and a DataError in place of each line that names none."""
    from widemax.data.formats.jsonl import parse_object
    from widemax.data.formats.text import undecodable

    def parsed(number: int, line: bytes) -> Any:
        text = line.strip()
        reason = undecodable(text)
        if reason is None and text.startswith(b"{"):
            try:
                user = parse_object(text).get(column)
            except ValueError as error:
                return DataError(f"stdin:{number}: {error}")
            if isinstance(user, str | int) or (isinstance(user, float) and isfinite(user)):
                return user
            reason = f"give one user as {column!r}"
        return text.decode() if reason is None else DataError(f"stdin:{number}: {reason}")

    for lines in stdin_lines(encoding):
        yield [parsed(number, line) for number, line in lines if line.strip()]


def of_users(recommender: "Recommender", users: Iterator[list[Any]]) -> Answers:
    """The answers for users in their order; stderr tells of the first strangers, and of their number.

    A DataError among them is answered by what it says.
    """
    from widemax.recommender import names_of

    row = num_strangers = 0
    for some in users:
        asked = [each for each in some if not isinstance(each, DataError)]
        names, ids = names_of(recommender.known_users, asked)
        strangers = [name for name, at in zip(names, ids, strict=True) if at < 0]
        told = recommender.strangers(strangers[: max(0, SHOWN_STRANGERS - num_strangers)])
        for sentence in told.values():
            typer.echo(visible(sentence), err=True)
        num_strangers += len(strangers)
        found = recommender.users(asked) if asked else []
        answers = zip(names, ids.tolist(), found, strict=True)
        for each in some:
            if isinstance(each, DataError):
                yield row, str(each), dict
            else:
                name, at, answer = next(answers)
                yield row, answer, partial(dict, user=name, known=at >= 0)
            row += 1
    if num_strangers > SHOWN_STRANGERS:
        typer.echo(f"{num_strangers:,} of {counted(row, 'user')} are not of the run", err=True)

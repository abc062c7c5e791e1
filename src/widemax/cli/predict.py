"""``widemax predict``: the top k labels of each row, in order, as JSON lines, CSV, TSV or a table."""

import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from json import dumps as json_text
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
    print_json,
    task_of,
)
from widemax.cli.translation import Beam, print_translations
from widemax.cli.workers import answer_in_several, is_worker
from widemax.errors import DataError, UsageError, counted, visible
from widemax.task import System

if TYPE_CHECKING:
    from widemax.artifact import Model, Prediction
    from widemax.data import Batch, Reading
    from widemax.distributed import World

ROWS_AT_ONCE = 512
PIECE_BYTES = 1 << 16
ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
FORMULAS = "=", "+", "-", "@", "\t", "\r"
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
FACTS = ("label", "probability", "logit")
BAR_WIDTH = 10
SHOWN_PROBABILITY = 0.01
"""In a table, labels after the first that are less probable are left out."""

Form = Annotated[
    Literal["jsonl", "csv", "tsv", "table"] | None,
    typer.Option(
        help="The format of the output; csv and tsv have a header, the inputs, and a line a label. "
        r"In tsv a tab is written \t and a line end \n. Default: a table on a terminal, jsonl elsewhere."
    ),
]
Safe = Annotated[
    bool,
    typer.Option(
        "--safe/--no-safe",
        help="In csv and tsv put an apostrophe before texts that spreadsheets take for formulas: they "
        "begin with = + - @ or a tab and are no numbers.",
    ),
]
Rank = Annotated[
    Literal["probability", "psp"],
    typer.Option(
        help="What orders labels: their probability, or psp, that times their inverse propensity, by "
        "which rare labels are worth more."
    ),
]
Coverage = Annotated[
    float | None,
    typer.Option(
        help="In place of a threshold, the share of the right labels that are to be among those given, in "
        "the mean of rows like those that training held out, or those of --calibration."
    ),
]
Calibration = Annotated[
    list[str] | None,
    typer.Option(help="Rows with their labels, unseen in training, that --coverage is to go by."),
]
MOST_COVERING = 100
Inputs = dict[str, Any]
Decoded = Callable[[Inputs], "list[list[Prediction]]"]
Answers = Iterator[tuple[int, "list[Prediction] | str", Callable[[], Inputs]]]
"""Rows by their numbers, each with its predictions, or what is wrong with it, and what gives its inputs."""


def command(
    context: typer.Context,
    run: Run,
    data: Data,
    k: Annotated[
        int | None,
        typer.Option(
            "-k",
            min=1,
            help="How many labels to give for each row. Default: 5, or 20 with --threshold, 100 with "
            "--coverage.",
        ),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            help="Give the labels whose probability reaches it: a number, or auto, where rows have several, "
            "for the one whose labels had the best F1 on held-out rows."
        ),
    ] = None,
    coverage: Coverage = None,
    calibration: Calibration = None,
    rank: Rank = "probability",
    beam: Beam = None,
    tokens: language.Tokens = None,
    temperature: language.Temperature = None,
    top_k: language.TopK = None,
    top_p: language.TopP = None,
    seed: language.Seed = None,
    format: Form = None,  # noqa: A002 - the name users type
    drop_bad: DropBad = False,
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going",
            help="Answer a bad row of a file by what is wrong with it, as on stdin, instead of stopping.",
        ),
    ] = False,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    safe: Safe = True,
    device: Device = None,
    workers: Workers = None,
    trusted_key: TrustedKey = None,
    json: Json = False,
) -> None:
    """Predict the labels of each row of DATA, translate each line, or continue a text.

    With - rows are read from stdin: one JSON object per line, or plain text for a model of one text column.
    A bad row there is answered by {"row": …, "error": …}, and the exit code is 3 in the end. A parser reads
    and writes CoNLL-U: HEAD and DEPREL are its own, DEPS is emptied, all else stays. A language model
    continues the text of files, or with - each line of stdin.
    """
    task = task_of(context, run)
    if data == ["-"] and (is_worker() or (workers or 1) > 1):
        raise UsageError("rows of stdin come to one process alone; leave out --workers, or give a file.")
    answer_in_several(workers)
    if task == System.PARSING:
        treebanks.predict(run, data, trusted_key=trusted_key, beam=beam, json=json)
        return
    if task == System.LANGUAGE:
        drawn: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        reading: dict[str, Any] = {"form": format, "encoding": encoding, "trusted_key": trusted_key}
        language.predict(run, data, **reading, json=json, seed=seed, tokens=tokens, **drawn)
        return
    if task == System.TRANSLATE:
        options: dict[str, Any] = {"beam": beam, "form": format, "encoding": encoding, "json": json}
        print_translations(run, data, **options, trusted_key=trusted_key)
        return
    from widemax.artifact import Model
    from widemax.data import HISTORY, Reading
    from widemax.distributed import joined

    model = Model.load(run, trusted_key=trusted_key).to(device or "auto")
    read = Reading.of(model.config.data, delimiter=delimiter, encoding=encoding)
    events = model.config.data
    if events.user and data != ["-"]:
        from widemax.data import format_of, resolve

        source = resolve(data)[0]
        columns = format_of(source, read).columns(source)
        if HISTORY not in columns and events.user in columns:
            raise UsageError(
                f"{source} holds events; `widemax recommend {run} DATA` answers for their users."
            )
    if coverage is not None and threshold is not None:
        raise UsageError("--coverage fits the threshold; leave --threshold out.")
    reads: dict[str, Any] = {"drop_bad": drop_bad, "delimiter": delimiter, "encoding": encoding}
    most, least = limits(model, k, threshold, coverage, calibration, **reads)
    bad: list[int] = []
    # An image fits into no cell.
    names = [column.name for column in model.schema.inputs if column.kind != "image"]
    with joined(model.config.distributed.timeout_s) as world:
        decoded = decoded_by(model, most, least, rank, world)
        if data == ["-"]:
            answers = stdin_answers(model, decoded, encoding)
        else:
            at_once = ROWS_AT_ONCE * world.size
            answers = file_answers(
                model, data, decoded, read, stop=not (drop_bad or keep_going), at_once=at_once
            )
        rows = kept(answers, bad, drop_bad=drop_bad)
        if world.is_first:
            print_answers(names, rows, format, json=json, safe=safe)
        else:
            deque(rows, maxlen=0)
    tell_bad(bad, drop_bad=drop_bad)


def decoded_by(model: "Model", k: int, least: float, rank: str, world: "World | None" = None) -> Decoded:
    """What answers columns: the k best labels whose probability is not less.

    Of several processes each answers for its share of the rows.
    """
    best = model.useful if rank == "psp" else model.topk
    if world is None or world.size == 1:
        return lambda columns: model.decode(best(columns, k), least=least)
    from widemax.distributed import Messages
    from widemax.heads import TopK

    messages = Messages(world)

    def decoded(columns: Inputs) -> "list[list[Prediction]]":
        num_rows = len(next(iter(columns.values())))
        rows = world.asked(num_rows)
        found = best({name: values[rows] for name, values in columns.items()}, k)
        return model.decode(TopK(*messages.joined_answers(num_rows, *vars(found).values())), least=least)

    return decoded


def limits(
    model: "Model",
    k: int | None,
    threshold: str | None,
    coverage: float | None,
    calibration: list[str] | None,
    **reading: Any,
) -> tuple[int, float]:
    """How many labels are given at most, and their least probability; stderr tells one that was fitted.

    Raises:
        UsageError: rows to go by, but no coverage; or as of ``covering``.
    """
    if coverage is None:
        if calibration:
            raise UsageError("--calibration is what --coverage P goes by; give both, or leave it out.")
        return model.limits(k, threshold_of(threshold))
    from widemax.training.coverage import covering

    found = covering(model, calibration, coverage=coverage, k=k or MOST_COVERING, **reading)
    typer.echo(str(found), err=True)
    return k or MOST_COVERING, found.threshold


def threshold_of(text: str | None) -> float | Literal["auto"] | None:
    """What stands behind --threshold.

    Raises:
        UsageError: neither "auto" nor a probability.
    """
    if text is None:
        return None
    if text == "auto":
        return "auto"
    if not NUMBER.fullmatch(text) or not 0 <= float(text) <= 1:
        raise UsageError(f"--threshold must be auto or a number from 0 to 1; got {text!r}.")
    return float(text)


def print_answers(
    names: list[str],
    rows: Answers,
    form: str | None,
    *,
    json: bool,
    safe: bool,
    told: tuple[str, ...] = (),
    least: float = SHOWN_PROBABILITY,
) -> None:
    """Answers in a form, beside the inputs of these names; JSON has the inputs that are ``told``."""
    lines = (
        {"row": row, **{name: given[name] for name in told if name in given}, **line_of(row, answer)}
        for row, answer, inputs in rows
        for given in [inputs()]
    )
    if json:
        print_json({"rows": list(lines)})
    elif (form := form or ("table" if sys.stdout.isatty() else "jsonl")) == "jsonl":
        for line in lines:
            print_json(line)
    elif form == "table":
        print_table(names, rows, least=least)
    else:
        print_cells(form, names, rows, safe=safe)


def kept(answers: Answers, bad: list[int], *, drop_bad: bool) -> Answers:
    """The answers, without those to bad rows where these are dropped; ``bad`` collects their numbers."""
    for row, answer, inputs in answers:
        if isinstance(answer, str):
            bad.append(row)
        if not (drop_bad and isinstance(answer, str)):
            yield row, answer, inputs


def tell_bad(bad: list[int], *, drop_bad: bool) -> None:
    """What became of bad rows, once all are answered.

    Raises:
        DataError: they were answered by what is wrong with them.
    """
    if bad and drop_bad:
        typer.echo(f"dropped {counted(len(bad), 'bad row')}", err=True)
    elif bad:
        raise DataError(f"{counted(len(bad), 'row')} could not be read; the answers say what is wrong.")


def line_of(row: int, answer: "list[Prediction] | str") -> dict[str, Any]:
    """One output line of the contract."""
    if isinstance(answer, str):
        return {"row": row, "error": f"{answer}."}
    return {
        "row": row,
        "predictions": [{"label": p.label, "probability": p.probability, "logit": p.logit} for p in answer],
        "search": "exact",
        "normalizer": "exact",
    }


def print_cells(form: str, names: list[str], rows: Answers, *, safe: bool) -> None:
    """A header, then a line for each label of a row; one line without labels where it has none, or is bad."""
    on_terminal = sys.stdout.isatty()
    facts = [f"predicted_{fact}" if fact in names else fact for fact in FACTS]

    def write(cells: list[str]) -> None:
        cells = list(map(harmless, cells)) if safe else cells
        cells = list(map(visible, cells)) if on_terminal else cells
        escaped = (text.translate(ESCAPES) for text in cells)
        typer.echo(",".join(map(quoted, cells)) if form == "csv" else "\t".join(escaped))

    write(["row", *names, *facts])
    for row, answer, inputs in rows:
        given = inputs()
        first = [str(row), *(cell(given.get(name)) for name in names)]
        if isinstance(answer, str):
            typer.echo(visible(answer), err=True)
            answer = []
        for p in answer:
            write([*first, cell(p.label), str(p.probability), str(p.logit)])
        if not answer:
            write([*first, *[""] * len(facts)])


def harmless(text: str) -> str:
    """A cell that no spreadsheet takes for a formula; numbers stay numbers.

    Example:
        >>> [harmless(text) for text in ("=1+1", "-2", "-2+3", "tea")]
        ["'=1+1", '-2', "'-2+3", 'tea']
    """
    return f"'{text}" if text.startswith(FORMULAS) and not NUMBER.fullmatch(text) else text


def quoted(text: str) -> str:
    """A cell of CSV. The standard library leaves a lone carriage return bare, where readers end a line.

    Example:
        >>> quoted("tea"), quoted("tea, green")
        ('tea', '"tea, green"')
    """
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text


def print_table(names: list[str], rows: Answers, *, least: float) -> None:
    """The inputs of each row, shortened, beside its labels and their probabilities as bars."""
    full, empty = "█░" if (sys.stdout.encoding or "").lower().startswith("utf") else "#."
    width = get_terminal_size().columns
    label_width = min(30, width // 3)
    text_width = max(8, width - label_width - BAR_WIDTH - len("  100%") - 4)
    for _, answer, inputs in rows:
        given = inputs()
        text = ", ".join(cell(given[name]) for name in names if name in given)
        if isinstance(answer, str):
            typer.echo(f"{fitted(text, text_width)}  {visible(answer)}")
            continue
        if not answer:
            typer.echo(fitted(text, text_width).rstrip())
        for place, p in enumerate(answer):
            if place and p.probability < least:
                break
            filled = round(BAR_WIDTH * p.probability)
            bar = full * filled + empty * (BAR_WIDTH - filled)
            shown = fitted("" if place else text, text_width)
            typer.echo(f"{shown}  {fitted(cell(p.label), label_width)}  {bar} {p.probability:>5.0%}")


def fitted(text: str, width: int) -> str:
    """A text in so many columns of a terminal, without what would move its cursor.

    Example:
        >>> fitted("green\\ttea", 12), fitted("green tea", 6), fitted("緑茶", 6)
        ('green tea   ', 'green…', '緑茶  ')
    """
    from rich.cells import cell_len, set_cell_size

    text = "".join(character if character.isprintable() else " " for character in visible(text))
    return set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def cell(value: Any) -> str:
    """A value in one cell: a text as it is, nothing for a missing value, else as in JSON.

    Example:
        >>> cell("green tea"), cell(True), cell(7), cell(None), cell(["a", 1])
        ('green tea', 'true', '7', '', '["a", 1]')
    """
    if value is None or isinstance(value, str):
        return value or ""
    text = json_text(
        value, ensure_ascii=False, default=lambda v: v.isoformat() if hasattr(v, "isoformat") else str(v)
    )
    return text.strip('"')


def file_answers(
    model: "Model",
    data: list[str],
    decoded: "Decoded",
    reading: "Reading",
    *,
    stop: bool,
    at_once: int = ROWS_AT_ONCE,
) -> Answers:
    """The rows of data files in order, numbered from 0; ``stop`` at the first bad one."""
    from dataclasses import replace

    from widemax.data import Dataset, resolve

    bad: deque[tuple[int, str]] = deque()
    dataset = Dataset(
        resolve(data),
        replace(model.schema, target=None),
        format=reading,
        drop_bad=not stop,
        on_bad=lambda row, reason: bad.append((row, reason)),
    )
    for batch in dataset.batches(at_once):
        answers = decoded(batch.columns)
        for at, (row, answer) in enumerate(zip(batch.rows_B.tolist(), answers, strict=True)):
            while bad and bad[0][0] < row:
                yield *bad.popleft(), dict
            yield row, answer, partial(inputs_of, batch, at)
    yield from ((*told, dict) for told in bad)


def inputs_of(batch: "Batch", at: int) -> Inputs:
    """A row as its file gives it."""
    return {name: values[at].as_py() for name, values in batch.given.items()}


def stdin_answers(model: "Model", decoded: "Decoded", encoding: str | None) -> Answers:
    """Each row of stdin, answered as it arrives."""
    from widemax.data import good_rows

    first = 0
    for lines in stdin_lines(encoding):
        rows = dict(parse_rows(model, lines))
        readable = {number: row for number, row in rows.items() if not isinstance(row, str)}
        columns, reasons = good_rows(model.schema, list(readable.values()))
        wrong = {number: reasons[at] for at, number in enumerate(readable) if at in reasons}
        answers = iter(decoded(columns) if len(reasons) < len(readable) else ())
        for row, (number, parsed) in enumerate(rows.items(), first):
            reason = parsed if isinstance(parsed, str) else wrong.get(number)
            inputs: Inputs = {} if isinstance(parsed, str) else parsed
            yield row, f"stdin:{number}: {reason}" if reason else next(answers), inputs.copy
        first += len(rows)


def stdin_lines(encoding: str | None) -> Iterator[list[tuple[int, bytes]]]:
    """Numbered lines, as many as have arrived: who writes one and waits for the answer gets it."""
    from widemax.data.formats.text import as_utf8, known_encoding

    if sys.stdin is None:
        raise UsageError("stdin is closed; give rows on it, or a file in place of -.")
    stdin = as_utf8(sys.stdin.buffer, known_encoding(encoding))
    number, rest = 1, b""
    while piece := stdin.read1(PIECE_BYTES):
        *lines, rest = (rest + piece).split(b"\n")
        for start in range(0, len(lines), ROWS_AT_ONCE):
            part = lines[start : start + ROWS_AT_ONCE]
            yield list(enumerate(part, number))
            number += len(part)
    if rest:
        yield [(number, rest)]


def stdin_texts(encoding: str | None) -> Iterator[list[str]]:
    """Lines as texts, as many as have arrived."""
    from widemax.data.formats.text import text_of

    for part in stdin_lines(encoding):
        yield [text_of(line, f"stdin:{number}").removesuffix("\r") for number, line in part]


def parse_rows(
    model: "Model", lines: Iterable[tuple[int, bytes]]
) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Line numbers with rows, or what is wrong: JSON objects, or bare text where the one input is text."""
    from widemax.data.formats.jsonl import parse_object
    from widemax.data.formats.text import undecodable

    columns = model.schema.inputs
    takes_text = len(columns) == 1 and columns[0].kind == "text"
    for number, line in lines:
        text = line.rstrip(b"\r")
        if text.lstrip().startswith(b"{"):
            try:
                yield number, parse_object(text)
            except ValueError as error:
                yield number, str(error)
        elif takes_text:
            yield number, undecodable(text) or {columns[0].name: text.decode()}
        elif text.strip():
            names = ", ".join(column.name for column in columns)
            yield number, f"give one JSON object a line with the columns {names}"

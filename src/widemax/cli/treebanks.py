"""What the verbs do with CoNLL-U files and with runs of parsers."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from widemax.cli.options import print_json, print_result
from widemax.errors import BadRowError, UsageError, counted
from widemax.systems import TREEBANKS
from widemax.task import System

if TYPE_CHECKING:
    from widemax.parsing import Attachment, Sentence

NAMES = {"uas": "UAS", "las": "LAS", "clas": "CLAS", "mlas": "MLAS"}
MOST_PROBLEMS = 20


def evaluate(
    run: Path, data: Sequence[str], *, trusted_key: Path | None, beam: int | None, every: bool, json: bool
) -> None:
    """Print the attachment scores of a parser on treebanks."""
    import time

    from widemax.parsing import Attachment, Parser

    parser, scores = Parser.load(run, trusted_key=trusted_key), Attachment()
    started = time.perf_counter()
    for sentence, tree in parser.parsed(sentences_of(data), beam=beam):
        scores.add(sentence, *tree)
    seconds = time.perf_counter() - started
    values = scores.values()
    rate = values["words"] / seconds
    more = {"by_relation": scores.by_relation(), "by_length": scores.by_length()}
    told = {"task": System.PARSING, **values, "seconds": seconds, "words_per_s": rate, **more}
    print_result(told, _score_lines(scores, seconds, every=every), json=json)


def _score_lines(scores: "Attachment", seconds: float, *, every: bool) -> Iterator[str]:
    values = scores.values()
    size = f"{counted(values['sentences'], 'sentence')}, {counted(values['words'], 'word')}"
    yield f"{size}, {seconds:.1f} s, {values['words'] / seconds:,.0f} words/s"
    for name, told in NAMES.items():
        yield f"{told:<5}{values[name]:7.2%}"
    for length, group in scores.by_length().items():
        yield f"{length:<16}LAS {group['las']:.2%} of {counted(int(group['words']), 'word')}"
    relations = list(scores.by_relation().items())
    for relation, group in relations if every else relations[:10]:
        yield f"{relation:<16}F1 {group['f1']:.2%} of {counted(int(group['words']), 'word')}"


def predict(
    run: Path, data: Sequence[str], *, trusted_key: Path | None, beam: int | None, json: bool
) -> None:
    """Write treebanks with a parser's trees, sentence by sentence, all else as it was; or trees as JSON."""
    from widemax.parsing import Parser

    parser = Parser.load(run, trusted_key=trusted_key)
    bad: list[BadRowError] = []

    def until_bad() -> "Iterator[Sentence]":
        try:
            yield from sentences_of(data)
        except BadRowError as error:  # told when the sentences before it are answered
            bad.append(error)

    answers = parser.parsed(until_bad(), beam=beam)
    if json:
        rows = [
            {"row": row, "words": sentence.column("FORM"), **tree._asdict()}
            for row, (sentence, tree) in enumerate(answers)
        ]
        print_json({"rows": rows})
    else:
        # As the file was read: bytes that no encoding of the terminal changes.
        for sentence, tree in answers:
            sys.stdout.buffer.write(sentence.with_tree(*tree).encode())
        sys.stdout.buffer.flush()
    if bad:
        raise bad[0]


def sentences_of(data: Sequence[str]) -> "Iterator[Sentence]":
    """The sentences of files one after the other, or of stdin.

    Raises:
        BadRowError: one is none.
        UsageError: a file has another ending.
    """
    from widemax.parsing.conllu import read_conllu, sentences

    if list(data) == ["-"]:
        for sentence in sentences(sys.stdin.buffer, "stdin"):
            if isinstance(sentence, BadRowError):
                raise sentence
            yield sentence
        return
    for name in data:
        if not name.endswith(TREEBANKS):
            raise UsageError(f"{name} must be a CoNLL-U file, which ends in .conllu or .conllu.gz.")
    for name in data:
        yield from read_conllu(Path(name))


def check(data: Sequence[str], *, json: bool) -> None:
    """Print what treebanks hold and every sentence without a sound tree; exit with 3 if there is one."""
    from widemax.data.formats.text import open_text
    from widemax.parsing.conllu import sentences
    from widemax.parsing.projective import crossing

    told: dict[str, Any] = {"sentences": 0, "words": 0, "longest": 0, "non_projective": 0}
    relations, problems = set(), []
    for name in data:
        with open_text(Path(name)) as file:
            for sentence in sentences(file, name):
                if isinstance(sentence, BadRowError):
                    problems.append(str(sentence))
                    continue
                told["sentences"] += 1
                told["words"] += len(sentence)
                told["longest"] = max(told["longest"], len(sentence))
                found = list(sentence.tree_problems())
                problems += found
                relations.update(sentence.column("DEPREL"))
                if not found:
                    heads = [head - 1 if head else len(sentence) for head in sentence.heads()]
                    told["non_projective"] += bool(crossing(heads))
    told |= {"relations": len(relations), "problems": problems}
    lines = [
        f"{counted(told['sentences'], 'sentence')}, {counted(told['words'], 'word')}, the longest of "
        f"{told['longest']}; {counted(len(relations), 'relation')}, "
        f"{counted(told['non_projective'], 'sentence')} with crossing arcs",
        *problems[:MOST_PROBLEMS],
    ]
    if len(problems) > MOST_PROBLEMS:
        lines.append(f"and {len(problems) - MOST_PROBLEMS:,} more, which --json shows")
    print_result(told, lines, json=json)
    if problems:
        raise typer.Exit(3)

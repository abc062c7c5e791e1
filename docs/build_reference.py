"""The reference: a page for every registered member, from its docstring and its signature.

``make docs`` writes docs/reference; ``python docs/build_reference.py FOLDER`` writes another folder.
"""

import ast
import doctest
import inspect
import math
import re
import sys
import textwrap
import types
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from widemax.auxiliaries import auxiliaries
from widemax.heads import heads, scores
from widemax.losses import losses
from widemax.losses.base import takes_cosines
from widemax.optim import optimizers
from widemax.registry import Registry
from widemax.samplers import samplers

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"


@dataclass(frozen=True)
class Room:
    """A registry as the reference shows it.

    Attributes:
        about: a sentence, relative to the index.
        config_key: where a config names a member.
        see: a link that every page ends with, relative to the page.
    """

    registry: Registry[Any]
    about: str
    config_key: str | None = None
    see: str = ""


ROOMS = {
    "losses": Room(losses, "Logits and labels to one loss a row.", "head.loss"),
    "samplers": Room(
        samplers,
        "Class frequencies to candidates with their expected counts; "
        "[Which sampler?](../which-sampler.md) helps to choose.",
        "head.sampler",
        " · [which sampler?](../../which-sampler.md)",
    ),
    "scores": Room(scores, "How hidden vectors are compared with class weights.", "head.score"),
    "heads": Room(
        heads, "Class weights, a loss, and exact answers: probabilities, top k, ranks.", "head.kind"
    ),
    "optimizers": Room(optimizers, "Optimizers whose step costs the rows touched.", "train.optimizer"),
    "auxiliaries": Room(auxiliaries, "Objectives beside the main loss."),
}

INTRO = """\
# Reference

One page for each member that widemax registers, written by `make docs` from docstrings and signatures.
Shapes are those of the code: B rows, D hidden, C classes, S sampled, P labels. An option's type comes with
its range, which configs and the command line hold it to.

A config names a member, or gives a table with its kind and options, such as
`head.sampler = { kind = "frequency", alpha = 0.5 }`. In Python, import it.
"""


def pages() -> dict[str, str]:
    """Each file below docs/reference, and its text."""
    files = {}
    index = [INTRO]
    for folder, room in ROOMS.items():
        index.append(f"## {folder.capitalize()}\n\n{room.about}\n\n| name | what it is |\n|---|---|")
        for name in members(room.registry):
            files[f"{folder}/{name}.md"] = page(folder, name)
            summary = first_sentence(sections(room.registry[name].__doc__)[""])
            index.append(f"| [{name}]({folder}/{name}.md) | {cell(summary)} |")
        index.append("")
    return {"README.md": "\n".join(index), **files}


def members(registry: Registry[Any]) -> list[str]:
    """The members that widemax itself registers."""
    return [name for name in registry if registry[name].__module__.startswith("widemax.")]


def page(folder: str, name: str) -> str:
    """The page of one member."""
    room = ROOMS[folder]
    member = room.registry[name]
    found = sections(member.__doc__)
    summary, _, rest = found[""].partition("\n\n")
    parameters = list(inspect.signature(member, eval_str=True).parameters.values())
    positional = [each for each in parameters if each.kind is not each.KEYWORD_ONLY]
    options = [each for each in parameters if each.kind is each.KEYWORD_ONLY]
    meanings = argument_meanings(member)
    source = Path(inspect.getsourcefile(member) or "").resolve().relative_to(ROOT)
    parts = [
        f"# {name}",
        prose(summary),
        f"```python\nfrom {import_path(member)} import {member.__name__}\n\n{call(member)}\n```",
        config_line(room, name),
        prose(rest),
        titled("When to use it", prose(capitalized(found.get("Use", "")))),
        titled("Arguments", table("argument", positional, meanings)),
        titled("Options", table("option", options, meanings)),
        titled("Returns", prose(found.get("Returns", ""))),
        titled("Raises", errors(found)),
        titled("Calling it", calling(member)),
        titled("Example", example(member, found)),
        titled("Source", prose(found.get("Source", ""))),
        f"[{source}]({'../' * 3}{source}) · [all members](../README.md){room.see}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


# Docstrings.


def sections(docstring: str | None) -> dict[str, str]:
    """The text of a docstring by section; what stands before the first one is under ''."""
    lines: dict[str, list[str]] = {"": []}
    section = ""
    for line in inspect.cleandoc(docstring or "").splitlines():
        start = re.match(r"(Use|Args|Attributes|Returns|Raises|Example|Source):(?: (.*))?$", line)
        if start:
            section = start[1]
            lines[section] = [start[2]] if start[2] else []
        else:
            lines[section].append(line)
    return {name: textwrap.dedent("\n".join(found)).strip() for name, found in lines.items()}


def entries(section: str) -> dict[str, str]:
    """``name: meaning`` of an Args or Raises section, lines joined."""
    found = re.split(r"^(\w+): ", section, flags=re.MULTILINE)[1:]
    return {name: " ".join(text.split()) for name, text in zip(found[::2], found[1::2], strict=True)}


def argument_meanings(member: Any) -> dict[str, str]:
    """What each argument is: as the member says it, or else the nearest base that does."""
    meanings: dict[str, str] = {}
    for origin in reversed(inspect.getmro(member) if inspect.isclass(member) else [member]):
        if origin.__module__.startswith("widemax."):
            meanings |= entries(sections(vars(origin).get("__doc__") or origin.__doc__).get("Args", ""))
    return meanings


def first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s", text.partition("\n\n")[0])[0]


# Markdown.


def markdown(text: str) -> str:
    """Text with its roles and literals as code, and nothing else in it that Markdown would read."""
    pieces = re.split(r":\w+:`~?([^`]+)`|``([^`]+)``", text)
    shown = [escape(pieces[0])]
    for role, literal, plain in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        shown += [f"`{role.split('.')[-1] if role else literal}`", escape(plain)]
    return "".join(shown)


def escape(text: str) -> str:
    # An underscore between letters and digits is no emphasis; formulas stay readable in the file itself.
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)
    return re.sub(r"([*]|<(?=[\w/!?]))", r"\\\1", text)


def cell(text: str) -> str:
    return " ".join(markdown(text).split()).replace("|", "\\|")


def fence(text: str) -> str:
    """A block of plain text, for formulas; roles and literals bare."""
    bare = re.sub(r":\w+:`~?([^`]+)`", lambda role: role[1].split(".")[-1], text).replace("``", "")
    return f"```text\n{bare}\n```"


def prose(text: str) -> str:
    """Paragraphs: formulas that start one, literal blocks and tables stand apart, lines are joined."""
    blocks = []
    for paragraph in re.split(r"\n\n+", text):
        if re.match(r" {4}", paragraph) or is_table(paragraph):
            blocks.append(
                simple_table(paragraph) if is_table(paragraph) else fence(textwrap.dedent(paragraph))
            )
            continue
        # A literal block follows.
        paragraph = re.sub(r"::$", ":", paragraph).removeprefix(":")
        formula, rest = split_formula(paragraph)
        if formula:
            blocks.append(fence(formula))
        if rest:
            blocks.append(re.sub(r"\n(?!- )", " ", markdown(rest)))
    return "\n\n".join(block for block in blocks if block)


def split_formula(paragraph: str) -> tuple[str, str]:
    """The formula a paragraph starts with, up to the end of its sentence or a colon, and what follows."""
    start = re.match(r"[^.:;\"`]{1,20}? [=←∝] ", paragraph)
    if not start:
        return "", paragraph
    end = re.compile(r"[.:;]\s").search(paragraph, start.end())
    if not end:
        return paragraph.removesuffix("."), ""
    return paragraph[: end.start()], capitalized(paragraph[end.end() :])


def capitalized(text: str) -> str:
    """With a capital where a word starts the text; a symbol such as γ stays."""
    return text[:1].upper() + text[1:] if re.match(r"[a-z]{2}|a ", text) else text


def is_table(paragraph: str) -> bool:
    return re.match(r"=+( +=+)+\n", paragraph) is not None


def simple_table(paragraph: str) -> str:
    """A table drawn with rules of = signs, as Markdown."""
    rule, *lines = paragraph.splitlines()
    starts = [match.start() for match in re.finditer(r"=+", rule)]
    ends = [*starts[1:], None]
    rows = [[line[start:end].strip() for start, end in zip(starts, ends, strict=True)] for line in lines]
    rows = [row for row in rows if not row[0].startswith("==")]
    shown = ["| " + " | ".join(map(cell, row)) + " |" for row in rows]
    return "\n".join([shown[0], "|" + "---|" * len(starts), *shown[1:]])


def titled(title: str, text: str) -> str:
    return f"## {title}\n\n{text}" if text else ""


# Parts of a page.


def import_path(member: Any) -> str:
    """The package that exports a member, or its module."""
    module: str = member.__module__
    package = module.rpartition(".")[0]
    return package if getattr(sys.modules[package], member.__name__, None) is member else module


def call(member: Callable[..., Any]) -> str:
    """The signature without annotations."""
    signature = inspect.signature(member)
    bare = [each.replace(annotation=each.empty) for each in signature.parameters.values()]
    text = quoted(str(signature.replace(parameters=bare, return_annotation=signature.empty)))
    return textwrap.fill(member.__name__ + text, 88, subsequent_indent="    ", break_on_hyphens=False)


def config_line(room: Room, name: str) -> str:
    is_of_cosines = room.registry is losses and takes_cosines(losses[name])
    if room.config_key is None or is_of_cosines:
        return ""
    return f'In a config: `{room.config_key} = "{name}"`.'


def table(noun: str, parameters: list[inspect.Parameter], meanings: dict[str, str]) -> str:
    if not parameters:
        return ""
    rows = [
        f"| `{each.name}` | {type_text(each.annotation)} | {default_text(each)} "
        f"| {cell(meanings.get(each.name, ''))} |"
        for each in parameters
    ]
    return "\n".join([f"| {noun} | type | default | meaning |", "|---|---|---|---|", *rows])


def default_text(parameter: inspect.Parameter) -> str:
    return "required" if parameter.default is parameter.empty else f"`{quoted(repr(parameter.default))}`"


def quoted(code: str) -> str:
    """With the quotes that people type."""
    return code.replace("'", '"')


def type_text(annotation: Any) -> str:
    """A type as a reader says it, with the range that its annotation carries."""
    arguments = get_args(annotation)
    match get_origin(annotation):
        case origin if origin is Annotated:
            return type_text(arguments[0]) + range_text(arguments[1:])
        case origin if origin is Literal:
            return " or ".join(f"`{quoted(repr(each))}`" for each in arguments)
        case origin if origin is Union or origin is types.UnionType:
            return " or ".join(dict.fromkeys(union_texts(arguments)))
        case origin if origin is tuple:
            inner = type_text(arguments[0])
            return f"tuple of ({inner})" if " or " in inner else f"tuple of {inner}"
        case None:
            return "`None`" if annotation is types.NoneType else f"`{annotation.__name__}`"
        case origin:
            return f"`{origin.__name__}`"


def union_texts(arguments: tuple[Any, ...]) -> Iterator[str]:
    """Each alternative; a config's "name, or table of kind and options" is one."""
    is_spec = {str, dict[str, Any]} <= set(arguments)
    if is_spec:
        yield "name or table"
    yield from (type_text(each) for each in arguments if not is_spec or each not in (str, dict[str, Any]))


def range_text(metadata: tuple[Any, ...]) -> str:
    """The bounds of pydantic's Field."""
    bounds = {
        sign: number_text(getattr(bound, sign))
        for field in metadata
        for bound in field.metadata
        for sign in ("ge", "gt", "le", "lt")
        if hasattr(bound, sign)
    }
    if len(bounds) == 2:
        low = f"[{bounds['ge']}" if "ge" in bounds else f"({bounds['gt']}"
        high = f"{bounds['le']}]" if "le" in bounds else f"{bounds['lt']})"
        return f" in {low}, {high}"
    words = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    return "".join(f" {words[sign]} {number}" for sign, number in bounds.items())


def number_text(number: float) -> str:
    return "π" if number == math.pi else str(int(number) if number == int(number) else number)


def errors(found: dict[str, str]) -> str:
    return "\n".join(
        f"- `{name}`: {' '.join(markdown(text).split())}"
        for name, text in entries(found.get("Raises", "")).items()
    )


def example(member: Any, found: dict[str, str]) -> str:
    """The example as a script that imports what it needs, results as comments."""
    lines = []
    for step in doctest.DocTestParser().get_examples(found.get("Example", "")):
        lines += [step.source.rstrip(), *(f"# {line}" for line in step.want.splitlines())]
    if not lines:
        return ""
    own_imports = {line for line in lines if line.startswith("import ")}
    script = "\n".join(line for line in lines if line not in own_imports)
    plain, by_package = imports(script, sys.modules[member.__module__])
    named = [f"from {package} import {', '.join(sorted(names))}" for package, names in by_package.items()]
    return "\n".join(["```python", *sorted(own_imports | plain), *sorted(named), "", script, "```"])


def imports(script: str, module: types.ModuleType) -> tuple[set[str], dict[str, set[str]]]:
    """What a script takes from its module: import lines, and names by the package that exports them."""
    plain, by_package = set(), defaultdict(set)
    for name in {node.id for node in ast.walk(ast.parse(script)) if isinstance(node, ast.Name)}:
        found = vars(module).get(name)
        if isinstance(found, types.ModuleType):
            plain.add(f"import {found.__name__}" + (f" as {name}" if name != found.__name__ else ""))
        elif found is not None:
            by_package[import_path(found)].add(name)
    return plain, by_package


def calling(member: Any) -> str:
    """How a module is called, where its class says so itself."""
    forward = vars(member).get("forward") if inspect.isclass(member) else None
    if forward is None or not forward.__doc__:
        return ""
    found = sections(forward.__doc__)
    parameters = list(inspect.signature(forward, eval_str=True).parameters.values())[1:]
    shown = ", ".join(each.name for each in parameters)
    parts = [
        f"`module({shown})`: {markdown(first_sentence(found['']))}",
        table("argument", parameters, entries(found.get("Args", ""))),
        prose(f"Returns {found['Returns']}" if "Returns" in found else ""),
        errors(found),
    ]
    return "\n\n".join(part for part in parts if part)


def write(folder: Path) -> None:
    """Write every page below a folder, and remove pages of members that are gone."""
    files = pages()
    for old in folder.rglob("*.md"):
        if str(old.relative_to(folder)) not in files:
            old.unlink()
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else REFERENCE)

"""The reference: every public name, registered member, config key and verb, found where they are defined.

Sphinx calls ``setup``. Pages are written into docs/reference, which git ignores, before Sphinx reads
them; when it reads docstrings, their arguments get the type, range and default of the signature.
"""

import importlib
import inspect
import math
import pkgutil
import re
import shutil
import textwrap
import types
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer.cli
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.typing import stringify_annotation

import widemax
from widemax import docstrings
from widemax.cli.app import app as command_line
from widemax.config import Config, Section
from widemax.docstrings import sections
from widemax.registry import Registry

FOLDER = Path(__file__).parent / "reference"
PUBLIC_MODULES = ("widemax.errors", "widemax.recommender", "widemax.registry")
CONFIG_KEYS = {
    "encoder": "encoder.kind",
    "head": "head.kind",
    "loss": "head.loss",
    "score": "head.score",
    "sampler": "head.sampler",
    "optimizer": "train.optimizer",
}
CONFIG_INTRODUCTION = """\
A config is a TOML file of these sections; the only required key is ``data.train``. In TOML a tuple is
an array, and a key whose default is ``None`` is left out. A loss, score or sampler is a name, or a
table with its ``kind`` and options. On the command line, ``--set section.key=value`` overrides a key."""
DESCRIBED = ("head", "loss", "score", "sampler", "optimizer", "auxiliary", "ranking objective")

log = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's entry to an extension."""
    app.connect("builder-inited", write_pages)
    # Before napoleon, which takes sections apart at the usual priority of 500.
    app.connect("autodoc-process-docstring", complete_docstring, priority=400)
    app.connect("autodoc-skip-member", skip_foreign)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


# What there is.


@cache
def packages() -> dict[str, dict[str, Any]]:
    """Every public package with its public names."""
    found = {"widemax": {name: getattr(widemax, name) for name in widemax.__all__}}
    for info in pkgutil.walk_packages(widemax.__path__, "widemax."):
        if info.ispkg and info.name != "widemax.cli":
            package = importlib.import_module(info.name)
            found[info.name] = {name: getattr(package, name) for name in getattr(package, "__all__", ())}
    for module in map(importlib.import_module, PUBLIC_MODULES):
        own = {name: each for name, each in vars(module).items() if not name.startswith("_")}
        found[module.__name__] = {
            name: each for name, each in own.items() if is_code(each) and each.__module__ == module.__name__
        }
    return {package: names for package, names in found.items() if names}


@cache
def registries() -> dict[str, Registry[Any]]:
    """Every registry by the package whose modules register members."""
    values = [value for names in packages().values() for value in names.values()]
    return {value.package: value for value in values if isinstance(value, Registry)}


def members(package: str) -> dict[str, Any]:
    """The members that widemax itself registers from a package."""
    registry = registries().get(package, {})
    found = {name: registry[name] for name in registry}
    return {name: member for name, member in found.items() if member.__module__.startswith("widemax.")}


@cache
def described() -> set[Any]:
    """The members whose docstrings say when to use them, show an example and name the source."""
    found = [package for package, registry in registries().items() if registry.noun in DESCRIBED]
    return {member for package in found for member in members(package).values()}


def is_code(value: Any) -> bool:
    return inspect.isclass(value) or inspect.isfunction(value)


def home(value: Any) -> str:
    """The innermost package that exports something, or else its module."""
    exporting = [
        package
        for package, names in packages().items()
        if f"{value.__module__}.".startswith(f"{package}.") and names.get(value.__name__) is value
    ]
    return max(exporting, key=len, default=value.__module__)


# Pages.


def write_pages(_app: Sphinx) -> None:
    """Write the whole reference anew."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    for name, text in pages():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def pages() -> Iterator[tuple[str, str]]:
    """Each file below docs/reference, and its text."""
    yield "cli.md", cli_page()
    yield "config.rst", config_page()
    yield "python.rst", lines(heading("Python", "="), toctree([f"{package}/index" for package in packages()]))
    owners: dict[str, list[str]] = {package: [] for package in packages()}
    for package, names in packages().items():
        for value in [*members(package).values(), *filter(is_code, names.values())]:
            page = f"{home(value)}/{value.__name__}"
            owner = max((each for each in owners if f"{page}.".startswith((f"{each}/", f"{each}."))), key=len)
            if page not in owners[owner]:
                owners[owner].append(page)
                yield f"{page}.rst", member_page(value)
    for package, owned in owners.items():
        yield f"{package}/index.rst", package_page(package, owned)


def package_page(package: str, owned: list[str]) -> str:
    """A package: its docstring, its registered members by name, its further names."""
    parts = [heading(package, "="), f".. automodule:: {package}\n   :no-members:"]
    by_name, names = members(package), packages()[package]
    if by_name:
        noun = registries()[package].noun
        key = CONFIG_KEYS.get(noun)
        named = f"A config names one by ``{key}``; :doc:`its options </reference/config>`." if key else ""
        rows = [[f"``{name}``", link(member), summary(member)] for name, member in by_name.items()]
        parts += [heading("By name", "-"), named, table(["name", "Python", "what it is"], rows)]
    further = {name: value for name, value in names.items() if value not in by_name.values()}
    rows = [[link(value), summary(value)] for value in further.values() if is_code(value)]
    if rows:
        parts += [heading("Classes and functions", "-"), table(["name", "what it is"], rows)]
    constants = {name: value for name, value in further.items() if not is_code(value)}
    rows = [[f"``{name}``", constant_text(value)] for name, value in constants.items()]
    if rows:
        parts += [heading("Constants and types", "-"), table(["name", "what it is"], rows)]
    return lines(*parts, toctree([f"/reference/{page}" for page in owned], hidden=True))


def constant_text(value: Any) -> str:
    return f"the registry of each {value.noun}" if isinstance(value, Registry) else f"``{value!r}``"


def member_page(value: Any) -> str:
    """A class or function: how to import it, and its docstring."""
    name = f"{home(value)}.{value.__name__}"
    if inspect.isclass(value):
        directive = f".. autoclass:: {name}\n   :members:\n   :inherited-members:"
    else:
        directive = f".. autofunction:: {name}"
    imported = f".. code-block:: python\n\n   from {home(value)} import {value.__name__}"
    return lines(heading(value.__name__, "="), imported, directive)


def cli_page() -> str:
    """What ``--help`` says, a section a verb."""
    command = typer.main.get_command(command_line)
    text = typer.cli.get_docs_for_click(obj=command, ctx=typer.Context(command), name="widemax")
    return text.replace("# `widemax`", "# Verbs and options", 1)


def config_page() -> str:
    """Every key of a config file, and the options of each member that one can name."""
    parts = [heading("Config keys", "="), CONFIG_INTRODUCTION]
    for name, field in Config.model_fields.items():
        section: Any = field.annotation
        parts += [heading(f"[{name}]", "-"), sections(section.__doc__)[""], options_table("key", section)]
        for package, registry in registries().items():
            key = CONFIG_KEYS.get(registry.noun, "")
            if key.startswith(f"{name}."):
                parts += [heading(f"What {key} can be", "~")]
                for member_name, member in members(package).items():
                    parts += [f"**{member_name}**, {link(member)}: {summary(member)}"]
                    parts += [options_table("option", member)]
    return lines(*parts)


def options_table(noun: str, value: Any) -> str:
    """Every keyword-only argument with its type, range, default and meaning."""
    meanings = argument_meanings(value)
    rows = []
    for option in inspect.signature(value, eval_str=True).parameters.values():
        if option.kind is option.KEYWORD_ONLY:
            if option.name not in meanings:
                log.warning("the docstring of %s lacks %s", value.__qualname__, option.name)
            facts = [f"``{option.name}``", type_text(option.annotation), default_text(option)]
            rows.append([*facts, meanings.get(option.name, "")])
    return table([noun, "type", "default", "meaning"], rows) if rows else ""


# reStructuredText.


def lines(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def heading(text: str, underline: str) -> str:
    return f"{text}\n{underline * len(text)}"


def toctree(pages: list[str], *, hidden: bool = False) -> str:
    return "\n   ".join([".. toctree::", ":hidden:" if hidden else ":maxdepth: 1", "", *pages])


def table(head: list[str], rows: list[list[str]]) -> str:
    cells = ["\n     ".join(f"- {cell}" for cell in row) for row in [head, *rows]]
    return "\n   ".join([".. list-table::", ":header-rows: 1", "", *(f"* {row}" for row in cells)])


def link(value: Any) -> str:
    return f":doc:`{value.__name__} </reference/{home(value)}/{value.__name__}>`"


def summary(value: Any) -> str:
    """The first sentence of a docstring."""
    paragraph = " ".join((inspect.getdoc(value) or "").partition("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", paragraph)[0].replace("::", ":")


# Docstrings.


def complete_docstring(
    _app: Sphinx, what: str, name: str, value: Any, _options: Any, docstring: list[str]
) -> None:
    """Give every section its own lines, and arguments their type, range and default."""
    found = sections("\n".join(docstring))
    meanings = argument_meanings(value) if what == "class" else entries(found.get("Args", ""))
    if meanings:
        found["Args"] = "\n".join(typed(value, meanings))
    if inspect.isclass(value) and issubclass(value, Section):  # whose attributes are its arguments
        found.pop("Attributes", None)
    if is_code(value) and value in described():
        missing = [
            *(name for name in ("Use", "Example", "Source") if name not in found),
            *(name for name in inspect.signature(value).parameters if name not in meanings),
        ]
        if missing:
            log.warning("the docstring of %s lacks %s", name, ", ".join(missing))
    if "Use" in found:
        found["Use"] = found["Use"][:1].upper() + found["Use"][1:]
    docstring[:] = found.pop("").splitlines()
    if what in ("attribute", "property"):
        # An empty comment: napoleon takes what stands before a colon in the first line for a type.
        docstring[:0] = ["..", ""]
    for section, text in found.items():
        # Napoleon would take what stands before a colon for a type.
        start = ":returns:" if section == "Returns" else f"{section}:"
        docstring += ["", start, *textwrap.indent(text, "    ").splitlines()]
    docstring.append("")


def typed(value: Any, meanings: Mapping[str, str]) -> Iterator[str]:
    """``name (type, default): meaning`` of each argument that has a meaning."""
    for parameter in inspect.signature(value, eval_str=True).parameters.values():
        if parameter.name in meanings:
            kind = "" if parameter.annotation is parameter.empty else type_text(parameter.annotation)
            default = "" if parameter.default is parameter.empty else f"default {default_text(parameter)}"
            facts = ", ".join(filter(None, [kind, default]))
            yield f"{parameter.name}{f' ({facts})' if facts else ''}: {meanings[parameter.name]}"


def skip_foreign(_app: Sphinx, what: str, name: str, value: Any, _skip: bool, _options: Any) -> bool | None:
    """Leave out what other projects' bases bring; fail the build for a public method without a docstring."""
    code = value.fget if isinstance(value, property) else value
    if what != "class" or name.startswith("_") or not callable(code):
        return None
    if not (getattr(code, "__module__", None) or "").startswith("widemax."):
        return True
    if not inspect.getdoc(code):
        log.warning("%s.%s has no docstring", code.__module__, code.__qualname__)
    return None


def entries(section: str) -> dict[str, str]:
    """``name: meaning`` of a section, lines joined."""
    found = docstrings.entries(section).items()
    # A letter with a full stop, such as the number of classes C, would begin an enumeration.
    return {name: re.sub(r"^(\w\.)", r"\\\1", " ".join(text.split())) for name, text in found}


def argument_meanings(value: Any) -> dict[str, str]:
    """What each argument is: as a class or function says it, or else the nearest base that does."""
    meanings: dict[str, str] = {}
    for origin in reversed(inspect.getmro(value) if inspect.isclass(value) else [value]):
        if origin.__module__.startswith("widemax."):
            found = sections(vars(origin).get("__doc__") or origin.__doc__)
            meanings |= entries(found.get("Attributes", "")) | entries(found.get("Args", ""))
    return meanings


# Types.


def default_text(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return "required"
    text = repr(parameter.default).replace("'", '"')
    return "empty" if text == "<factory>" else f"``{text}``"


def type_text(annotation: Any) -> str:
    """A type as a reader says it, with the range that its annotation carries."""
    arguments = get_args(annotation)
    match get_origin(annotation):
        case origin if origin is Annotated:
            return type_text(arguments[0]) + range_text(arguments[1:])
        case origin if origin is Literal:
            return " or ".join("``{}``".format(repr(each).replace("'", '"')) for each in arguments)
        case origin if origin is Union or origin is types.UnionType:
            return " or ".join(dict.fromkeys(union_texts(arguments)))
        case origin if origin is tuple and arguments[1:] == (...,):
            inner = type_text(arguments[0])
            return f"tuple of ({inner})" if " or " in inner else f"tuple of {inner}"
        case _:
            text = stringify_annotation(annotation, "fully-qualified-except-typing")
            return f"``{re.sub(r'(?:[a-z_]+[.])+', '', text)}``"


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
        for bound in getattr(field, "metadata", [field])
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
    return "π" if number == math.pi else f"{number:g}"

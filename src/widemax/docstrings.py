"""Docstrings in which what a room or a base says of arguments is said once, and read at every member."""

import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

_HEADED = ("Use", "Args", "Attributes", "Returns", "Yields", "Raises", "Example", "Source")
_START = re.compile(rf"({'|'.join(_HEADED)}):(?: (.*))?$")
_ENTRY = re.compile(r"^([*\w]+(?:, [*\w]+)*): ", re.MULTILINE)


def sections(docstring: str | None) -> dict[str, str]:
    """The text of a docstring by section; what stands before the first one is under ''.

    Example:
        >>> sections("Add one.\\n\\nArgs:\\n    x: a number.")
        {'': 'Add one.', 'Args': 'x: a number.'}
    """
    found: dict[str, list[str]] = {"": []}
    section = ""
    for line in inspect.cleandoc(docstring or "").splitlines():
        if start := _START.match(line):
            section = start[1]
            found[section] = [start[2]] if start[2] else []
        else:
            found[section].append(line)
    return {name: textwrap.dedent("\n".join(text)).strip() for name, text in found.items()}


def entries(section: str) -> dict[str, str]:
    """``name: meaning`` of a section; ``a, b: meaning`` is said of both."""
    found = _ENTRY.split(section)[1:]
    pairs = zip(found[::2], found[1::2], strict=True)
    return {name: text.rstrip() for names, text in pairs for name in names.split(", ")}


def complete(member: Callable[..., Any], known: Mapping[str, str]) -> None:
    """Add to the sections of a docstring what is known besides; of arguments those that the member takes."""
    if not member.__doc__:  # as under python -OO
        return
    own = sections(member.__doc__)
    for name, text in known.items():
        said = entries(text) | entries(own.get(name, ""))
        if name == "Args":
            said = {key: said[key] for key in inspect.signature(member).parameters if key in said}
        own[name] = "\n".join(f"{key}: {meaning}" for key, meaning in said.items()) or own.get(name, text)
    parts = [own[""]]
    for name in filter(own.get, _HEADED):
        inline = name in ("Use", "Source")
        parts.append(f"{name}: {own[name]}" if inline else f"{name}:\n{textwrap.indent(own[name], '    ')}")
    member.__doc__ = "\n\n".join(parts)


def inherit(kind: type, *names: str) -> None:
    """Add to these sections of a class's docstring what its bases say in them."""
    bases = [sections(vars(base).get("__doc__")) for base in reversed(kind.__mro__[1:])]
    complete(kind, {name: "\n".join(base[name] for base in bases if name in base) for name in names})

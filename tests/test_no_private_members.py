"""Tests ask for public behavior only: they name nothing private of the package, nor have anything private."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent

ALLOWED = {
    "_exit": "os has no other way to end a forked child without pytest's own end",
    "_replace": "part of the interface of named tuples, underscored to leave room for fields",
    "_repr_html_": "the protocol of notebooks",
    "_indices": "of a sparse gradient with duplicates, which torch shows under no other name",
    "_values": "of a sparse gradient with duplicates, which torch shows under no other name",
    "_python_dispatch": "the module where torch documents TorchDispatchMode",
    "_setup_privateuseone_for_python_backend": "torch's way to a device written in Python",
    "_is_in_bad_fork": "asked by torch of the module of such a device",
    "_make_wrapper_subclass": "torch's way to a tensor on it",
    "_int_mm": "torch's product of numbers of 8 bits, which has no other name",
    "_pytree": "the module where torch keeps what tensors of arguments are found with",
}


def is_private(name: str) -> bool:
    """Whether a name, dotted or not, has a part with one leading underscore, other than a mere one."""
    parts = (part for part in name.split(".") if part.isidentifier())
    return any(
        part.strip("_") and part[0] == "_" and part[:2] != "__" and part not in ALLOWED for part in parts
    )


def names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Names that a module imports, defines, reads or passes to monkeypatch, and their lines."""
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from ((alias.name, node.lineno) for alias in node.names)
            case ast.ImportFrom():
                yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
            case ast.FunctionDef(name) | ast.ClassDef(name) | ast.Attribute(attr=name) | ast.Name(name):
                yield name, node.lineno
            case ast.Call(
                ast.Attribute(attr="setattr" | "delattr") | ast.Name("getattr" | "setattr"), arguments
            ):
                for argument in arguments[:2]:
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                        yield argument.value, node.lineno


def private_names(source: str) -> list[str]:
    if not re.search(r"\b_[^\W_]", source):  # by far quicker than what follows
        return []
    return [f"line {line}: {name}" for name, line in names(ast.parse(source)) if is_private(name)]


def test_no_test_names_anything_private() -> None:
    found = {
        str(path.relative_to(TESTS)): private_names(path.read_text(encoding="utf-8"))
        for path in TESTS.rglob("*.py")
    }
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "code",
    [
        "head._weight",
        "from widemax.heads.base import _helper",
        "from widemax._hidden import helper",
        "import widemax._hidden",
        "class Twin(Head):\n    def _answer(self): pass",
        "monkeypatch.setattr(module, '_SIZE', 3)",
        "monkeypatch.setattr('widemax.heads._SIZE', 3)",
        "getattr(head, '_weight')",
    ],
)
def test_a_private_name_is_found(code: str) -> None:
    assert private_names(code)


@pytest.mark.parametrize("code", ["for _ in range(3): pass", "head.__class__", "rows._replace(labels=None)"])
def test_a_public_name_is_let_through(code: str) -> None:
    assert not private_names(code)

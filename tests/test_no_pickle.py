"""Nothing in the package can run code that a file brings: no pickle, under whatever name it is imported."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "widemax"

BANNED = {
    *("pickle", "_pickle", "pickletools", "cloudpickle", "dill", "joblib", "marshal", "shelve"),
    *("torch.load", "torch.save", "torch.serialization", "torch.package", "torch.hub", "torch.jit.load"),
    *("pandas.read_pickle", "pandas.io.pickle", "allow_pickle"),
}
"""Modules and functions that read or write pickles, with all that is inside of them, and numpy's leave to."""

WORDS = {"load", *(bad.rpartition(".")[2] for bad in BANNED)}
"""What must stand in a module that reaches one of them."""

IMPORTERS = {"__import__", "importlib.import_module", "importlib.__import__", "runpy.run_module"}


def meanings(tree: ast.Module) -> dict[str, str]:
    """Names that a module imports, under the names that it gives them."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            source = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            for alias in node.names:
                if alias.asname or source:
                    found[alias.asname or alias.name] = source + alias.name
                else:
                    found[alias.name.partition(".")[0]] = alias.name.partition(".")[0]
    return found


def names(tree: ast.Module) -> Iterator[str]:
    """The full names of all that a module imports, and of what it reaches through its imports."""
    known = meanings(tree)

    def full(node: ast.expr) -> str:
        match node:
            case ast.Name(name):
                return known.get(name, name)
            case ast.Attribute(value, name):
                return f"{full(value)}.{name}"
        return ""

    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom():
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            case ast.Name() | ast.Attribute():
                yield full(node)
            case ast.Call(func, [ast.Constant(str(module)), *_]) if full(func) in IMPORTERS:
                yield module
            case ast.Call(func, [_, _, _, *_]) if full(func) == "numpy.load":
                yield "allow_pickle"  # by position
            case ast.keyword("allow_pickle", ast.Constant(False)):
                pass
            case ast.keyword("allow_pickle") | ast.Constant("allow_pickle"):
                yield "allow_pickle"


def unpicklers(source: str) -> set[str]:
    """What in a module could read a pickle."""
    if not any(word in source for word in WORDS):
        return set()  # nor can what is imported under another name be one of them
    banned = tuple(f"{bad}." for bad in BANNED)
    return {name for name in names(ast.parse(source)) if f"{name}.".startswith(banned)}


def test_nothing_can_unpickle() -> None:
    found = {path: unpicklers(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "import pickle as p",
        "import os, pickle",
        "from pickle import loads",
        "from pickle import *",
        "def f():\n    import pickle",
        "__import__('pickle')",
        "import importlib\nimportlib.import_module('pickle')",
        "from importlib import import_module as get\nget('dill')",
        "import joblib",
        "from joblib import load as read",
        "import dill",
        "import shelve",
        "import marshal",
        "import torch\ntorch.load('a')",
        "import torch\ntorch.load('a', weights_only=False)",
        "import torch\nread = torch.load",
        "import torch as t\nt.load('a')",
        "from torch import load",
        "from torch import load as read",
        "import torch.serialization\ntorch.serialization.load('a')",
        "from torch import serialization as s\ns.load('a')",
        "import torch\ntorch.save({}, 'a')",
        "import numpy as np\nnp.load('a', allow_pickle=True)",
        "import numpy as np\nnp.load('a', None, True)",
        "import numpy as np\nallowed = True\nnp.load('a', allow_pickle=allowed)",
        "from numpy import load\nload('a', **{'allow_pickle': True})",
        "from numpy import load\nload('a', None, True)",
        "from numpy.lib.format import read_array\nread_array(file, allow_pickle=True)",
        "import pandas as pd\npd.read_pickle('a')",
    ],
)
def test_a_way_to_unpickle_is_found(code: str) -> None:
    assert unpicklers(code)


@pytest.mark.parametrize(
    "code",
    [
        "import numpy as np\nnp.load('a', mmap_mode='r', allow_pickle=False)",
        "import torch\ntorch.nn.Module.load_state_dict(module, {})",
        "import json\njson.load(file)",
        "from safetensors.torch import load_file\nload_file('a')",
        "def load(run):\n    'No pickle is read.'",
    ],
)
def test_what_reads_no_pickle_is_let_through(code: str) -> None:
    assert not unpicklers(code)

"""Every docstring example of the package runs as it stands."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import widemax

MODULES = [
    module.name
    for module in pkgutil.walk_packages(widemax.__path__, "widemax.")
    if module.name != "widemax.__main__"  # importing it runs the command line
]


def test_the_sweep_finds_every_file() -> None:
    (package,) = map(Path, widemax.__path__)
    files = {
        ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in package.rglob("*.py")
    }
    assert files == {*MODULES, "widemax", "widemax.__main__"}


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    assert doctest.testmod(module).failed == 0


def test_a_wrong_example_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner().run(test).failed == 1
    assert "Expected:\n    3" in capsys.readouterr().out

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import widemax.evaluation

MODULES = [
    module.name for module in pkgutil.walk_packages(widemax.evaluation.__path__, "widemax.evaluation.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_importing_the_room_does_not_import_torch_or_scipy() -> None:
    code = (
        "import sys, widemax.evaluation.report as _; print({'torch', 'scipy', 'sklearn'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"

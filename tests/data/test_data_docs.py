"""The room needs no torch, and the examples of its docstrings run."""

import doctest
import importlib
import math
import pkgutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import widemax.data

MODULES = [module.name for module in pkgutil.walk_packages(widemax.data.__path__, "widemax.data.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    names = vars(widemax.data) | vars(module)
    names |= {"Path": Path, "math": math, "np": np, "pa": pa, "tempfile": tempfile}
    assert doctest.testmod(module, extraglobs=names).failed == 0


def test_importing_the_room_does_not_import_torch():
    code = "import sys, widemax.data; widemax.data.formats.names(); widemax.data.sets.names(); "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""The public names are exactly those of ``__all__``, sorted, and each leads somewhere."""

import re
import subprocess
import sys

import pytest

import widemax


def test_all_is_sorted() -> None:
    assert widemax.__all__ == sorted(set(widemax.__all__))


@pytest.mark.parametrize("name", widemax.__all__)
def test_each_name_leads_to_its_definition(name: str) -> None:
    found = getattr(widemax, name)
    assert getattr(sys.modules[found.__module__], name) is found
    assert found.__doc__


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=re.escape("no attribute 'tarin'")):
        widemax.tarin  # noqa: B018


def test_importing_widemax_imports_no_torch() -> None:
    code = "import sys, widemax; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

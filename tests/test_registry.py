"""Registries find members by walking a package and by entry points, and check their options."""

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from widemax.errors import ConfigError, UnknownNameError
from widemax.registry import Registry


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[Any]:
    """A package whose modules register members."""
    package = tmp_path / "roomy"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from widemax.registry import Registry\nchairs = Registry('chair', 'roomy')\n"
    )
    for name in ("stool", "bench"):
        (package / f"{name}.py").write_text(
            "from roomy import chairs\n"
            f"@chairs.register('{name}')\ndef {name}(*, legs: int = 4): return legs\n"
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry: Registry[Any] = importlib.import_module("roomy").chairs
    yield registry
    for name in [name for name in sys.modules if name.partition(".")[0] == "roomy"]:
        del sys.modules[name]


def test_the_file_is_the_registration(room: Registry[Any]) -> None:
    assert "roomy.stool" not in sys.modules
    assert room.names() == list(room) == ["bench", "stool"]
    assert room["stool"](legs=3) == 3


def test_an_unknown_name_offers_the_nearest(room: Registry[Any]) -> None:
    with pytest.raises(UnknownNameError, match="unknown chair 'stol'; did you mean 'stool'"):
        room["stol"]


def test_a_name_is_given_once(room: Registry[Any]) -> None:
    room.register("stool")(room["stool"])
    with pytest.raises(ConfigError, match="chair 'stool' is already registered"):
        room.register("stool")(lambda: None)


def member(
    size: int,
    *,
    rate: Annotated[float, Field(gt=0)],
    mode: Literal["fast", "slow"] = "fast",
    bias: bool = True,
) -> None:
    """A member with every sort of argument."""


@pytest.fixture
def single(room: Registry[Any]) -> Registry[Any]:
    room.register("member")(member)
    return room


def test_options_are_the_keyword_only_arguments(single: Registry[Any]) -> None:
    assert list(single.options("member").model_fields) == ["rate", "mode", "bias"]
    assert single.check_options("member", {"rate": 2}) == {"rate": 2.0, "mode": "fast", "bias": True}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"option 'rate' of chair 'member': Field required"),
        ({"rate": 0}, r"option 'rate' of chair 'member': Input should be greater than 0, got 0\."),
        ({"rate": "much"}, "option 'rate'"),
        ({"rate": 1, "mode": "medium"}, "option 'mode' .* got 'medium'"),
        ({"rate": 1, "size": 3}, "chair 'member' has no option 'size'"),
        ({"rate": 1, "bais": False}, "has no option 'bais'; did you mean 'bias'"),
    ],
)
def test_wrong_options_are_refused(single: Registry[Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        single.check_options("member", options)

"""Registries find members by walking a package and by entry points, and check their options."""

import importlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from widemax.errors import ConfigError, OptionError, UnknownNameError
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


def test_a_name_imports_the_module_of_its_name_alone(room: Registry[Any]) -> None:
    assert room["stool"]() == 4
    assert "roomy.bench" not in sys.modules
    assert room.names() == ["bench", "stool"]


def test_an_unknown_name_offers_the_nearest(room: Registry[Any]) -> None:
    with pytest.raises(UnknownNameError, match="unknown chair 'stol'; did you mean 'stool'"):
        room["stol"]


def test_two_threads_find_all_members(room: Registry[Any], tmp_path: Path) -> None:
    slow = tmp_path / "roomy" / "bench.py"
    slow.write_text(f"import time; time.sleep(0.3)\n{slow.read_text()}")
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: room.names(), range(4))) == [["bench", "stool"]] * 4


def test_a_name_is_given_once(room: Registry[Any]) -> None:
    room["stool"]
    with pytest.raises(ConfigError, match="chair 'stool' is already registered"):
        room.register("stool")(lambda: None)


def test_a_cell_that_runs_again_replaces_its_member(room: Registry[Any]) -> None:
    cell = "@room.register('mine')\ndef mine(*, legs=3): return legs"
    for legs in ("3", "4"):
        exec(cell.replace("3", legs), {"room": room, "__name__": "__main__"})
        assert room["mine"]() == int(legs)


def test_what_a_member_declares_is_kept_for_its_name_and_for_itself(room: Registry[Any]) -> None:
    sofa = room.register("sofa", seats=3)(lambda: None)
    assert room.traits("sofa") == room.traits(sofa) == {"seats": 3}
    assert room.traits("stool") == room.traits(lambda: None) == {}


def member(
    size: int,
    *,
    rate: Annotated[float, Field(gt=0)],
    mode: Literal["fast", "slow"] = "fast",
    bias: bool = True,
) -> dict[str, Any]:
    """A member with every sort of argument."""
    return {"size": size, "rate": rate, "mode": mode, "bias": bias}


@pytest.fixture
def single(room: Registry[Any]) -> Registry[Any]:
    room.register("member")(member)
    return room


def test_options_are_the_keyword_only_arguments(single: Registry[Any]) -> None:
    assert list(single.options("member").keywords) == ["rate", "mode", "bias"]
    assert single.options("member").complete({"rate": 2}) == {"rate": 2.0, "mode": "fast", "bias": True}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"option 'rate' of chair 'member' is missing"),
        ({"rate": 0}, r"option 'rate' of chair 'member' must be a number above 0; got 0\."),
        ({"rate": "much"}, "option 'rate'"),
        ({"rate": 1, "mode": "medium"}, "option 'mode' .* must be 'fast' or 'slow'; got 'medium'"),
        ({"rate": 1, "size": 3}, "chair 'member' has no option 'size'"),
        ({"rate": 1, "bais": False}, "has no option 'bais'; did you mean 'bias'"),
    ],
)
def test_wrong_options_are_refused(single: Registry[Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        single.options("member").complete(options)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("stool", 4),
        ({"kind": "stool"}, 4),
        ({"kind": "stool", "legs": 3}, 3),
        ({"kind": lambda *, legs=5: legs}, 5),
    ],
)
def test_a_spec_is_a_name_a_table_or_a_table_with_the_member_itself(
    room: Registry[Any], spec: Any, expected: int
) -> None:
    assert room.build(spec) == expected


def test_an_object_is_built_already(room: Registry[Any]) -> None:
    sofa = object()
    assert room.build(sofa) is sofa


def test_a_class_is_built(room: Registry[Any]) -> None:
    class Bench:
        def __init__(self, width: int, *, legs: int = 6) -> None:
            self.size = (width, legs)

    assert room.build(Bench, 2).size == (2, 6)
    with pytest.raises(OptionError, match="option 'legs' of chair 'Bench' must be a whole number"):
        room.build({"kind": Bench, "legs": "many"}, 2)


def test_a_table_needs_a_kind(room: Registry[Any]) -> None:
    with pytest.raises(ConfigError, match="the table of a chair must have a 'kind'"):
        room.build({"legs": 3})

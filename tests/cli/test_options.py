"""Options become one config: the file first, options over it, --set over both."""

from pathlib import Path

import pytest

from widemax.cli.options import parse_kinds, parse_seconds, read_config
from widemax.errors import ConfigError, UsageError


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("60s", 60), ("1.5m", 90), ("2h", 7200)])
def test_seconds(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "0", "-3s", "5ms", "1h30m", "nan", "soon"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="such as 60s; got"):
        parse_seconds(text)


def test_kinds() -> None:
    assert parse_kinds(["age=number", "a=b=text"]) == {"age": "number", "a=b": "text"}
    with pytest.raises(UsageError, match=r"COLUMN=KIND, .* got 'age'"):
        parse_kinds(["age"])


def test_options_win_over_the_file_and_set_over_both(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        "[data]\ntrain = 'a.csv'\ntarget = 'y'\n[data.kinds]\nage = 'text'\n"
        "[train]\nepochs = 3\nseed = 1\n[output]\ndir = 'x'\n"
    )
    config = read_config(
        [str(path)],
        {
            "input": ["age,name", "city"],
            "target": "z",
            "kind": ["age=number"],
            "set_": ["train.seed=9"],
            "seed": 5,
            "time_limit": None,
            "out": Path("out"),
            "json": True,
        },
    )
    assert config.data.train == ("a.csv",)
    assert config.data.input == ("age", "name", "city")
    assert (config.data.target, config.data.kinds) == ("z", {"age": "number"})
    assert (config.train.epochs, config.train.seed, config.train.time_limit_s) == (3, 9, None)
    assert config.output.dir == "out"


def test_a_seed_of_zero_wins_too(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[data]\ntrain = 'a.csv'\n[train]\nseed = 7\n")
    assert read_config([str(path)], {"seed": 0}).train.seed == 0


@pytest.mark.parametrize("content", ["[data", "[data]\ntrain = 'a'\ntrian = 'b'\n", "data = 3\n"])
def test_a_config_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(content)
    with pytest.raises(UsageError):
        read_config([str(path)], {"target": "y"})
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        read_config([str(tmp_path / "absent.toml")], {})

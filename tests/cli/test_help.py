"""Every verb's help ends with two examples that parse, and shells complete verbs and options."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.forked import Command

from widemax.cli.app import app
from widemax.cli.examples import EXAMPLES

GROUP = typer.main.get_command(app)


def verbs(group: Any, *above: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs(command, *above, name)
        else:
            yield " ".join([*above, name])


def test_every_verb_has_examples() -> None:
    assert set(verbs(GROUP)) == EXAMPLES.keys()


@pytest.mark.parametrize("verb", EXAMPLES)
def test_help_ends_with_two_examples_that_parse(
    widemax, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    *_, first, second = widemax(*verb.split(), "--help").out.rstrip().splitlines()
    assert first != second
    for line in (first, second):
        program, *words = shlex.split(line)
        assert program == "widemax"
        assert words[: len(verb.split())] == verb.split()
        command: Any = GROUP
        for name in verb.split():
            command = command.commands[name]
        command.make_context(verb, words[len(verb.split()) :])


def told_to_a_shell(**environment: str) -> str:
    """What widemax prints to a shell that says so in its environment what it wants."""
    command = Command(**environment)
    out, err = command.stdout.read(), command.stderr.read()
    assert (command.wait(), err) == (0, "")
    command.stop()
    return out


@pytest.mark.parametrize(
    ("shell", "typed", "there", "absent"),
    [
        *((shell, "widemax ev", "evaluate", "train") for shell in ("bash", "zsh", "fish")),
        ("bash", "widemax evaluate --enc", "--encoding", "--beam"),
        ("bash", "widemax data ", "get", "evaluate"),
    ],
)
def test_shells_complete(shell: str, typed: str, there: str, absent: str) -> None:
    """When a user presses tab."""
    words = typed.split(" ")
    answer = told_to_a_shell(
        _WIDEMAX_COMPLETE=f"complete_{shell}",
        _TYPER_COMPLETE_ARGS=typed,
        _TYPER_COMPLETE_FISH_ACTION="get-args",
        COMP_WORDS="\n".join(words),
        COMP_CWORD=str(len(words) - 1),
    )
    assert there in answer
    assert absent not in answer


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_are_told_how_to_complete(shell: str) -> None:
    script = told_to_a_shell(_WIDEMAX_COMPLETE=f"source_{shell}")
    assert "_WIDEMAX_COMPLETE" in script

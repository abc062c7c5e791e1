"""The exception tree: what a caller can catch, and the exit code each error gives."""

import inspect
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from widemax import errors
from widemax.errors import WidemaxError, did_you_mean

CLASSES = [
    member
    for _, member in inspect.getmembers(errors, inspect.isclass)
    if issubclass(member, WidemaxError) and member is not WidemaxError
]
TREE = {
    "UsageError": ("WidemaxError", ValueError, 2),
    "ConfigError": ("UsageError", ValueError, 2),
    "OptionError": ("ConfigError", TypeError, 2),
    "UnknownNameError": ("UsageError", LookupError, 2),
    "ShapeError": ("UsageError", ValueError, 2),
    "ArgumentError": ("UsageError", TypeError, 2),
    "DataError": ("WidemaxError", ValueError, 3),
    "BadRowError": ("DataError", ValueError, 3),
    "LabelError": ("DataError", ValueError, 3),
    "ResourceError": ("WidemaxError", OSError, 4),
    "PeerError": ("WidemaxError", ConnectionError, 6),
    "CorruptError": ("WidemaxError", OSError, 5),
}


def test_the_tree_is_complete() -> None:
    assert {member.__name__ for member in CLASSES} == set(TREE)


@pytest.mark.parametrize("member", CLASSES)
def test_each_has_its_parent_its_builtin_and_its_exit_code(member: type[WidemaxError]) -> None:
    parent, builtin, exit_code = TREE[member.__name__]
    assert member.__bases__[0].__name__ == parent
    assert issubclass(member, builtin)
    assert member.exit_code == exit_code
    with pytest.raises(builtin, match="one sentence"):
        raise member("one sentence.")


@pytest.mark.parametrize("member", CLASSES)
def test_the_message_is_the_sentence_alone(member: type[WidemaxError]) -> None:
    """LookupError's child KeyError would quote it, and OSError would number it."""
    assert str(member("head must be 'exact'.")) == "head must be 'exact'."


def test_the_docstring_shows_the_tree_as_it_is() -> None:
    assert errors.__doc__
    shown = re.findall(r"[├└]── (\w+) ?(?:\((\w+)\))? *(?:exit (\d))?", errors.__doc__)
    assert {name for name, _, _ in shown} == set(TREE)
    for name, builtin, exit_code in shown:
        assert not builtin or TREE[name][1].__name__ == builtin
        assert not exit_code or TREE[name][2] == int(exit_code)


def test_the_nearest_word_is_offered_or_all_of_them() -> None:
    assert did_you_mean("exakt", ["sampled", "exact"]) == "did you mean 'exact'?"
    assert did_you_mean("zzz", ["sampled", "exact"]) == "choose one of ['sampled', 'exact']."
    assert did_you_mean("zzz", []) == "choose one of []."


@given(st.text(), st.lists(st.text(min_size=1), max_size=5))
def test_any_word_gets_a_hint(word: str, known: list[str]) -> None:
    hint = did_you_mean(word, known)
    assert hint.startswith("did you mean") or hint == f"choose one of {known}."

"""Arguments are held to the annotations of their signature."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import Field

from widemax.errors import ConfigError, OptionError
from widemax.options import checked, describe


@checked
class Chair:
    """A chair."""

    def __init__(self, name: str, *, legs: Annotated[int, Field(ge=3, lt=9)] = 4, tags: tuple[str, ...] = ()):
        self.name, self.legs, self.tags = name, legs, tags


@checked
def folded(x: Any, *, share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5, way: Literal["in", "out"] = "in"):
    """Folds."""
    return share, way


def test_a_list_and_numpy_numbers_are_taken_for_what_they_are() -> None:
    chair = Chair("stool", legs=np.int64(3), tags=["old"])
    assert (chair.legs, type(chair.legs), chair.tags) == (3, int, ("old",))
    assert folded(0, share=np.float32(0.25)) == (0.25, "in")
    assert folded(0, share=1) == (1.0, "in")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Chair(3), "option 'name' of Chair must be a string; got 3."),
        (lambda: Chair("a", legs=2), "option 'legs' of Chair must be a whole number in [3, 9); got 2."),
        (lambda: Chair("a", legs=True), "option 'legs' of Chair must be a whole number in [3, 9); got True."),
        (lambda: Chair("a", legs=4.0), "option 'legs' of Chair must be a whole number in [3, 9); got 4.0."),
        (lambda: Chair("a", lgs=4), "Chair has no option 'lgs'; did you mean 'legs'?"),
        (lambda: Chair(), "option 'name' of Chair is missing; it has no default."),
        (
            lambda: folded(0, share=float("nan")),
            "option 'share' of folded must be a number in [0.0, 1.0]; got nan.",
        ),
        (
            lambda: folded(0, way="ot"),
            "option 'way' of folded must be 'in' or 'out'; got 'ot'; did you mean 'out'?",
        ),
        (lambda: folded(0, wy="out"), "folded has no option 'wy'; did you mean 'way'?"),
    ],
)
def test_a_wrong_argument_is_one_sentence(call: Any, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        call()
    assert str(caught.value) == message


def test_an_option_error_is_what_callers_catch() -> None:
    assert issubclass(OptionError, ConfigError)
    assert issubclass(OptionError, (ValueError, TypeError))


def test_an_old_name_says_the_new_one() -> None:
    @lambda member: checked(member, moved={"tall": "pass legs."})
    def stool(*, legs: int = 3) -> int:
        return legs

    with pytest.raises(OptionError, match=r"has no option 'tall'; pass legs\."):
        stool(tall=True)


def test_an_iterable_is_handed_on_as_it_is() -> None:
    """pydantic would hand on an iterator of its own, which takes the first of these forms only."""

    class Groups:
        def __init__(self, params: Iterable[int] | Iterable[dict[str, int]]) -> None:
            self.params = params

    groups = [{"rows": 1}]
    assert checked(Groups)(groups).params is groups


def test_a_checked_function_compiles_as_one_graph() -> None:
    @checked
    def scaled(x: torch.Tensor, *, by: Annotated[float, Field(gt=0.0)] = 1.0) -> torch.Tensor:
        return x * by

    compiled = torch.compile(lambda x: scaled(x, by=2.0), fullgraph=True, backend="eager")
    assert compiled(torch.ones(1)).item() == 2.0


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Annotated[float, Field(gt=0.0)], "a number above 0.0"),
        (Annotated[int, Field(le=7)] | None, "a whole number of at most 7 or None"),
        (Annotated[float, Field(lt=1.0)], "a number below 1.0"),
        (bool, "True or False"),
        (tuple[int, ...] | Literal["auto"], "a sequence (each a whole number) or 'auto'"),
        (tuple[float, float] | None, "a sequence of 2 (each a number) or None"),
        (NDArray[np.int64], "an array of whole numbers"),
        (type[Chair], "a class of a Chair"),
        (torch.Tensor, "a Tensor"),
    ],
)
def test_annotations_in_words(annotation: Any, words: str) -> None:
    assert describe(annotation) == words

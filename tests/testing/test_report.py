"""What a check returns and raises."""

import pytest
import torch

from widemax.errors import WidemaxError
from widemax.testing import ConformanceError
from widemax.testing.report import NotApplicable, require, require_close, run_laws


def holds():
    return "well"


def skips():
    raise NotApplicable("no such option")


def breaks():
    require(False, "3 must be 4.", cause="counting from 0")


def crashes():
    raise KeyError("weight")


def test_laws_are_listed_with_what_was_found():
    report = run_laws("mine", {"first": holds, "second": skips})
    assert report.held == {"first": "well"}
    assert report.skipped == {"second": "no such option"}
    assert str(report) == "mine\n  holds    first: well\n  skipped  second: no such option"


def test_a_broken_law_is_named_with_numbers_and_a_usual_cause():
    with pytest.raises(ConformanceError) as caught:
        run_laws("mine", {"first": holds, "second": breaks})
    assert caught.value.law == "second"
    assert str(caught.value) == ("mine breaks the law 'second': 3 must be 4. A usual cause: counting from 0.")
    assert isinstance(caught.value, AssertionError)
    assert isinstance(caught.value, WidemaxError)


def test_an_error_of_the_member_is_a_broken_law():
    with pytest.raises(ConformanceError, match="'third': it raised KeyError: 'weight'") as caught:
        run_laws("mine", {"third": crashes})
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.1]),
        ([1.0], [1.0, 1.0]),
        ([float("nan")], [1.0]),
        ([1.0], [float("nan")]),
        ([float("inf")], [1.0]),
        ([float("inf")], [-float("inf")]),
    ],
)
def test_what_is_not_close(actual, expected):
    with pytest.raises(AssertionError, match="the thing must"):
        require_close("the thing", torch.tensor(actual), torch.tensor(expected), tolerance=1e-3, cause="x")


def test_what_is_close():
    infinite = torch.tensor([float("inf"), 1000.0])
    gap = require_close("", infinite, infinite + torch.tensor([0.0, 0.5]), tolerance=1e-3, cause="")
    assert gap == 0.5
    assert require_close("", torch.empty(0, 3), torch.empty(0, 3), tolerance=0.0, cause="") == 0

"""What agrees with a known result, and what does not."""

import math

import pytest

from widemax.recipes import Known


@pytest.mark.parametrize(
    ("known", "text", "agree", "differ"),
    [
        (Known.printed(0.9, 0.1, digits=1, source="s"), "0.9, 0.1", [0.94, 0.06], [0.96, 0.06]),
        (Known.near(2.53, within=0.01, digits=2, source="s"), "2.53 ± 0.01", [2.5379], [2.55]),
        (Known.at_least(0.95, digits=2, source="s"), "≥ 0.95", [math.inf], [0.9499]),
        (Known.at_most(0.19, digits=2, source="s"), "≤ 0.19", [-1.0], [0.1901]),
        (Known.at_most(0.19, within=0.008, digits=3, source="s"), "≤ 0.190 + 0.008", [0.1979], [0.1981]),
        (Known.yes(source="s"), "yes", [True], [False]),
        (Known.no(source="s"), "no", [False], [True]),
    ],
)
def test_intervals(known, text, agree, differ):
    assert known.text == text
    assert known.source == "s"
    assert known.admits(agree)
    assert not known.admits(differ)
    assert not known.admits([math.nan] * len(agree))


def test_half_a_digit_agrees_and_more_does_not():
    known = Known.printed(0.25, digits=2, source="s")
    assert known.admits([0.255])
    assert not known.admits([0.2551])


def test_as_many_numbers_as_are_known():
    with pytest.raises(ValueError, match="shorter"):
        Known.printed(1, 2, digits=0, source="s").admits([1])


def test_numbers_are_shown_as_the_source_prints_them():
    assert Known.printed(1, digits=2, source="s").show([-0.001, math.inf]) == "0.00, inf"
    assert Known.yes(source="s").show([1.0, 0.0]) == "yes, no"

"""The time limit leaves room for what follows the last step."""

from itertools import count

import pytest

from widemax.training import clock as clock_module
from widemax.training.clock import Clock


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the time is a second later than the one before."""
    seconds = count()
    monkeypatch.setattr(clock_module.time, "perf_counter", lambda: float(next(seconds)))


@pytest.mark.usefixtures("ticking")
def test_seconds_count_earlier_sessions() -> None:
    clock = Clock(None)
    clock.earlier_s = 100.0
    assert clock.seconds == 101.0
    assert not clock.is_over(1e9)
    assert clock.share == 0.0


@pytest.mark.usefixtures("ticking")
def test_evaluation_and_saving_are_kept_room_for() -> None:
    clock = Clock(20.0)
    clock.evaluation_s, clock.saving_s = 2.0, 1.0
    assert clock.closing_s == Clock.CLOSING_S + 9
    assert not clock.is_over()  # at 1 s
    assert not clock.is_over(8.0)  # at 2 s
    assert clock.is_over(8.0)  # at 3 s
    clock.saving_s = 6.0
    assert clock.is_over()


@pytest.mark.usefixtures("ticking")
def test_the_share_of_the_steps_begins_at_the_first_one_and_ends_before_the_closing() -> None:
    clock = Clock(20.5)
    clock.begin_steps()  # at 1 s
    clock.evaluation_s = 3.0
    assert clock.share == pytest.approx(1 / (20.5 - 9.5 - 1))
    clock.evaluation_s = 10.0
    assert clock.share == 1.0

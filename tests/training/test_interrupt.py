"""The first signal asks, the second one stops; afterwards everything is as before."""

import os
import signal
import threading

import pytest

from widemax.training.interrupt import SIGNALS, stop_requested


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_a_request_and_the_second_stops(number: signal.Signals) -> None:
    with stop_requested() as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("fails", [False, True])
def test_handlers_are_put_back(fails: bool) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    try:
        with stop_requested():
            assert signal.getsignal(signal.SIGINT) is not before[0]
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_requested() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_is_never_asked() -> None:
    said: list[bool] = []

    def ask() -> None:
        with stop_requested() as stop:
            said.append(stop())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert said == [False]

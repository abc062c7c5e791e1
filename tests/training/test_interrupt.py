"""The first signal asks, the second one stops; afterwards everything is as before."""

import os
import signal
import threading

import pytest

from widemax.training.interrupt import stop_requested


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request_and_the_second_stops(number: signal.Signals) -> None:
    with stop_requested() as stop:
        assert not stop()
        os.kill(os.getpid(), number)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("fails", [False, True])
def test_handlers_are_put_back(fails: bool) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with stop_requested():
            assert signal.getsignal(signal.SIGINT) is not before[0]
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_another_thread_is_never_asked() -> None:
    said: list[bool] = []

    def ask() -> None:
        with stop_requested() as stop:
            said.append(stop())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert said == [False]

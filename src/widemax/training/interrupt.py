"""Ctrl-C as a request: the first one asks the loop to save and stop, the second one stops at once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""The last one, which Windows lacks, says that the terminal is gone; ``nohup`` ignores it."""


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether one of ``SIGNALS`` has arrived.

    An ignored SIGHUP stays ignored. Outside the main thread signals cannot be caught, and the function
    always says no.

    Raises:
        KeyboardInterrupt: at the second signal.
    """
    arrived: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if arrived:
            raise KeyboardInterrupt
        arrived.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {
        number: signal.signal(number, note)
        for number in SIGNALS
        if number in SIGNALS[:2] or signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield lambda: bool(arrived)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

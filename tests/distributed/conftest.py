"""Worlds of one, two and three processes, started once for all tests of this room that a process runs."""

import os
from collections.abc import Callable, Iterator

import pytest
from tests.distributed.worlds import Processes


@pytest.fixture(scope="session")
def worlds() -> Iterator[Callable[[int], Processes]]:
    """A world of so many processes."""
    os.environ["OMP_NUM_THREADS"] = "1"
    started: dict[int, Processes] = {}

    def of(size: int) -> Processes:
        if size not in started:
            started[size] = Processes(size)
        return started[size]

    yield of
    for processes in started.values():
        processes.stop()

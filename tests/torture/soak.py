"""Thousands of calls in one process: the same answers, and no more memory, files or threads at the end."""

import json
import os
import signal
import threading
from collections.abc import Iterator

import psutil
from tests.torture import child
from tests.torture.ground import QUESTIONS, Attempt, Ground

CALLS = 20_000
WARM = 2_000
GROWTH_BYTES = 8 << 20


def attempts(ground: Ground) -> Iterator[Attempt]:
    """Calls of ``Model.predict``, and rows through standard input."""
    while True:
        ground.fresh(run="new")
        yield Attempt(f"{CALLS} calls of Model.predict", *child.each(ground.folder, [lambda: calls(ground)]))
        yield stream(ground)


def held() -> tuple[int, int, int]:
    """Resident bytes, open files and threads of this process."""
    return psutil.Process().memory_info().rss, len(os.listdir("/proc/self/fd")), threading.active_count()


def calls(ground: Ground) -> str | None:
    """What is wrong after many calls."""
    from widemax.artifact import Model

    model = Model.load(ground.folder / "run")
    right = [repr(model.predict([row])) for row in QUESTIONS]
    for number in range(CALLS):
        if number % 1000 == 0:
            signal.alarm(child.LIMIT_S)
        if number == WARM:
            before = held()
        if repr(model.predict([QUESTIONS[number % len(QUESTIONS)]])) != right[number % len(QUESTIONS)]:
            return f"other answers at call {number}"
    after = held()
    if after[0] > before[0] + GROWTH_BYTES or after[1:] > before[1:]:
        return f"bytes, files and threads grew from {before} to {after}"
    return None


def stream(ground: Ground) -> Attempt:
    """Four times the rows through standard input take no more memory."""
    peaks = []
    for rows in (CALLS // 4, CALLS):
        lines = [json.dumps(QUESTIONS[number % len(QUESTIONS)]) for number in range(rows)]
        running = ground.start("predict", "run", "-", stdin="\n".join(lines))
        ended = running.wait()
        if wrong := ended.wrong(0):
            return Attempt("stream", wrong)
        if ended.out.count("\n") != rows:
            return Attempt("stream", f"{ended.out.count(chr(10))} answers to {rows} rows")
        peaks.append(running.peak_bytes)
    grown = peaks[1] > peaks[0] + GROWTH_BYTES
    return Attempt(f"{CALLS} rows through standard input", f"peaks {peaks}" if grown else None)

"""Requests that wait are answered together, and not more of them wait than can be answered in time."""

import asyncio
import math
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from widemax.errors import ResourceError
from widemax.serving.settings import Settings

Item = TypeVar("Item")
Result = TypeVar("Result")


class QueueFullError(ResourceError):
    """More requests wait than may."""


class TooLateError(ResourceError):
    """A request has waited for longer than it may."""


class GoneError(ResourceError):
    """Nobody waits for the answer any more."""


QUICK_S = sys.getswitchinterval()
"""For so long a thread keeps Python from the event loop all the same."""
ROUNDS = 2
"""Of the event loop: one reads what has come while a batch was computed, one puts it into the queue. A batch
that started before would leave it behind, and half of the requests would wait for the other half in turn."""
RECENT = 0.2
"""What the latest batch weighs in the time that the next is expected to take."""


@dataclass(eq=False)
class Pace:
    """How long the batches of a function take."""

    expected_s: float = math.inf

    def note(self, seconds: float) -> None:
        """A batch has taken so many seconds of a processor."""
        is_first = math.isinf(self.expected_s)
        self.expected_s = seconds if is_first else self.expected_s + RECENT * (seconds - self.expected_s)


@dataclass(eq=False)
class _Job(Generic[Item]):
    answer: Callable[[Sequence[Item]], Sequence[Any]]
    item: Item
    size: int
    pace: Pace | None
    arrived: float
    result: "asyncio.Future[Any]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def is_quick(self) -> bool:
        """Whether it takes so little time that a thread would save none."""
        return self.pace is not None and self.pace.expected_s < QUICK_S

    def goes_with(self, other: "_Job[Any]") -> bool:
        """Whether both may be of one batch."""
        return self.answer == other.answer and self.is_quick == other.is_quick

    def fail(self, error: Exception) -> None:
        """Answer by an error, unless it is answered."""
        if not self.result.done():
            self.result.set_exception(error)


class Batches:
    """A bounded queue before a few threads; its methods are called in the event loop alone.

    A batch is made of the oldest request that waits and of those that the same function answers. It starts
    once it is full, or its oldest request has waited for ``max_wait_ms``, and a thread is free. One that is
    known to be quick waits for no others and no thread, and is computed in the event loop itself: in a thread
    it would only take turns with the loop.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.observed: Callable[[int], None] = lambda _size: None
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="widemax-serve")
        self._free = settings.threads
        self._waiting: deque[_Job[Any]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False

    @property
    def depth(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def check_room(self) -> None:
        """Let a request in.

        Raises:
            QueueFullError: as many wait as may.
        """
        if self.depth >= self.settings.queue:
            raise QueueFullError(
                f"{self.depth} requests are waiting already, and no more may; try again later."
            )

    async def answer(
        self,
        answer: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        item: Item,
        *,
        size: int = 1,
        gone: Awaitable[Any] | None = None,
        pace: Pace | None = None,
    ) -> Result:
        """What the function answers for the item, or raises; it may be given others beside.

        Args:
            answer: takes items and gives an answer, or an error, for each.
            item: of the request.
            size: how many rows it counts for.
            gone: done once nobody waits for the answer any more.
            pace: of the function, for an item that takes no longer than others; without, it takes a thread.

        Raises:
            QueueFullError, TooLateError, GoneError: it was not computed.
        """
        self.check_room()
        loop = asyncio.get_running_loop()
        job = _Job(answer, item, size, pace, loop.time())
        self._waiting.append(job)
        self._dispatch_soon()
        late = loop.call_later(self.settings.timeout_s, self._give_up, job)
        watcher = None if gone is None else asyncio.ensure_future(gone)
        if watcher is not None:
            watcher.add_done_callback(lambda _: job.fail(GoneError("the client has gone.")))
        try:
            result: Result = await job.result
            return result
        finally:
            late.cancel()
            if watcher is not None:
                watcher.cancel()
            if job in self._waiting:
                self._waiting.remove(job)

    def close(self) -> None:
        """End the threads once they have answered."""
        self._pool.shutdown()

    def _give_up(self, job: _Job[Any]) -> None:
        if job in self._waiting:
            job.fail(
                TooLateError(f"the request has waited for {self.settings.timeout_s:g} s; try again later.")
            )

    def _dispatch_soon(self) -> None:
        """Start what can start once the requests that have arrived are in the queue."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._after_rounds, ROUNDS)

    def _after_rounds(self, rounds: int) -> None:
        """Start what can start after some rounds of the event loop."""
        if rounds:
            asyncio.get_running_loop().call_soon(self._after_rounds, rounds - 1)
        else:
            self._dispatch()

    def _dispatch(self) -> None:
        """Start what can start, and see to it that the rest starts in time."""
        self._is_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting = deque(job for job in self._waiting if not job.result.done())
        loop = asyncio.get_running_loop()
        while first := next((job for job in self._waiting if self._free or job.is_quick), None):
            starts = first.arrived + self.settings.max_wait_ms / 1000
            rows = sum(job.size for job in self._waiting if job.goes_with(first))
            if not first.is_quick and rows < self.settings.max_batch and loop.time() < starts:
                self._timer = loop.call_at(starts, self._dispatch)
                return
            batch = self._taken(first)
            self.observed(sum(job.size for job in batch))
            if first.is_quick:
                self._finish(batch, *_timed(batch))
                return  # to what has arrived meanwhile
            self._start(batch)

    def _taken(self, first: _Job[Any]) -> list[_Job[Any]]:
        """The jobs of a batch, which wait no longer."""
        batch: list[_Job[Any]] = []
        others: deque[_Job[Any]] = deque()
        rows = 0
        for job in self._waiting:
            fits = not batch or rows + job.size <= self.settings.max_batch
            if job.goes_with(first) and fits:
                batch.append(job)
                rows += job.size
            else:
                others.append(job)
        self._waiting = others
        return batch

    def _start(self, batch: list[_Job[Any]]) -> None:
        self._free -= 1
        running = asyncio.get_running_loop().run_in_executor(self._pool, _timed, batch)

        def ended(done: "asyncio.Future[tuple[Sequence[Any], float]]") -> None:
            self._free += 1
            self._finish(batch, *done.result())

        running.add_done_callback(ended)

    def _finish(self, batch: list[_Job[Any]], results: Sequence[Any], seconds: float) -> None:
        paces = [job.pace for job in batch if job.pace is not None]
        if len(paces) == len(batch):
            paces[0].note(seconds)
        for job, result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                job.fail(result)
            elif not job.result.done():
                job.result.set_result(result)
        self._dispatch_soon()


def _timed(batch: list[_Job[Any]]) -> tuple[Sequence[Any], float]:
    """The answers, and the seconds that this thread has computed for them."""
    begun = time.thread_time()
    results = _answers(batch[0].answer, [job.item for job in batch])
    return results, time.thread_time() - begun


def _answers(answer: Callable[[Sequence[Any]], Sequence[Any]], items: Sequence[Any]) -> Sequence[Any]:
    """The answers; where one item fails, the others are answered without it."""
    try:
        return answer(items)
    except Exception as error:
        return [error] if len(items) == 1 else [_answers(answer, [item])[0] for item in items]

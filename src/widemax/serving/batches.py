"""Requests that wait are answered together, and not more of them wait than can be answered in time."""

import asyncio
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


@dataclass(eq=False)
class _Job(Generic[Item]):
    answer: Callable[[Sequence[Item]], Sequence[Any]]
    item: Item
    size: int
    arrived: float
    result: "asyncio.Future[Any]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batches:
    """A bounded queue before a few threads; its methods are called in the event loop alone.

    A batch is made of the oldest request that waits and of those that the same function answers. It starts
    once it is full, or its oldest request has waited for ``max_wait_ms``, and a thread is free.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.observed: Callable[[int], None] = lambda _size: None
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="widemax-serve")
        self._free = settings.threads
        self._waiting: deque[_Job[Any]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def depth(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    async def answer(
        self,
        answer: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        item: Item,
        *,
        size: int = 1,
        gone: Awaitable[Any] | None = None,
    ) -> Result:
        """What the function answers for the item, or raises; it may be given others beside.

        Args:
            answer: takes items and gives an answer, or an error, for each.
            item: of the request.
            size: how many rows it counts for.
            gone: done once nobody waits for the answer any more.

        Raises:
            QueueFullError, TooLateError, GoneError: it was not computed.
        """
        if len(self._waiting) >= self.settings.queue:
            raise QueueFullError(
                f"{len(self._waiting)} requests are waiting already, and no more may; try again later."
            )
        loop = asyncio.get_running_loop()
        job = _Job(answer, item, size, loop.time())
        self._waiting.append(job)
        self._dispatch()
        watched: set[asyncio.Future[Any]] = {job.result}
        if gone is not None:
            watched.add(asyncio.ensure_future(gone))
        try:
            for timeout in (self.settings.timeout_s, None):
                done, _ = await asyncio.wait(watched, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                if not done and job in self._waiting:
                    raise TooLateError(f"the request has waited for {timeout:g} s; try again later.")
                if done:
                    break
            if not job.result.done():
                raise GoneError("the client has gone.")
            result: Result = job.result.result()
            return result
        finally:
            for future in watched:
                future.cancel()
            if job in self._waiting:
                self._waiting.remove(job)

    def close(self) -> None:
        """End the threads once they have answered."""
        self._pool.shutdown()

    def _dispatch(self) -> None:
        """Start what can start, and see to it that the rest starts in time."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._free and self._waiting:
            first = self._waiting[0]
            starts = first.arrived + self.settings.max_wait_ms / 1000
            rows = sum(job.size for job in self._waiting if job.answer == first.answer)
            if rows < self.settings.max_batch and loop.time() < starts:
                self._timer = loop.call_at(starts, self._dispatch)
                return
            self._start(self._taken(first))

    def _taken(self, first: _Job[Any]) -> list[_Job[Any]]:
        """The jobs of a batch, which wait no longer."""
        batch: list[_Job[Any]] = []
        others: deque[_Job[Any]] = deque()
        rows = 0
        for job in self._waiting:
            fits = not batch or rows + job.size <= self.settings.max_batch
            if job.answer == first.answer and fits:
                batch.append(job)
                rows += job.size
            else:
                others.append(job)
        self._waiting = others
        return batch

    def _start(self, batch: list[_Job[Any]]) -> None:
        self._free -= 1
        self.observed(sum(job.size for job in batch))
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._pool, _answers, batch[0].answer, [job.item for job in batch])
        running.add_done_callback(lambda done: self._finish(batch, done.result()))

    def _finish(self, batch: list[_Job[Any]], results: Sequence[Any]) -> None:
        self._free += 1
        for job, result in zip(batch, results, strict=True):
            if job.result.done():
                continue
            if isinstance(result, Exception):
                job.result.set_exception(result)
            else:
                job.result.set_result(result)
        self._dispatch()


def _answers(answer: Callable[[Sequence[Any]], Sequence[Any]], items: Sequence[Any]) -> Sequence[Any]:
    """The answers; where one item fails, the others are answered without it."""
    try:
        return answer(items)
    except Exception as error:
        return [error] if len(items) == 1 else [_answers(answer, [item])[0] for item in items]

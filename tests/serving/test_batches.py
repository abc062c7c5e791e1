"""What is answered together, and what is not answered at all."""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from widemax.serving.batches import QUICK_S, Batches, GoneError, Pace, QueueFullError, TooLateError
from widemax.serving.settings import Settings


class Work:
    """Squares numbers, once it is let, and remembers what was asked together."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: list[threading.Thread] = []
        self.let = threading.Event()
        self.let.set()

    def squares(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        self.threads.append(threading.current_thread())
        assert self.let.wait(10)
        if 13 in numbers:
            raise ValueError("13")
        return [number**2 for number in numbers]


def run(trial: Callable[[Batches, Work], Coroutine[Any, Any, None]], **settings: Any) -> None:
    async def whole() -> None:
        work, batches = Work(), Batches(Settings(**settings))
        try:
            await asyncio.wait_for(trial(batches, work), 20)
        finally:
            work.let.set()
            batches.close()

    asyncio.run(whole())


def test_requests_that_wait_are_answered_together_up_to_the_largest_batch() -> None:
    async def trial(batches: Batches, work: Work) -> None:
        answers = [batches.answer(work.squares, number) for number in range(10)]
        assert await asyncio.gather(*answers) == [number**2 for number in range(10)]
        assert work.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]

    run(trial, max_batch=4)


def test_what_has_come_is_read_before_a_batch_starts() -> None:
    async def trial(batches: Batches, work: Work) -> None:
        loop, tasks = asyncio.get_running_loop(), list[asyncio.Task[int]]()
        ours, theirs = socket.socketpair()

        def read() -> None:
            number = ours.recv(1)[0]
            tasks.append(loop.create_task(batches.answer(work.squares, number, pace=Pace(0.0))))

        with ours, theirs:
            loop.add_reader(ours, read)
            theirs.send(bytes([2]))
            assert await batches.answer(work.squares, 1, pace=Pace(0.0)) == 1
            loop.remove_reader(ours)
        assert await tasks[0] == 4
        assert work.batches == [[1, 2]]

    run(trial)


def test_a_batch_counts_rows_and_takes_a_larger_request_alone() -> None:
    async def trial(batches: Batches, work: Work) -> None:
        sizes = [3, 1, 9, 2]
        await asyncio.gather(*(batches.answer(work.squares, size, size=size) for size in sizes))
        assert work.batches == [[3, 1], [9], [2]]

    run(trial, max_batch=4)


def test_what_other_functions_answer_is_not_mixed() -> None:
    async def trial(batches: Batches, work: Work) -> None:
        other = Work()
        asked = [(work, 1), (other, 2), (work, 3)]
        await asyncio.gather(*(batches.answer(whose.squares, number) for whose, number in asked))
        assert (work.batches, other.batches) == ([[1, 3]], [[2]])

    run(trial, max_batch=2)


def test_a_bad_request_takes_no_other_along() -> None:
    async def trial(batches: Batches, work: Work) -> None:
        answers = (batches.answer(work.squares, number) for number in (12, 13, 14))
        first, second, third = await asyncio.gather(*answers, return_exceptions=True)
        assert (first, str(second), third) == (144, "13", 196)

    run(trial)


def test_a_full_queue_refuses_and_recovers() -> None:
    async def trial(batches: Batches, work: Work) -> None:
        work.let.clear()
        running = asyncio.create_task(batches.answer(work.squares, 0))
        await asyncio.sleep(0.05)
        waiting = [asyncio.create_task(batches.answer(work.squares, number)) for number in (1, 2)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError, match="2 requests are waiting already"):
            await batches.answer(work.squares, 3)
        work.let.set()
        assert await asyncio.gather(running, *waiting) == [0, 1, 4]
        assert await batches.answer(work.squares, 3) == 9

    run(trial, queue=2)


def test_nothing_is_computed_for_a_client_that_has_gone() -> None:
    async def trial(batches: Batches, work: Work) -> None:
        work.let.clear()
        running = asyncio.create_task(batches.answer(work.squares, 0))
        await asyncio.sleep(0.05)
        gone = asyncio.Event()
        left = asyncio.create_task(batches.answer(work.squares, 1, gone=gone.wait()))
        stays = asyncio.create_task(batches.answer(work.squares, 2, gone=asyncio.sleep(60)))
        await asyncio.sleep(0)
        gone.set()
        with pytest.raises(GoneError):
            await left
        work.let.set()
        assert await asyncio.gather(running, stays) == [0, 4]
        assert work.batches == [[0], [2]]

    run(trial)


def test_what_has_waited_for_too_long_is_given_up() -> None:
    async def trial(batches: Batches, work: Work) -> None:
        work.let.clear()
        running = asyncio.create_task(batches.answer(work.squares, 0))
        await asyncio.sleep(0.05)
        late = asyncio.create_task(batches.answer(work.squares, 1))
        with pytest.raises(TooLateError, match=r"has waited for 0\.1 s"):
            await late
        work.let.set()
        assert await running == 0
        assert work.batches == [[0]]

    run(trial, timeout_s=0.1)


def test_what_is_quick_is_computed_at_once_and_together_in_the_loop() -> None:
    async def trial(batches: Batches, work: Work) -> None:
        pace = Pace()
        assert await batches.answer(work.squares, 1, pace=pace) == 1  # which nothing is known of yet
        assert pace.expected_s < QUICK_S
        answers = [batches.answer(work.squares, number, pace=pace) for number in (2, 3, 13)]
        assert (await asyncio.gather(*answers, return_exceptions=True))[:2] == [4, 9]
        assert work.batches[:2] == [[1], [2, 3, 13]]
        in_loop = [thread is threading.current_thread() for thread in work.threads]
        assert in_loop == [False] + [True] * (len(in_loop) - 1)
        assert await batches.answer(work.squares, 4) == 16
        assert work.threads[-1] is not threading.current_thread()

    run(trial, max_wait_ms=0)


def test_what_is_quick_does_not_wait_for_what_takes_long() -> None:
    async def trial(batches: Batches, work: Work) -> None:
        work.let.clear()
        pace, quick = Pace(0.0), Work()
        running = asyncio.create_task(batches.answer(work.squares, 2))
        waiting = asyncio.create_task(batches.answer(work.squares, 3))
        await asyncio.sleep(0.05)
        large = asyncio.create_task(batches.answer(quick.squares, 5))
        assert await batches.answer(quick.squares, 4, pace=pace) == 16
        work.let.set()
        assert await asyncio.gather(running, waiting, large) == [4, 9, 25]
        assert quick.batches == [[4], [5]]

    run(trial, max_batch=1)


def test_what_takes_long_is_computed_in_a_thread() -> None:
    async def trial(batches: Batches, work: Work) -> None:
        pace = Pace()
        pace.note(2 * QUICK_S)
        assert await batches.answer(work.squares, 2, pace=pace) == 4
        assert work.threads[0] is not threading.current_thread()
        assert pace.expected_s < 2 * QUICK_S

    run(trial)


def test_the_event_loop_lives_while_quick_answers_follow_one_another() -> None:
    async def trial(batches: Batches, work: Work) -> None:
        pace = Pace(0.0)
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        turning = asyncio.create_task(turn())
        await asyncio.gather(*(batches.answer(work.squares, number, pace=pace) for number in range(20, 40)))
        turning.cancel()
        assert len(work.batches) == 20
        assert turns > 20

    run(trial, max_batch=1)

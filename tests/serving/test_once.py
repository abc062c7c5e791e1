"""What is computed once for an owner."""

import gc
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from weakref import ref

import pytest

from widemax.serving.once import once


class Owner:
    pass


def test_several_threads_get_the_result_of_one() -> None:
    computed: list[Owner] = []
    barrier = Barrier(4)

    @once
    def told(owner: Owner) -> object:
        computed.append(owner)
        time.sleep(0.05)
        return object()

    def ask(owner: Owner) -> object:
        barrier.wait(10)
        return told(owner)

    owner, other = Owner(), Owner()
    with ThreadPoolExecutor(4) as pool:
        assert len({*pool.map(ask, [owner] * 4)}) == 1
    assert told(other) is not told(owner)
    assert computed == [owner, other]


def test_a_result_goes_with_its_owner() -> None:
    class Result:
        pass

    told = once(lambda _owner: Result())
    owner = Owner()
    kept = ref(told(owner))
    gc.collect()
    assert kept() is told(owner)
    del owner
    gc.collect()
    assert kept() is None


def test_what_fails_is_tried_again() -> None:
    @once
    def told(owner: Owner) -> int:
        raise ValueError(id(owner))

    owner = Owner()
    for _ in range(2):
        with pytest.raises(ValueError, match=str(id(owner))):
            told(owner)

"""Small steps take one thread; whatever a block took, the process has its threads back afterwards."""

import pytest
import torch

from widemax.threads import WORTH_THREADS, threads_for, using_threads


def test_a_small_step_takes_one_thread_and_a_large_one_all() -> None:
    with using_threads(3):
        assert threads_for(WORTH_THREADS / 2) == 1
        assert threads_for(WORTH_THREADS) == 3


def test_the_threads_are_put_back_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), using_threads(before + 1):
        _ = 1 / (torch.get_num_threads() - before - 1)
    assert torch.get_num_threads() == before

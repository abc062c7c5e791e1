"""A process that keeps its freed memory touches no new pages; by default it does. Huge pages are fewer."""

import resource
import sys
from pathlib import Path

import pytest
import torch
from tests.forked import answer_of

from widemax.kernels import keep_freed_memory
from widemax.kernels.memory import in_huge_pages


def new_pages():
    """How many pages are touched for the first time by what is filled after some practice."""

    def fill():
        torch.zeros(48, 2**20, dtype=torch.uint8)

    for _ in range(5):
        fill()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        fill()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def pages_by_default_and_kept():
    by_default = new_pages()
    keep_freed_memory()
    return by_default, new_pages()


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc's malloc can be told")
def test_freed_memory_is_used_again():
    if not keep_freed_memory():
        pytest.skip("this C library is not glibc")
    by_default, kept = answer_of(pages_by_default_and_kept)
    assert kept < 0.5 * by_default  # a block in three may still be new, where another one lies between


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert keep_freed_memory() is False


HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def new_pages_of_small_and_huge():
    def new_pages_of(room):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        room.fill_(1)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    small, huge = (new_pages_of(takes(torch.empty(2**24))) for takes in (lambda room: room, in_huge_pages))
    return small, huge


@pytest.mark.skipif(
    not HUGE_PAGES.exists() or "[never]" in HUGE_PAGES.read_text(), reason="the system gives no huge pages"
)
def test_huge_pages_are_fewer():
    small, huge = answer_of(new_pages_of_small_and_huge)  # no test before has kept memory there
    assert huge < small / 2


def test_no_system_but_linux_is_asked(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    room = torch.ones(2**20)
    assert in_huge_pages(room) is room

"""A process that keeps its freed memory touches no new pages; by default it does."""

import subprocess
import sys

import pytest

from widemax.kernels import keep_freed_memory

FAULTS = """
import resource, torch
from widemax.kernels import keep_freed_memory

def new_pages():
    def fill(): torch.zeros(48, 2**20, dtype=torch.uint8)
    for _ in range(20): fill()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10): fill()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

by_default = new_pages()
keep_freed_memory()
print(by_default, new_pages())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc's malloc can be told")
def test_freed_memory_is_used_again():
    if not keep_freed_memory():
        pytest.skip("this C library is not glibc")
    by_default, kept = map(int, subprocess.check_output([sys.executable, "-c", FAULTS], text=True).split())
    assert kept < 0.1 * by_default


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert keep_freed_memory() is False

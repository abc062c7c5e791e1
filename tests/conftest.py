"""What every test shares."""

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Generator
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

# Before torch is imported: the tests share the cores among workers, so each has one thread, and none spins.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
# Nor does a test see more of the compiled kernels than it asks for; WIDEMAX_NATIVE=1 gives them to all.
os.environ.setdefault("WIDEMAX_NATIVE", "0")

import pytest
from hypothesis import settings
from tests.forked import CONTEXT

# Tests start hundreds of processes: without bytecode kept, each would compile the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Tests save hundreds of runs, and a disk is waited for dozens of times a run: memory serves, if it has
# room and what is compiled may be executed there.
MEMORY = "/dev/shm"
if "TMPDIR" not in os.environ and os.path.isdir(MEMORY):
    place = os.statvfs(MEMORY)
    if place.f_bavail * place.f_frsize > 4 << 30 and not place.f_flag & os.ST_NOEXEC:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = MEMORY  # where folders of tests that fail stay
        tempfile.tempdir = os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="widemax-tests-", dir=MEMORY)
        # After multiprocessing has removed its own folder there, which has the priority -100.
        Finalize(None, shutil.rmtree, (tempfile.tempdir,), exitpriority=-200)

# No test writes into the home folder; workers inherit the cache of the process that starts them.
CACHE = tempfile.TemporaryDirectory(prefix="widemax-cache-")
os.environ.setdefault("WIDEMAX_CACHE", CACHE.name)

REPOSITORY = Path(__file__).resolve().parents[1]

# The same examples each time, so that what failed fails again; nothing is timed, and nothing remembered.
for name, max_examples in (("quick", 25), ("thorough", 200)):
    settings.register_profile(name, deadline=None, derandomize=True, database=None, max_examples=max_examples)
settings.load_profile("quick")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is loaded for all tests stays, and is not looked through for garbage again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each process begins with its slow tests: one that it comes to last keeps the others waiting."""
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = [item for item in items if not item.get_closest_marker("slow")]
    number = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    # xdist gives each process as many tests as the others, in their order.
    ends = [len(quick) * share // number for share in range(number + 1)]
    items[:] = [
        item
        for share in range(number)
        for item in (*slow[share::number], *quick[ends[share] : ends[share + 1]])
    ]


@pytest.fixture(params=["torch", "native"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test runs without the compiled kernels and with them."""
    from widemax import native

    state = native.library()[1]
    if request.param == "native" and state != "used":
        pytest.skip(f"the compiled kernels are {state}; make native")
    monkeypatch.setenv("WIDEMAX_NATIVE", "1" if request.param == "native" else "0")


@pytest.fixture(scope="session")
def widemax_data() -> Path:
    """The folder of real data sets; tests that need it are skipped without it."""
    folder = Path(os.environ.setdefault("WIDEMAX_DATA", str(REPOSITORY.parent / "shared" / "data")))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is absent; set WIDEMAX_DATA")
    return folder


@pytest.fixture(scope="session")
def processes() -> Any:
    """Makes processes that share nothing with this one, but begin at once: what trains is loaded for all."""
    return CONTEXT

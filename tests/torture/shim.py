"""The library that is loaded ahead of the C library: the n-th operation that changes a folder goes wrong.

It is built from ``shim.c``, for which gcc is needed, and meets the writes of Python, Arrow and safetensors.
"""

import ctypes
import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
CREATE, WRITE, PLACE, REMOVE, FLUSH, OPEN = (1 << bit for bit in range(6))
COUNT, ONCE, FROM, KILL = range(4)
FULL, ALL = CREATE | WRITE | PLACE | FLUSH, CREATE | WRITE | PLACE | REMOVE | FLUSH


@dataclass(frozen=True)
class Fault:
    """What goes wrong: which kinds of operations fail, once or from the n-th on, and with which errno."""

    kinds: int
    way: int
    code: int = 0


FAULTS = {
    "ENOSPC": Fault(FULL, FROM, errno.ENOSPC),
    "EDQUOT": Fault(FULL, FROM, errno.EDQUOT),
    "EFBIG": Fault(WRITE, FROM, errno.EFBIG),
    "EROFS": Fault(CREATE | PLACE | REMOVE, FROM, errno.EROFS),
    "EACCES": Fault(CREATE | PLACE | REMOVE, FROM, errno.EACCES),
    "EMFILE": Fault(CREATE | OPEN, FROM, errno.EMFILE),
    "EIO": Fault(ALL, FROM, errno.EIO),
    "EIO once": Fault(ALL, ONCE, errno.EIO),
    "kill": Fault(ALL, KILL),
}


def loaded_ahead(module: str) -> int | None:
    """Run this command once more with the library, and give its exit code; None where it has been loaded."""
    if "LD_PRELOAD" in os.environ:
        return None
    with tempfile.TemporaryDirectory(prefix="widemax-shim-") as folder:
        library = f"{folder}/shim.so"
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", library, str(SOURCE), "-ldl"], check=True)
        again = [sys.executable, "-m", module, *sys.argv[1:]]
        return subprocess.run(again, env=os.environ | {"LD_PRELOAD": library}, check=False).returncode


def fork() -> int:
    """``os.fork``, after which the new process and those that it forks count by themselves."""
    pid = os.fork()
    if not pid:
        ctypes.CDLL(None).fault_share()
    return pid


def armed(folder: Path, fault: Fault, number: int) -> Callable[[], None]:
    """For ``before``: the n-th operation below a folder goes wrong in the process that calls it."""
    given = os.fsencode(folder), fault.kinds, ctypes.c_long(number), fault.code, fault.way
    return lambda: ctypes.CDLL(None).fault_arm(*given)


def counting(folder: Path) -> Callable[[], None]:
    """For ``before``: operations are counted, and none goes wrong."""
    return armed(folder, Fault(ALL, COUNT), 0)


def seen() -> int:
    """How many operations the process made that was armed last."""
    return int(ctypes.CDLL(None).fault_seen())

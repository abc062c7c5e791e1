"""What this machine computes and moves a second: measured once, then kept in the cache folder.

The planner chooses by these constants, so the same data and config lead to the same choice until the file
is deleted, whatever else runs on the machine.
"""

import json
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from widemax.storage import cache_folder, write_file
from widemax.threads import using_threads

MEASURED_S = 0.3


@dataclass(frozen=True)
class Machine:
    """Speeds of one thread.

    Args:
        flops_per_s: float32 operations a second of a matrix product of a head's shape.
        bytes_per_s: bytes read and written a second by a copy too large for the cache.
    """

    flops_per_s: float
    bytes_per_s: float


def machine_file() -> Path:
    """Where the constants are kept; delete it to have them measured again."""
    return cache_folder() / "machine.json"


def this_machine() -> Machine:
    """The constants kept for this processor and torch; measured now, and kept where that can be written."""
    path, key = machine_file(), f"{_processor()}, torch {torch.__version__}"
    kept: dict[str, dict[str, float]] = {}
    with suppress(OSError, ValueError, TypeError, KeyError):
        kept = dict(json.loads(path.read_text(encoding="utf-8")))
        return Machine(**kept[key])
    measured = measure_machine()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps(kept | {key: asdict(measured)}, indent=2) + "\n")
    return measured


def measure_machine() -> Machine:
    """The speeds of the shortest of many runs of some milliseconds each: other work delays most, but not all.

    Example:
        >>> measure_machine().flops_per_s > 0
        True
    """
    with using_threads(1), torch.no_grad():
        hidden_BD, weight_WD = torch.ones(256, 128), torch.ones(2048, 128)
        source, copy = torch.zeros(2**22), torch.zeros(2**22)
        flops, moved_bytes = 2 * hidden_BD.numel() * len(weight_WD), 2 * source.nbytes
        return Machine(
            flops_per_s=_rounded(flops / _shortest(lambda: hidden_BD @ weight_WD.T)),
            bytes_per_s=_rounded(moved_bytes / _shortest(lambda: copy.copy_(source))),
        )


def _shortest(action: Callable[[], object]) -> float:
    end = time.perf_counter() + MEASURED_S
    shortest = float("inf")
    while shortest == float("inf") or time.perf_counter() < end:
        started = time.perf_counter()
        action()
        shortest = min(shortest, time.perf_counter() - started)
    return shortest


def _rounded(speed: float) -> float:
    """Two digits: a measurement knows no more."""
    return float(f"{speed:.1e}")


def _processor() -> str:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()

"""Runs every benchmark of this folder in a process of its own, and prints a table of ratios and their floors.

python -m benchmarks [--quick] [NAME ...]
"""

import ast
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import is_quick, run_fresh


def names() -> list[str]:
    """The modules of this folder that define ``main``."""
    files = sorted(path for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))
    return [path.stem for path in files if _defines_main(path)]


def _defines_main(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)


def run_all(chosen: Sequence[str]) -> int:
    """Runs the chosen benchmarks, all where none is named; the number that failed."""
    failures = 0
    print(f"{'benchmark':<28}  {'seconds':>8}  {'ratio':>8}  {'floor':>8}  result")
    for name in chosen or names():
        started = time.perf_counter()
        try:
            summary = run_fresh(f"benchmarks.{name}", *(["--quick"] if is_quick() else []))
        except RuntimeError as error:
            failures += 1
            summary = {"failed": str(error)}
        ratio, floor = (_shown(summary.pop(name, None)) for name in ("ratio", "floor"))
        rest = ", ".join(f"{key}={value}" for key, value in summary.items() if key != "benchmark")
        print(
            f"{name:<28}  {time.perf_counter() - started:>8.1f}  {ratio:>8}  {floor:>8}  {rest}", flush=True
        )
    return failures


def _shown(number: float | None) -> str:
    return "" if number is None else f"{number:.3g}"


if __name__ == "__main__":
    sys.exit(1 if run_all([argument for argument in sys.argv[1:] if argument != "--quick"]) else 0)

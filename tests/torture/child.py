"""One verb in a process of its own that inherits the loaded libraries, so that thousands can be tried."""

import contextlib
import fcntl
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

LIMIT_S = 300
DOCUMENTED = {0, 2, 3, 4, 5, 130}
"""Exit codes of the command line (see ``widemax.errors``)."""


def load() -> None:
    """The libraries that every child inherits."""
    import pyarrow
    import scipy.optimize  # noqa: F401 - half of the time of a small training
    import torch

    for name in ("artifact", "cli", "evaluation.report", "training.evaluate", "training.loop"):
        import_module(f"widemax.{name}")
    torch.set_num_threads(1)
    pyarrow.array([])


@dataclass
class Ended:
    """How a process ended: its exit code, or less than 0 for a signal, and what it wrote."""

    code: int
    out: str
    err: str

    def wrong(self, *allowed: int) -> str | None:
        """Why this is no proper end, if so; ``allowed`` are the codes expected, by default all documented."""
        if self.code == -signal.SIGALRM:
            return f"still running after {LIMIT_S} s"
        if "Traceback" in self.err:
            return "a traceback: " + self.err.strip().splitlines()[-1]
        if self.code in (2, 3, 4, 5) and not self.err.strip():
            return f"exit code {self.code} without a sentence"
        if self.code in (allowed or DOCUMENTED):
            return None
        if self.code < 0:
            return f"died by {signal.Signals(-self.code).name}"
        return f"exit code {self.code}: {self.err.strip()[-300:]}"


@dataclass
class Child:
    """A verb that runs."""

    pid: int
    out: Path
    err: int
    peak_bytes: int = 0

    def signal(self, number: int) -> None:
        """Send a signal; a process that has ended does not mind."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self) -> Ended:
        """Wait for the end; a verb that hangs is stopped by its own alarm."""
        _, status, usage = os.wait4(self.pid, 0)
        self.peak_bytes = 1024 * usage.ru_maxrss
        code = os.waitstatus_to_exitcode(status)
        with open(self.err, encoding="utf-8", errors="replace") as err:
            return Ended(code, self.out.read_text(encoding="utf-8", errors="replace"), err.read())


def start(
    folder: Path, *arguments: object, before: Callable[[], None] | None = None, stdin: str = ""
) -> Child:
    """Begin ``widemax arguments`` in ``folder``; ``before`` runs in the process, ahead of the verb."""
    number = time.monotonic_ns()
    out, given = (folder.parent / f".{number}.{name}" for name in ("out", "in"))
    given.write_text(stdin, encoding="utf-8")
    out.touch()  # here, since the process may be killed before it has begun
    # What is said goes through a pipe, which holds it until the end, and which no limit on files cuts.
    said, saying = os.pipe()
    fcntl.fcntl(saying, fcntl.F_SETPIPE_SZ, 1 << 20)
    pid = os.fork()
    if pid:
        os.close(saying)
        return Child(pid, out, said)
    code = 1
    try:
        os.chdir(folder)
        ends = (os.open(given, os.O_RDONLY), os.open(out, os.O_RDWR), saying)
        for target, end in enumerate(ends):
            os.dup2(end, target)
            os.close(end)
        os.close(said)
        sys.stdin, sys.stdout, sys.stderr = (
            open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            for number, mode in ((0, "r"), (1, "w"), (2, "w"))
        )
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.alarm(LIMIT_S)
        if before:
            before()
        code = run(*map(str, arguments))
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(code)


def run(*arguments: str) -> int:
    """The command line in this process, as ``python -m widemax`` runs it."""
    from widemax.cli import main

    sys.argv = ["widemax", *arguments]
    try:
        main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def widemax(
    folder: Path, *arguments: object, before: Callable[[], None] | None = None, stdin: str = ""
) -> Ended:
    """Run ``widemax arguments`` in ``folder`` to its end."""
    return start(folder, *arguments, before=before, stdin=stdin).wait()


def each(folder: Path, tries: Sequence[Callable[[], str | None]]) -> list[str | None]:
    """What is wrong with each of many short tries, in one process while it lives and another when it dies."""
    found: list[str | None] = []
    notes = folder.parent / ".each"
    while len(found) < len(tries):
        notes.write_bytes(b"")
        pid = os.fork()
        if not pid:
            with notes.open("a", encoding="utf-8") as file:
                for one in tries[len(found) :]:
                    signal.alarm(LIMIT_S)
                    try:
                        wrong = one()
                    except BaseException as error:
                        wrong = f"{type(error).__name__}: {error}"
                    file.write(json.dumps(wrong) + "\n")
                    file.flush()
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        found += [json.loads(line) for line in notes.read_text(encoding="utf-8").splitlines()]
        if code < 0 and len(found) < len(tries):
            found.append(f"died by {signal.Signals(-code).name}")
    return found


def value(folder: Path, of: Callable[[], str]) -> str:
    """What a function gives in a process of its own."""
    path = folder.parent / ".value"
    found = each(folder, [lambda: str(path.write_text(of(), encoding="utf-8")) and None])
    assert found == [None], found
    return path.read_text(encoding="utf-8")

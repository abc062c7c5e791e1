"""Processes of their own that begin at once: each is forked from one that has loaded widemax."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["widemax.cli", "widemax.training.loop", "widemax.serving.studio", "uvicorn", "tests.distributed.ranks"]
)


def answer_of(function: Callable[..., Any], *arguments: object) -> Any:
    """What a function of a module gives in a process that does nothing else."""
    with ProcessPoolExecutor(1, mp_context=CONTEXT) as pool:
        return pool.submit(function, *arguments).result()


class Command:
    """``widemax ARGUMENTS`` with pipes to its standard streams, by the names of :class:`subprocess.Popen`.

    What is added to its environment must not stand in that of this process: the one that all are forked from,
    which the first of them starts, would keep it.
    """

    def __init__(self, *arguments: object, **environment: str) -> None:
        (inner_in, stdin), (stdout, inner_out), (stderr, inner_err) = (
            CONTEXT.Pipe(duplex=False) for _ in range(3)
        )
        inner, outer = (inner_in, inner_out, inner_err), (stdin, stdout, stderr)
        self.process = CONTEXT.Process(
            target=be_widemax,
            args=(inner, list(map(str, arguments)), Path.cwd(), os.environ | environment),
            daemon=True,
        )
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid
        self.stdin, self.stdout, self.stderr = (
            os.fdopen(os.dup(end.fileno()), mode, encoding="utf-8")
            for end, mode in zip(outer, "wrr", strict=True)
        )
        for end in (*inner, *outer):
            end.close()

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self.process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("widemax", timeout or 0)
        return code

    def send_signal(self, how: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, how)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """The exit code after a signal, or after a kill where that does not end it within a minute."""
        self.send_signal(how)
        try:
            return self.wait(60)
        finally:
            self.send_signal(signal.SIGKILL)
            for stream in (self.stdin, self.stdout, self.stderr):
                stream.close()


def be_widemax(
    ends: tuple[Connection, ...], arguments: list[str], folder: Path, environment: dict[str, str]
) -> None:
    from widemax.cli import main

    for place, end in enumerate(ends):
        os.dup2(end.fileno(), place)
        end.close()
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["widemax", *arguments]
    main()

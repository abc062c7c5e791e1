"""Several processes of one verb on this machine: started, watched, and started again when one has died."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import typer

from widemax.errors import PeerError, counted, visible

FAILURE = "WIDEMAX_FAILURE"
"""Where a process writes the sentence it fails with, rather than beside those of the others."""
INTERRUPTED = 130
LOOK_S = 0.05
# How long a process may take to find that another is gone, before it is killed.
PATIENCE_S = 5.0


def is_worker() -> bool:
    """Whether this process is one of several that were started together, here or by torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first() -> bool:
    """Whether this process is the one of them that speaks."""
    return os.environ.get("RANK", "0") == "0"


def answer_in_several(workers: int | None) -> None:
    """Start the verb at hand in so many processes, if several are asked for, and exit when they are done."""
    if workers is not None and workers > 1 and not is_worker():
        run_workers(sys.argv[1:], workers=workers, max_restarts=0)


def end_with_starter() -> None:
    """Save and end where the process that has started this one is gone, as its end of stdin closes then."""

    def wait() -> None:
        os.read(0, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    if FAILURE in os.environ:
        threading.Thread(target=wait, daemon=True).start()


def run_workers(arguments: Sequence[str], *, workers: int, max_restarts: int) -> None:
    """Run a verb in several processes until all are done; exits with their code.

    When one dies, the others are ended, and all are started again: training goes on from its last checkpoint.
    An error with a sentence of its own, which would only be met again, ends all at once.
    """
    stopped: list[int] = []
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        asked = getattr(signal, name, None)
        if asked is not None and signal.getsignal(asked) is not signal.SIG_IGN:
            signal.signal(asked, lambda number, frame: stopped.append(number))
    for restart in range(max_restarts + 1):
        with tempfile.TemporaryDirectory(prefix="widemax-workers-") as folder:
            code, cause = _Attempt(arguments, workers, restart, Path(folder)).wait(stopped)
        if not cause:
            raise typer.Exit(code)
        left = max_restarts - restart
        if code in range(2, PeerError.exit_code) or stopped or not left:
            typer.echo(f"error: {visible(cause)}", err=True)
            raise typer.Exit(code if code > 0 else 1)
        typer.echo(
            f"{visible(cause)}\nstarting all {workers} again from the last checkpoint "
            f"({counted(left - 1, 'restart')} left)",
            err=True,
        )


class _Attempt:
    """Processes that run until all are done or one has failed."""

    def __init__(self, arguments: Sequence[str], workers: int, restart: int, folder: Path) -> None:
        self.folder = folder
        shared = {
            "WORLD_SIZE": str(workers),
            "WIDEMAX_RENDEZVOUS": f"file://{folder / 'rendezvous'}",
            "TORCHELASTIC_RESTART_COUNT": str(restart),
            # As many threads as cores, in all.
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS")
            or str(max(1, len(os.sched_getaffinity(0)) // workers) if sys.platform == "linux" else 1),
        }
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "widemax", *arguments],
                env={**os.environ, **shared, "RANK": str(rank), FAILURE: str(self.failure(rank))},
                stdin=subprocess.PIPE,
                stdout=None if rank == 0 else subprocess.DEVNULL,
                start_new_session=True,  # signals of the terminal are passed on, once
            )
            for rank in range(workers)
        ]

    def failure(self, rank: int) -> Path:
        """Where a process says why it failed."""
        return self.folder / f"failure-{rank}"

    def wait(self, stopped: Sequence[int]) -> tuple[int, str]:
        """The exit code of the first process to fail, and a sentence why; nothing where all end well."""
        passed_on = 0
        codes: dict[int, int] = {}
        given_up: set[int] = set()
        deadline = float("inf")
        while len(codes) < len(self.processes):
            for number in stopped[passed_on:]:
                passed_on += 1
                for process in self.processes:
                    process.send_signal(number)
            for rank, process in enumerate(self.processes):
                if rank not in codes and (code := process.poll()) is not None:
                    codes[rank] = code
                    if code not in (0, INTERRUPTED) and deadline == float("inf"):
                        deadline = time.monotonic() + PATIENCE_S
            if time.monotonic() > deadline:
                given_up |= set(range(len(self.processes))) - codes.keys()
                for rank in given_up:
                    self.processes[rank].kill()
            time.sleep(LOOK_S)
        failed = {rank: code for rank, code in codes.items() if code not in (0, INTERRUPTED)}
        if stopped and INTERRUPTED in codes.values():
            return INTERRUPTED, ""
        if not failed:
            return 0, ""

        def follows(rank: int) -> int:
            """A death by itself comes first; missing another one, or being killed for it, comes last."""
            return 2 if rank in given_up or failed[rank] == PeerError.exit_code else int(failed[rank] > 0)

        # What one that misses another removes is then missed by a third, with a sentence of its own.
        rank = min(failed, key=follows)
        return failed[rank], self._cause(rank, failed)

    def _cause(self, rank: int, failed: dict[int, int]) -> str:
        code = failed[rank]
        path = self.failure(rank)
        if path.is_file():
            said = path.read_text(encoding="utf-8")
        elif code < 0:
            said = f"killed by signal {-code} ({signal.Signals(-code).name})"
        else:
            said = f"ended with exit code {code}; what it wrote stands above"
        others = sorted(set(range(len(self.processes))) - {rank})
        told = ", ".join(map(str, others))
        return f"process {rank}: {said.rstrip('.')}. Process {told} ended with it." if others else said

"""What a person sees while a model trains: a live line on a terminal, elsewhere a plain one now and then."""

import sys
import time
from contextlib import suppress
from typing import Protocol, Self, TextIO, runtime_checkable

from widemax.errors import visible

PLAIN_EVERY_S = 5.0


@runtime_checkable
class Reporter(Protocol):
    """Where training tells how it goes; everything is written to stderr."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def say(self, sentence: str) -> None:
        """A lasting line."""
        ...

    def step(self, step: int, total_steps: int, loss: float | None, rows_per_s: float) -> None:
        """The state after a step; shown now and then."""
        ...


class PlainReporter(Reporter):
    """One plain line every few seconds, to stderr by default, or nothing at all."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self.stream = stream or sys.stderr
        self.quiet = quiet
        self._last = time.monotonic()

    def say(self, sentence: str) -> None:
        if not self.quiet:
            self.stream.write(visible(sentence) + "\n")
            self.stream.flush()

    def step(self, step: int, total_steps: int, loss: float | None, rows_per_s: float) -> None:
        if time.monotonic() - self._last >= PLAIN_EVERY_S:
            self._last = time.monotonic()
            self.say(f"step {step}/{total_steps}{shown_loss(loss)}  {rows_per_s:,.0f} rows/s")


class RichReporter(Reporter):
    """A live progress bar on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("training", total=None, visible=False, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def say(self, sentence: str) -> None:
        with suppress(OSError):  # a terminal that is gone, whose signal asks to save and stop
            self._progress.console.print(visible(sentence), markup=False, highlight=False)

    def step(self, step: int, total_steps: int, loss: float | None, rows_per_s: float) -> None:
        note = f"{shown_loss(loss)}  {rows_per_s:,.0f} rows/s".lstrip()
        self._progress.update(self._task, completed=step, total=total_steps, note=note, visible=True)


def shown_loss(loss: float | None) -> str:
    """A loss as a further column, where there is one."""
    return "" if loss is None else f"  loss {loss:.4f}"


def reporter_for_terminal() -> Reporter:
    """The live reporter on a terminal, the plain one anywhere else."""
    return RichReporter() if sys.stderr.isatty() else PlainReporter()

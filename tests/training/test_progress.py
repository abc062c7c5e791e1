"""What is told about a run goes to stderr, on a terminal as a live line, elsewhere as plain ones."""

import io
import sys

import pytest

from widemax.training import progress
from widemax.training.progress import PlainReporter, RichReporter, reporter_for_terminal


def test_plain_lines_come_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock)
    stream = io.StringIO()
    with PlainReporter(stream) as reporter:
        reporter.say("reading rows.csv")
        for step in range(1, 8):
            clock += 2.0
            reporter.step(step, 9, 0.123456, 12345.6)
    assert stream.getvalue().splitlines() == [
        "reading rows.csv",
        "step 3/9  loss 0.1235  12,346 rows/s",
        "step 6/9  loss 0.1235  12,346 rows/s",
    ]


def test_quiet_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.0)
    stream = io.StringIO()
    with PlainReporter(stream, quiet=True) as reporter:
        reporter.say("anything")
        reporter.step(1, 2, 0.5, 10.0)
    assert stream.getvalue() == ""


def test_the_live_line_leaves_stdout_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with RichReporter() as reporter:
        reporter.say("[not markup] 12 rows")
        reporter.step(1, 2, 0.5, 10.0)
    out, err = capsys.readouterr()
    assert out == ""
    assert "[not markup] 12 rows" in err


@pytest.mark.parametrize(("terminal", "kind"), [(True, RichReporter), (False, PlainReporter)])
def test_the_terminal_decides(monkeypatch: pytest.MonkeyPatch, terminal: bool, kind: type) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert type(reporter_for_terminal()) is kind

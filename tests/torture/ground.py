"""What the campaigns stand on: two small data sets, the runs they make, and the answers those runs give."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.child import Child, Ended, start
from tests.torture.shim import FAULTS, armed, counting, seen

TRAIN = ["--target", "label", "--out", "run", "--set", "train.epochs=3", "--set", "train.seed=1"]
QUESTIONS = [{"text": f"row {n} word{n}"} for n in range(12)]


@dataclass
class Attempt:
    """One thing tried; ``wrong`` says what was not as promised."""

    what: str
    wrong: str | None = None


Campaign = Callable[["Ground"], Iterator[Attempt]]


@dataclass
class Ground:
    """A folder of its own for each attempt, and what is right.

    Attributes:
        home: holds the reference runs.
        random: what the attempts are drawn from.
        folder: where the attempt that runs is made; kept when it goes wrong.
        log: the commands of the attempt, with their ends.
    """

    home: Path
    random: random.Random
    folder: Path = field(init=False)
    log: list[str] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True)
        for name, labels in (("old", "abc"), ("new", "bcda")):
            self.folder = self.home / name
            self.folder.mkdir()
            rows = [f"row {n % 7} word{n % 11},{labels[n % len(labels)]}\n" for n in range(80)]
            (self.folder / "a.csv").write_text("text,label\n" + "".join(rows), encoding="utf-8")
            lines = "".join(json.dumps(row) + "\n" for row in QUESTIONS)
            (self.folder / "q.jsonl").write_text(lines, encoding="utf-8")
            self.must("train", "a.csv", *TRAIN)
            self.answers[name] = self.must("predict", "run", "q.jsonl").out
        assert self.answers["old"] != self.answers["new"]

    def fresh(self, *, run: str | None = None, data: str = "new") -> Path:
        """A new folder with ``a.csv`` and ``q.jsonl`` of ``data``, and perhaps the run of ``run``."""
        self.folder = self.home / "attempt"
        shutil.rmtree(self.folder, ignore_errors=True)
        for left in self.home.glob(".*"):
            left.unlink()
        self.folder.mkdir()
        self.log.clear()
        for name in ("a.csv", "q.jsonl"):
            shutil.copy(self.home / data / name, self.folder)
        if run:
            shutil.copytree(self.home / run / "run", self.folder / "run")
        return self.folder

    def stopped(self) -> Path:
        """A training that was killed in the middle, after its first checkpoint."""
        place = self.home / "stopped"
        if not place.exists():
            train = ("train", "a.csv", *TRAIN)
            self.run(*train, before=counting(self.fresh()))
            number = seen() * 2 // 3
            self.run(*train, before=armed(self.fresh(), FAULTS["kill"], number))
            assert list(self.folder.glob("run/checkpoints/step-*"))
            (self.folder / "run").rename(place)
        return place

    def start(self, *arguments: object, before: Callable[[], None] | None = None, stdin: str = "") -> Child:
        """Begin a verb in the folder of this attempt."""
        self.log.append("widemax " + " ".join(map(str, arguments)))
        return start(self.folder, *arguments, before=before, stdin=stdin)

    def run(self, *arguments: object, before: Callable[[], None] | None = None, stdin: str = "") -> Ended:
        """Run a verb to its end."""
        ended = self.start(*arguments, before=before, stdin=stdin).wait()
        self.log.append(f"-> {ended.code}\n{ended.err[-2000:]}")
        return ended

    def must(self, *arguments: object) -> Ended:
        """Run a verb that nothing disturbs."""
        ended = self.run(*arguments)
        if ended.code:
            raise AssertionError(f"widemax {' '.join(map(str, arguments))}: {ended.err}")
        return ended

    def answering(self, *allowed: str) -> str | None:
        """Why the run does not answer as one of the reference runs, if it does not."""
        for arguments in (("verify", "run"), ("predict", "run", "q.jsonl")):
            ended = self.run(*arguments)
            if wrong := ended.wrong(0):
                return f"{arguments[0]}: {wrong}"
        if ended.out not in (self.answers[name] for name in allowed):
            return "its answers are those of no run that was finished"
        return None

    def finish(self) -> str | None:
        """Do what a user would after an accident, until a run of the data stands; why it does not, if so."""
        for arguments in (
            ("resume", "run"),
            ("train", "a.csv", *TRAIN),
            ("train", "a.csv", *TRAIN, "--overwrite"),
        ):
            ended = self.run(*arguments)
            if wrong := ended.wrong():
                return f"{' '.join(arguments[:2])} after it: {wrong}"
            if ended.code == 0 and not self.answering("new"):
                break
        return self.answering("new") or self.leftovers()

    def leftovers(self) -> str | None:
        """Files in the folder or the run that a run without an accident does not leave."""
        known = {path.relative_to(self.home / "new") for path in (self.home / "new").rglob("*")}
        more = sorted(
            str(path)
            for path in (p.relative_to(self.folder) for p in self.folder.rglob("*"))
            if path not in known and not path.name.startswith("report-")
        )
        return f"left behind: {more}" if more else None

"""Trainings and audits that the page starts: the verbs of the command line, in processes of their own.

They go on when the server ends.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import IO, Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from widemax.encoders import encoders
from widemax.errors import UnknownNameError, UsageError, visible
from widemax.evaluation.report.charts import AUDIT_HEADING, audit_chart
from widemax.heads import heads
from widemax.options import AtLeast1
from widemax.serving.bodies import Body
from widemax.serving.replies import Reply
from widemax.serving.studio.library import OWN, Library
from widemax.serving.studio.trainings import NAME, Training

MOST_AT_ONCE = 4
MOST_KEPT = 50
LOG_BYTES = 4000


jobs = APIRouter(tags=["studio"], dependencies=OWN)


@dataclass(eq=False)
class Job:
    """A process that does what a verb does."""

    id: int
    verb: str
    run: str
    arguments: list[str]
    process: "subprocess.Popen[bytes]"
    out: IO[bytes]
    log: IO[bytes]

    @property
    def state(self) -> str:
        """ "running", "finished", "stopped" by its order, or "failed"."""
        code = self.process.poll()
        return {None: "running", 0: "finished", 130: "stopped"}.get(code, "failed")

    def told(self) -> dict[str, Any]:
        """What the page shows of it; the result once it has finished."""
        state = self.state
        result = json.loads(_whole(self.out)) if state == "finished" else None
        if result and self.verb == "audit":
            result["picture"] = audit_chart(result).inline(AUDIT_HEADING)
        return {
            "id": self.id,
            "verb": self.verb,
            "run": self.run,
            "command": command(self.arguments),
            "state": state,
            "log": visible(_tail(self.log)),
            "result": result,
        }


@dataclass
class Jobs:
    """The processes that this server has started, by number."""

    folder: Path
    by_id: dict[int, Job] = field(default_factory=dict)
    _starting: Lock = field(default_factory=Lock, repr=False)

    def start(self, verb: str, run: str, arguments: list[str]) -> Job:
        """Begin a verb.

        Raises:
            UsageError: as many run already as may.
        """
        with self._starting:
            if sum(job.state == "running" for job in self.by_id.values()) >= MOST_AT_ONCE:
                raise UsageError(
                    f"{MOST_AT_ONCE} jobs are running already. Wait until one ends, or stop one."
                )
            # Files, not pipes: a job goes on when nobody reads what it says.
            out, log = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115 - they live with the job
            process = subprocess.Popen(
                [sys.executable, "-m", "widemax", *arguments, "--json"],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                start_new_session=True,
            )
            job = Job(max(self.by_id, default=0) + 1, verb, run, arguments, process, out, log)
            self.by_id[job.id] = job
            for old in list(self.by_id)[:-MOST_KEPT]:
                if self.by_id[old].state != "running":
                    del self.by_id[old]
            return job


def jobs_of(request: Request, library: Library) -> Jobs:
    """The jobs of the application."""
    state = request.app.state
    if not hasattr(state, "jobs"):
        state.jobs = Jobs(library.folder or Path.cwd())
    found: Jobs = state.jobs
    return found


Work = Annotated[Jobs, Depends(jobs_of)]


@jobs.get("/choices")
def choices(library: Library) -> Any:
    """What a training can be made of."""
    return Reply(
        {"can_train": library.folder is not None, "encoders": ["auto", *encoders], "heads": ["auto", *heads]}
    )


@jobs.post("/trainings/preview")
def preview(training: Training, library: Library) -> Any:
    """The command line and the config that a training stands for, without starting it."""
    arguments = training.arguments(library)
    return Reply({"command": command(arguments), "toml": training.config(library).to_toml()})


class Written(Body):
    """A config in TOML, and the name of the run where it has none that is free."""

    toml: Annotated[str, Field(max_length=100_000)]
    name: Annotated[str, Field(pattern=NAME)]


@jobs.post("/trainings/read")
def read(written: Written, library: Library) -> Any:
    """The form that says what a config says; what it has no field for is in its options."""
    return Reply(Training.read(written.toml, library, name=written.name).model_dump())


@jobs.post("/trainings")
def start_training(training: Training, library: Library, work: Work) -> Any:
    """Start a training. It is a run of the folder from its first record on."""
    training.config(library)
    return Reply(work.start("train", training.name, training.arguments(library)).told(), 201)


class Auditing(Body):
    """What ``widemax audit`` is asked for."""

    num_sampled: AtLeast1 | None = None
    batch: Annotated[int, Field(ge=2, le=4096)] = 128
    draws: Annotated[int, Field(ge=2, le=1024)] = 64
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


@jobs.post("/runs/{name}/audit")
def start_audit(name: str, auditing: Auditing, library: Library, work: Work) -> Any:
    """Start an audit of a run's samplers."""
    folder = os.path.relpath(library.path(name), work.folder)
    options = {"--batch": auditing.batch, "--draws": auditing.draws, "--seed": auditing.seed}
    if auditing.num_sampled is not None:
        options["--num-sampled"] = auditing.num_sampled
    given = [str(part) for option in options.items() for part in option]
    return Reply(work.start("audit", name, ["audit", folder, *given]).told(), 201)


@jobs.get("/jobs")
def list_jobs(work: Work) -> Any:
    """Every job that this server has started, the newest first."""
    return Reply({"jobs": [job.told() for job in reversed(list(work.by_id.values()))]})


@jobs.get("/jobs/{number}")
def show_job(number: int, work: Work) -> Any:
    """One job: its state, the last it said, and its result."""
    return Reply(_job(number, work).told())


@jobs.post("/jobs/{number}/stop")
def stop_job(number: int, work: Work) -> Any:
    """Stop a job as Ctrl-C does: a training saves, and can be resumed."""
    job = _job(number, work)
    if job.state == "running":
        job.process.send_signal(signal.SIGINT)
    return Reply(job.told())


def command(arguments: Sequence[str]) -> str:
    """A command line as a shell takes it."""
    return shlex.join(["widemax", *arguments])


def _job(number: int, work: Jobs) -> Job:
    if number not in work.by_id:
        raise UnknownNameError(f"this server has started no job {number}.")
    return work.by_id[number]


def _tail(file: IO[bytes]) -> str:
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), LOG_BYTES, max(0, size - LOG_BYTES)).decode(errors="replace")


def _whole(file: IO[bytes]) -> bytes:
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)

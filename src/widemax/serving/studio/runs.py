"""Runs: what they are, how they train at this moment, and two beside each other."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Header, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from widemax.charts import arcs
from widemax.config import Config
from widemax.errors import UsageError, WidemaxError
from widemax.evaluation.headlines import HEADLINES, called
from widemax.serving import explanations
from widemax.serving.models import Served
from widemax.serving.predictions import read
from widemax.serving.replies import Reply
from widemax.serving.routes import ask, ask_system
from widemax.serving.studio.library import OWN, Library
from widemax.serving.studio.rows import evaluated
from widemax.serving.systems import ServedSystem
from widemax.storage import MANIFEST, NEW, WORK, current, is_being_written, read_manifest
from widemax.task import task_of

runs = APIRouter(tags=["studio"])
METRICS = "metrics.jsonl"
POLL_S = 0.4
Name = str


@runs.get("/runs")
def list_runs(library: Library) -> Any:
    """Every run with its state and what its manifest says."""
    return Reply(
        {
            "folder": None if library.folder is None else library.folder.name,
            "runs": [summary(name, path) for name, path in library.paths().items()],
        }
    )


@runs.get("/runs/{name}", dependencies=OWN)
def describe(name: Name, library: Library) -> Any:
    """One run: its config as a table and as TOML, its metrics, and the history of its training."""
    path = library.path(name)
    config = config_of(path)
    return Reply(
        {
            **summary(name, path),
            "config": None if config is None else config.model_dump(mode="json", exclude_none=True),
            "toml": "" if config is None else config.to_toml(),
            "history": history(path),
        }
    )


@runs.get("/runs/{name}/events")
async def events(
    name: Name, request: Request, library: Library, last_event_id: Annotated[str, Header(max_length=20)] = ""
) -> Any:
    """The records of training as Server-Sent Events, from the one after ``Last-Event-ID`` on.

    The id of an event is the number of its record. A last event "end" says that no more will come.
    """
    path = library.path(name)
    first = int(last_event_id) if last_event_id.isdecimal() else 0

    async def stream() -> AsyncIterator[str]:
        sent = first
        yield "retry: 1000\n\n"
        while not getattr(request.app.state, "is_stopping", False):
            state = await asyncio.to_thread(state_of, path)
            records = await asyncio.to_thread(history, path)
            if len(records) < sent:  # another run has taken the place
                sent = 0
                yield "event: again\ndata: {}\n\n"
            for record in records[sent:]:
                sent += 1
                yield f"id: {sent}\ndata: {json.dumps(record)}\n\n"
            if state != "training":
                yield f"event: end\ndata: {json.dumps({'state': state})}\n\n"
                return
            if await request.is_disconnected():
                return
            await asyncio.sleep(POLL_S)

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)


@runs.get("/runs/{name}/model")
def model(name: Name, library: Library) -> Any:
    """What ``/v1/model`` says of it."""
    return Reply(library.answering(name).description)


@runs.post("/runs/{name}/predict")
async def predict(name: Name, body: dict[str, Any], request: Request, library: Library) -> Any:
    """What ``/v1/predict`` gives, labels with their class ids, trees with a drawing, and sizes of sets."""
    served = await run_in_threadpool(library.answering, name)
    if isinstance(served, ServedSystem):
        found = await ask_system(request, served, served.read(body))
        for row in found:
            if "heads" in row:
                row["tree"] = arcs(row["words"], row["heads"], row["relations"]).inline(
                    " ".join(row["words"])
                )
        return Reply({**served.said, "rows": found})
    asked, sets = read(served.model, body), served.sets
    answers = await ask(request, served, asked if sets is None else asked.listing(sets.k))
    rows = [[ranked._asdict() for ranked in answer[: asked.k]] for answer in answers]
    sizes = {} if sets is None else {"set_sizes": sets.sizes(answers)}
    return Reply({**served.said, "rows": rows, **sizes})


@runs.post("/runs/{name}/explain")
def explain(name: Name, body: dict[str, Any], library: Library) -> Any:
    """What moved the answer about a row, as ``/v1/explain`` tells it."""
    model = library.served(name).model
    return Reply(explanations.explain(model, explanations.request(model, **explanations.BODY.complete(body))))


@runs.get("/compare", dependencies=OWN)
def compare(library: Library, a: Name, b: Name, data: Annotated[str, Query(max_length=300)]) -> Any:
    """Two runs on the same rows: what differs in their configs, their metrics, and whether by chance.

    McNemar's exact test looks at the rows of which one run has the first prediction right and the other has
    not: were both equally good, each such row would go either way like a coin.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions" (1947).
    """
    from scipy.stats import binomtest

    pair = [library.served(name) for name in (a, b)]
    if pair[0].model.task is not pair[1].model.task:
        tasks = " and ".join(repr(served.model.task.value) for served in pair)
        raise UsageError(f"runs of one task can be compared; {a} and {b} are of the tasks {tasks}.")
    found = [evaluated(library, served.name, data) for served in pair]
    right_2B = [one.right_B for one in found]
    if len(right_2B[0]) != len(right_2B[1]):
        raise UsageError(
            f"{a} and {b} do not read the same rows of {data}, so they cannot be compared on it."
        )
    only_a, only_b = (int((one & ~other).sum()) for one, other in (right_2B, right_2B[::-1]))
    num_rows, discordant = len(right_2B[0]), only_a + only_b
    difference = (only_b - only_a) / num_rows
    # The variance of a mean of −1, 0 and 1.
    error = float(np.sqrt(max(discordant / num_rows - difference**2, 0.0) / num_rows))
    return Reply(
        {
            "data": data,
            "rows": num_rows,
            "config": config_difference(*pair),
            "metrics": [
                {"metric": name, "called": called(name), "values": [one.metrics.get(name) for one in found]}
                for name in HEADLINES[pair[0].model.task]
            ],
            "right": [float(right_B.mean()) for right_B in right_2B],
            "only_a": only_a,
            "only_b": only_b,
            "difference": difference,
            "interval": [difference - 1.96 * error, difference + 1.96 * error],
            "p": float(binomtest(only_b, discordant).pvalue) if discordant else 1.0,
        }
    )


def config_difference(a: Served, b: Served) -> list[dict[str, Any]]:
    """The keys in which two configs differ, and both values."""
    flat = [
        {
            f"{section}.{key}": value
            for section, keys in served.model.config.model_dump(mode="json").items()
            for key, value in keys.items()
            if section != "output"
        }
        for served in (a, b)
    ]
    names = dict.fromkeys([*flat[0], *flat[1]])
    return [
        {"key": name, "values": [each.get(name) for each in flat]}
        for name in names
        if flat[0].get(name) != flat[1].get(name)
    ]


def summary(name: str, path: Path) -> dict[str, Any]:
    """What a list of runs shows of one."""
    config, facts = config_of(path), facts_of(path)
    task = facts.get("task", "one")
    metrics = facts.get("metrics", {})
    headlines = [metric for metric in HEADLINES[task_of(task)] if metrics.get(metric) is not None]
    return {
        "name": name,
        "state": state_of(path),
        "modified": max((file.stat().st_mtime for file in path.glob("*") if file.is_file()), default=0.0),
        "data": [Path(each).name for each in config.data.train] if config else [],
        "encoder": config.encoder.kind if config else "",
        "head": config.head.kind if config else "",
        "task": task,
        "num_classes": facts.get("num_classes", 0) if facts else None,
        "num_train_rows": facts.get("num_train_rows"),
        "steps": facts.get("steps"),
        "seconds": facts.get("seconds"),
        "metrics": [
            {"metric": metric, "called": called(metric), "value": metrics[metric]} for metric in headlines
        ],
        "has_report": (current(path) / "report.html").is_file(),
    }


def state_of(path: Path) -> str:
    """Whether a run is in "training", "finished", or "stopped" before its end."""
    if is_being_written(path):
        return "training"
    return "finished" if facts_of(path).get("complete") else "stopped"


def facts_of(path: Path) -> Mapping[str, Any]:
    """What the manifest of a run says; nothing where there is none to be read."""
    try:
        return read_manifest(current(path)) if (current(path) / MANIFEST).is_file() else {}
    except WidemaxError:
        return {}


def config_of(path: Path) -> Config | None:
    """The config of a run, if it can be read."""
    try:
        return Config.load(current(path) / "config.toml")
    except WidemaxError:
        return None


def history(path: Path) -> list[dict[str, Any]]:
    """The records of metrics.jsonl, of the run that is being trained if there is one; whole lines alone."""
    replacing = path / WORK / NEW / METRICS
    file = replacing if replacing.is_file() else current(path) / METRICS
    try:
        lines = file.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines if line]
    except (OSError, ValueError):
        return []

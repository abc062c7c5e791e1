"""Where a run goes wrong: pairs it confuses, rows it is wrong about, and whether its confidence is right."""

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from pydantic import Field

from widemax.errors import UsageError
from widemax.evaluation.headlines import HEADLINES, called
from widemax.serving.bodies import Body
from widemax.serving.feedback import feedback
from widemax.serving.replies import Reply
from widemax.serving.studio.library import OWN, Library
from widemax.serving.studio.rows import evaluated

mistakes = APIRouter(tags=["studio"], dependencies=OWN)
MOST_PAIRS = 40
Data = Annotated[str, Query(max_length=300)]


@mistakes.get("/data")
def list_data(library: Library, run: str | None = None) -> Any:
    """The names of data that can be trained on, or evaluated with a run."""
    found = library.data() if run is None else library.data_of(run)
    return Reply({"data": list(found), "suggested": _suggested(found) if run else None})


@mistakes.get("/columns")
def columns(data: Data, library: Library) -> Any:
    """The columns of some data, the inputs and the target that are likely meant."""
    return Reply(library.columns(data))


@mistakes.get("/runs/{name}/evaluation")
def evaluation(name: str, data: Data, request: Request, library: Library) -> Any:
    """Metrics on some data, the pairs most often confused, and confidence against accuracy in fine bins.

    A bin is its place among 200, its rows, those right, and the sum of their confidence.
    """
    found = evaluated(library, name, data)
    return Reply(
        {
            "rows": len(found),
            "is_whole": found.is_whole,
            "skipped": found.dataset.num_bad_rows,
            "wrong": int((~found.right_B).sum()),
            "task": found.served.model.task.value,
            "metrics": [
                {"metric": metric, "called": called(metric), "value": found.metrics[metric]}
                for metric in HEADLINES[found.served.model.task]
                if metric in found.metrics
            ],
            "confusions": found.confusions(MOST_PAIRS),
            "bins": found.bins(),
            "by_frequency": found.by_frequency,
            "keeps_feedback": request.app.state.feedback.folder is not None,
        }
    )


@mistakes.get("/runs/{name}/mistakes")
def list_mistakes(
    name: str,
    data: Data,
    library: Library,
    label: Annotated[int, Query(ge=-1)] | None = None,
    predicted: Annotated[int, Query(ge=0)] | None = None,
    least: Annotated[float, Query(ge=0, le=1)] = 0.0,
    most: Annotated[float, Query(ge=0, le=1)] = 1.0,
    fewest: Annotated[int, Query(ge=0)] = 0,
    commonest: Annotated[int, Query(ge=0)] | None = None,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=200)] = 25,
) -> Any:
    """Wrong rows, the surest first.

    Those of a label or a prediction by class id, within bounds of confidence and of training rows.
    """
    found = evaluated(library, name, data)
    counts_C = np.append(found.served.model.vocabulary.counts, 0)  # the last stands for −1
    seen_B = counts_C[found.first_label_B]
    kept_B = (
        ~found.right_B & (found.confidence_B >= least) & (found.confidence_B <= most) & (seen_B >= fewest)
    )
    if commonest is not None:
        kept_B &= seen_B <= commonest
    if label is not None:
        kept_B &= found.first_label_B == label
    if predicted is not None:
        kept_B &= found.predicted_B == predicted
    rows = np.flatnonzero(kept_B)
    order = rows[np.argsort(-found.confidence_B[rows], kind="stable")]
    return Reply(
        {"total": len(order), "rows": list(found.told([int(r) for r in order[offset : offset + limit]]))}
    )


class Right(Body):
    """A row of some data, by its number among those evaluated, and its right label."""

    data: Annotated[str, Field(max_length=300)]
    row: Annotated[int, Field(ge=0)]
    label: Annotated[str, Field(max_length=10_000)]


@mistakes.post("/runs/{name}/feedback")
def keep(name: str, right: Right, request: Request, library: Library) -> Any:
    """Keep a row with its right label where ``/v1/feedback`` keeps them; ``widemax train`` reads the file."""
    found = evaluated(library, name, right.data)
    if right.row >= len(found):
        raise UsageError(f"{right.data} has the rows 0 to {len(found) - 1}; got {right.row}.")
    _, inputs = found.dataset.tell([right.row])[right.row]
    labels = [[right.label] if found.served.model.schema.several else right.label]
    path = request.app.state.feedback.append(name, feedback(found.served, inputs=[inputs], labels=labels))
    return Reply({"kept": 1, "file": path.name})


def _suggested(found: dict[str, list[str]]) -> str | None:
    """The test split of what a run was trained on, if there is one; else what it was validated on."""
    (trained, *_) = found.get("train", [""])
    test = f"{trained.partition(':')[0]}:test"
    if test in found:
        return test
    named = (name for name in found if "test" in name and ":" not in name)
    return next(named, next((name for name in ("valid", "train") if name in found), None))

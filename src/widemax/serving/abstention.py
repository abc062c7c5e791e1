"""When a model had better not answer: sets of classes that hold the right one with a chosen probability."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from widemax.artifact import Model
from widemax.data import Dataset, resolve
from widemax.errors import UsageError
from widemax.evaluation import OneLabelRows
from widemax.evaluation.calibration import LAC, ConformalSets
from widemax.serving.predictions import Ranked
from widemax.training.evaluate import answered_rows, dataset_rows


def fit_sets(model: Model, data: Path | str, coverage: float) -> ConformalSets:
    """Conformal sets of a model, fitted on rows with their labels that training has not seen.

    Args:
        model: a model of rows with one label.
        data: the rows.
        coverage: how often a set holds the label.

    Raises:
        UsageError: rows have several labels, or are too few for this coverage.
        DataError: the data lack a column of the model.
    """
    if not model.task.one_label or model.excludes_seen:
        raise UsageError(
            f"--coverage is for rows with one right label; the task of this model is {model.task.value!r}."
        )
    rows = answered_rows(model, dataset_rows(model, Dataset(resolve(data), model.schema)))
    chunks = (chunk for chunk in rows if isinstance(chunk, OneLabelRows))
    return ConformalSets.fit(chunks, score=LAC(), alpha=1 - coverage, num_classes=model.head.num_classes)


def set_sizes(sets: ConformalSets, answers: Sequence[Sequence[Ranked]]) -> list[int]:
    """How many classes the set of each row holds; one more than are listed where it might hold more."""
    log_probs = np.log([[max(r.probability, 1e-300) for r in row[: sets.k]] for row in answers])
    found = sets.predict(log_probs)
    sizes: list[int] = (found.sizes_B + found.truncated_B * (found.sizes_B == sets.k)).tolist()
    return sizes

"""Running a recipe: the folder, the randomness, results.json and report.html."""

import json
import math
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from widemax.data import get
from widemax.recipes.base import Recipe, Results, recipes
from widemax.recipes.page import page
from widemax.storage import replacing

RESULTS = "results.json"
REPORT = "report.html"


@dataclass(frozen=True)
class RecipeResult:
    """A recipe that has run.

    Attributes:
        recipe: which.
        results: lines, pictures and findings.
        folder: where they are saved.
        facts: what results.json holds.
    """

    recipe: Recipe
    results: Results
    folder: Path
    facts: dict[str, Any]


def run_recipe(
    name: str, *, folder: Path, quick: bool = False, seed: int = 0, overwrite: bool = False
) -> RecipeResult:
    """Runs a recipe and saves its pictures, results.json and report.html.

    Args:
        name: as ``widemax recipe list`` shows it.
        folder: where; made if absent.
        quick: finish within a minute on two cores; the results say so.
        seed: same seed, same machine, same results.
        overwrite: replace a run that is already there instead of refusing, once the new one has ended.

    Raises:
        UnknownNameError: there is no such recipe.
        UsageError: the folder already holds something, or another process writes there.
        DataError: a data set is not at hand.

    Example:
        >>> outcome = run_recipe("overflow", folder=Path("recipe-overflow"))  # doctest: +SKIP
    """
    recipe = recipes[name]()
    for data_set in recipe.data:
        get(data_set)
    with replacing(folder, {"recipe": name}, overwrite=overwrite) as place:
        results, start = Results(recipe.known, place), time.perf_counter()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            recipe.run(results, quick=quick, seed=seed)
        seconds = time.perf_counter() - start
        facts = {"recipe": name, **_facts(recipe, results, quick=quick, seed=seed, seconds=seconds)}
        (place / REPORT).write_text(page(recipe, results, facts), encoding="utf-8")
        text = json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False)
        (place / RESULTS).write_text(text + "\n", encoding="utf-8")
    results.folder = folder
    results.pictures = [replace(picture, path=folder / picture.path.name) for picture in results.pictures]
    return RecipeResult(recipe, results, folder, facts)


def _facts(recipe: Recipe, results: Results, *, quick: bool, seed: int, seconds: float) -> dict[str, Any]:
    return {
        "title": recipe.title,
        "data": list(recipe.data),
        "quick": quick,
        "seed": seed,
        "seconds": round(seconds, 2),
        "threads": torch.get_num_threads(),
        "versions": {package: version(package) for package in ("widemax", "torch", "numpy", "scikit-learn")},
        "lines": [
            {
                "what": line.what,
                "known": line.known.text,
                "source": line.known.source,
                "obtained": line.obtained,
                # JSON has no inf and no nan.
                "values": [value if math.isfinite(value) else str(value) for value in line.values],
                "reached": line.reached,
            }
            for line in results.lines
        ],
        "pictures": [
            {
                "file": picture.path.name,
                "title": picture.title,
                "caption": picture.caption,
                "alt": picture.alt,
            }
            for picture in results.pictures
        ],
        "findings": results.findings,
    }

"""Every file of a run damaged in many ways, as by an accident and as by a stranger who hashes it again."""

import math
import shutil
from collections.abc import Iterator
from functools import partial
from itertools import cycle, product
from pathlib import Path

from tests.damage import DAMAGES, damage, sign_again
from tests.torture import child
from tests.torture.ground import QUESTIONS, Attempt, Ground

AT_ONCE = 25


def answer(run: Path, path: Path, right: str, *, again: bool) -> str | None:
    """What is wrong with the answers of a damaged run: it refuses, or answers as before."""
    from widemax.artifact import Model
    from widemax.errors import CorruptError

    try:
        rows = Model.load(run).predict(QUESTIONS)
    except CorruptError as error:
        return (
            None if path.name in str(error) or path.parent.name in str(error) else f"names no file: {error}"
        )
    shown = repr(rows)
    if shown == right:
        return None
    if not again:
        return "other answers without a word"
    for row in rows:
        chances = [prediction.probability for prediction in row]
        if not chances or not all(math.isfinite(p) and 0 <= p <= 1 for p in chances):
            return f"probabilities {chances}"
    return None


def attempts(ground: Ground) -> Iterator[Attempt]:
    """Every file, in every way, with the hashes of before and new ones."""
    from widemax.artifact import Model

    ground.fresh(run="new")
    right = child.value(ground.folder, lambda: repr(Model.load(ground.folder / "run").predict(QUESTIONS)))
    files = sorted(
        path.relative_to(ground.home / "new/run")
        for path in (ground.home / "new/run").rglob("*")
        if path.is_file()
    )
    cases = cycle(product(files, DAMAGES, (False, True)))
    while True:
        ground.fresh()
        named, tries = [], []
        for number in range(AT_ONCE):
            file, kind, again = next(cases)
            run = ground.folder / str(number)
            shutil.copytree(ground.home / "new/run", run)
            damage(run / file, kind, ground.random)
            if again and file.name != "manifest.json":
                sign_again(run, file.as_posix())
            named.append(f"{number}/{file}: {kind}{', signed again' if again else ''}")
            tries.append(partial(answer, run, run / file, right, again=again))
        for what, wrong in zip(named, child.each(ground.folder, tries), strict=True):
            yield Attempt(what, wrong)

"""One training in several processes: the first leads, the others follow it."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import psutil

from widemax.distributed import World
from widemax.storage import NEW, WORK, saving
from widemax.training.runs import M, Outcome, Trained, outcome_of

RESTARTS = "TORCHELASTIC_RESTART_COUNT"
"""How often torchrun, or ``widemax train --workers``, has started its processes again."""


def together(
    world: World, lead: Callable[[Trained[M]], Outcome[M]], train: Trained[M], follow: Callable[[Path], M]
) -> Outcome[M]:
    """Train in all processes: the first leads, which opens the run's folder and tells the others where.

    Args:
        world: the processes.
        lead: begins a run, or goes on in one, by what it is given.
        train: what each process does.
        follow: loads a run that had come to its end before.
    """
    if world.size == 1:
        return lead(train)
    if not world.is_first:
        told = json.loads(world.tell())
        workspace, scratch, checkpoint = (None if path is None else Path(path) for path in told)
        assert workspace is not None
        if scratch is None:
            outcome = outcome_of(workspace, follow)
            assert outcome is not None
            return outcome
        # Not in that of the first, which removes it when it ends.
        own = scratch.with_name(f"process-{world.rank}")
        shutil.rmtree(own, ignore_errors=True)
        with saving(str(own)):
            own.mkdir()
        try:
            return train(workspace, own, checkpoint)
        finally:
            shutil.rmtree(own, ignore_errors=True)
    has_told = False

    def telling(workspace: Path, scratch: Path, checkpoint: Path | None) -> Outcome[M]:
        nonlocal has_told
        has_told = True
        paths = workspace, scratch, checkpoint
        world.tell(json.dumps([None if path is None else str(path.resolve()) for path in paths]))
        return train(workspace, scratch, checkpoint)

    outcome = lead(telling)
    if not has_told:
        world.tell(json.dumps([str(outcome.run.resolve()), None, None]))
    return outcome


def was_begun(run: Path) -> bool:
    """Whether this process was started again after another one, with the same work, had died in this run."""
    if not int(os.environ.get(RESTARTS, "0")):
        return False
    since = psutil.Process(os.getppid()).create_time()
    places = (folder / "config.toml" for folder in (run, run / WORK / NEW))
    return any(place.is_file() and place.stat().st_mtime >= since for place in places)

"""Every file of a stopped training damaged: it resumes to what it would have been, or says what is wrong."""

import shutil
from collections.abc import Iterator
from itertools import cycle

from tests.torture.child import at_file_operation, killed_at
from tests.torture.corruption import BYTES, PLACES, damage, sign_again
from tests.torture.ground import TRAIN, Attempt, Ground

STOPPED_AT = 90


def attempts(ground: Ground) -> Iterator[Attempt]:
    """Every file, in every way, with the hashes of before and new ones."""
    folder = ground.fresh()
    ground.run("train", "a.csv", *TRAIN, before=at_file_operation(folder, killed_at(STOPPED_AT)))
    stopped = ground.home / "stopped"
    shutil.copytree(folder / "run", stopped)
    files = sorted(path.relative_to(stopped) for path in stopped.glob("checkpoints/step-*/*"))
    assert files, "the training was stopped before its first checkpoint"
    for file, kind, again in cycle(
        [(file, kind, again) for file in files for kind in (*BYTES, *PLACES) for again in (False, True)]
    ):
        run = ground.fresh() / "run"
        shutil.copytree(stopped, run)
        damage(run / file, kind, ground.random)
        again = again and file.name != "manifest.json"
        if again:
            sign_again((run / file).parent)
        ended = ground.run("resume", "run")
        wrong = ended.wrong()
        if not wrong and ended.code == 0 and not again:
            wrong = ground.answering("new")
        yield Attempt(f"{file}: {kind}{', signed again' if again else ''}", wrong)

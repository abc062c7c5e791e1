"""Every file of a stopped training damaged: it resumes to what it would have been, or says what is wrong."""

import shutil
from collections.abc import Iterator
from itertools import cycle, product

from tests.damage import DAMAGES, damage, sign_again
from tests.torture.ground import Attempt, Ground


def attempts(ground: Ground) -> Iterator[Attempt]:
    """Every file, in every way, with the hashes of before and new ones."""
    stopped = ground.stopped()
    files = sorted(path.relative_to(stopped) for path in stopped.glob("checkpoints/step-*/*"))
    for file, kind, again in cycle(product(files, DAMAGES, (False, True))):
        run = ground.fresh() / "run"
        shutil.copytree(stopped, run)
        damage(run / file, kind, ground.random)
        again = again and file.name != "manifest.json"
        if again:
            sign_again((run / file).parent, file.name)
        ended = ground.run("resume", "run")
        wrong = ended.wrong()
        if not wrong and ended.code == 0 and not again:
            wrong = ground.answering("new")
        yield Attempt(f"{file}: {kind}{', signed again' if again else ''}", wrong)

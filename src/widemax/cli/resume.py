"""``widemax resume``: continue a run that was interrupted or killed."""

import sys

from widemax.cli.options import Json, Run, Workers
from widemax.cli.train import finish
from widemax.cli.workers import is_worker, run_workers


def command(run: Run, workers: Workers = None, json: Json = False) -> None:
    """Continue an interrupted run to bitwise the result it would have had.

    With as many processes as it had, unless --workers says another number.
    """
    if not is_worker() and (run / "config.toml").is_file():
        from widemax.config import Config

        several = Config.load(run / "config.toml").distributed
        if (workers or several.workers) > 1:
            number = workers or several.workers
            run_workers(sys.argv[1:], workers=number, max_restarts=several.max_restarts)
    from widemax.kernels import keep_freed_memory
    from widemax.training.loop import resume
    from widemax.training.progress import reporter_for_terminal

    keep_freed_memory()
    finish(resume(run, reporter=reporter_for_terminal()), json=json)

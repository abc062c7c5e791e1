"""``widemax resume``: continue a run that was interrupted or killed."""

from widemax.cli.options import Json, Run
from widemax.cli.train import finish


def command(run: Run, json: Json = False) -> None:
    """Continue an interrupted run to bitwise the result it would have had."""
    from widemax.kernels import keep_freed_memory
    from widemax.training.loop import resume
    from widemax.training.progress import reporter_for_terminal

    keep_freed_memory()
    finish(resume(run, reporter=reporter_for_terminal()), json=json)

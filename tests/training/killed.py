"""What trains in a process of its own, to be killed there or to die there."""

import os
from multiprocessing.connection import Connection
from pathlib import Path

from widemax.config import Config
from widemax.training import loop, runs


def train_and_tell(config: Path, told: Connection) -> None:
    """Train, and wait for an answer after each checkpoint."""
    saved = loop.save_checkpoint

    def save_and_tell(*arguments: object, **options: object) -> None:
        saved(*arguments, **options)
        told.send("saved")
        told.recv()

    loop.save_checkpoint = save_and_tell
    loop.train(Config.load(config))


def replace_and_die(config: Path, name: str) -> None:
    """Train in place of a run, and die where a function such as "loop.prepare" is called."""
    module, _, function = name.partition(".")
    setattr({"loop": loop, "runs": runs}[module], function, lambda *arguments, **options: os._exit(9))
    loop.train(Config.load(config), overwrite=True)

"""Processes that join a world once and then run functions of the tests, each in every one of them."""

import tempfile
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.forked import CONTEXT

TIMEOUT_S = 20.0


def serve(rank: int, size: int, store: str, connection: Connection) -> None:
    """Answer calls until there are no more."""
    import torch
    from torch import distributed

    from widemax.distributed import World

    torch.set_num_threads(1)
    if size > 1:
        distributed.init_process_group(
            "gloo", f"file://{store}", timedelta(seconds=TIMEOUT_S), world_size=size, rank=rank
        )
    while (call := connection.recv()) is not None:
        function, arguments = call
        try:
            connection.send((True, function(World(rank, size), *arguments)))
        except Exception as error:
            connection.send((False, f"{type(error).__name__}: {error}"))


class Processes:
    """R processes of one world."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.folder = tempfile.TemporaryDirectory()
        store = str(Path(self.folder.name, "store"))
        self.connections, self.processes = [], []
        for rank in range(size):
            own, other = CONTEXT.Pipe()
            process = CONTEXT.Process(target=serve, args=(rank, size, store, other), daemon=True)
            process.start()
            other.close()
            self.connections.append(own)
            self.processes.append(process)

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """What a function of a module gives in each process, or the sentence of its error."""
        for connection in self.connections:
            connection.send((function, arguments))
        answers = [connection.recv() for connection in self.connections]
        wrong = [answer for is_right, answer in answers if not is_right]
        if wrong:  # an error of its own comes before what others say of one that is gone
            raise AssertionError(min(wrong, key=lambda answer: answer.startswith("PeerError")))
        return [answer for _, answer in answers]

    def stop(self) -> None:
        for connection in self.connections:
            connection.send(None)
            connection.close()
        for process in self.processes:
            process.join()
            process.close()
        self.folder.cleanup()

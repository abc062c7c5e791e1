"""What a server is told once, when it starts."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """How many requests are answered together, how many wait and how long, and who may give orders.

    Args:
        threads: batches that are computed at the same time.
        max_batch: rows of a batch; a request with more is a batch of its own.
        max_wait_ms: how long the first request of a batch waits for others, unless it is quick to answer.
        queue: requests that may wait; further ones are answered 429.
        timeout_s: how long a request waits before it is given up, and how long its body may take to arrive.
        token: what an order from another machine must bring.
        hosts: the names by which the server may be called, beside its addresses and localhost.
        feedback: the folder that keeps rows with their right labels; they are not kept when None.
    """

    threads: int = 1
    max_batch: int = 64
    max_wait_ms: float = 2.0
    queue: int = 256
    timeout_s: float = 10.0
    token: str | None = None
    hosts: tuple[str, ...] = ()
    feedback: Path | None = None

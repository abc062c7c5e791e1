"""One process that listens until it is told to stop, and then answers what it has accepted."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from widemax.errors import UsageError

STOPS = signal.SIGTERM, signal.SIGINT
DRAIN_S = 30


class Server(uvicorn.Server):
    """A server whose process ends with 0 once what was accepted is answered, whatever signal stopped it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals to stop, and do not raise them again at the end."""
        before = {number: signal.signal(number, self.handle_exit) for number in STOPS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop accepting; a second signal stops waiting for what was accepted."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self.config.app.state.is_stopping = True  # type: ignore[union-attr]  # streams end by it


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        UsageError: the address is taken, or none of this machine.
    """
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
        )
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}. Choose another "
            "--port or --host."
        ) from None


def address_of(listener: socket.socket) -> str:
    """Where a socket is reached."""
    address, port = listener.getsockname()[:2]
    return f"http://{f'[{address}]' if ':' in address else address}:{port}"


def run(app: FastAPI, listener: socket.socket) -> None:
    """Answer requests until a signal stops it."""
    config: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False}
    Server(uvicorn.Config(app, timeout_graceful_shutdown=DRAIN_S, **config)).run(sockets=[listener])

"""One process that listens until it is told to stop, and then answers what it has accepted."""

import asyncio
import gc
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from widemax.errors import UsageError
from widemax.serving.settings import Settings

STOPS = signal.SIGTERM, signal.SIGINT
BACKLOG = 2048
FAREWELL_S = 1.0
"""How long open connections may bring another request, whose answer says that it is the last."""
DRAIN_S = 30
"""How long what was accepted may take to be answered."""


class Connection(HttpToolsProtocol):
    """A connection that is closed where the head of a request takes longer than a request may wait."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def on_message_begin(self) -> None:
        """Wait for the rest of a head."""
        super().on_message_begin()
        self._wait()

    def on_headers_complete(self) -> None:
        """Wait no longer."""
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._patience is None:
            settings: Settings = self.config.app.state.settings  # type: ignore[union-attr]
            self._patience = self.loop.call_later(settings.timeout_s, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


class Server(uvicorn.Server):
    """A server that answers what it has accepted when a signal stops it, and then ends with exit code 0.

    Args:
        app: the application, whose ``state.is_stopping`` is set by the first signal, so that streams end.
    """

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        options: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False}
        options["http"] = Connection
        super().__init__(uvicorn.Config(app, timeout_graceful_shutdown=DRAIN_S, lifespan="on", **options))

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
        self.app.state.is_stopping = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let no more connections in, and let those that are open end with an answer."""
        loop = asyncio.get_running_loop()
        waiting = [connection for listener in sockets or [] for connection in _accepted(listener)]
        for server in self.servers:
            server.close()
        protocol = partial(
            Connection, self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        for connection in waiting:
            await loop.connect_accepted_socket(protocol, connection)
        clock = loop.time
        end = clock() + FAREWELL_S
        while self.server_state.connections and clock() < end and not self.force_exit:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)


def _accepted(listener: socket.socket) -> Iterator[socket.socket]:
    """The connections that clients have made already, which would be reset with the listener's end."""
    with suppress(BlockingIOError):
        while True:
            yield listener.accept()[0]


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        UsageError: the address is taken, or none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Of a socket that is known to be of TCP, asyncio sends what is written without waiting for more.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise UsageError(
            f"cannot listen on {host}, port {port}: {error.strerror}. Choose another --port or --host."
        ) from None
    return listener


def address_of(listener: socket.socket) -> str:
    """Where a socket is reached."""
    address, port = listener.getsockname()[:2]
    return f"http://{f'[{address}]' if ':' in address else address}:{port}"


def run(app: FastAPI, listener: socket.socket) -> None:
    """Answer requests until a signal stops it."""
    gc.collect()
    gc.freeze()  # what has been loaded stays, and is not looked through while requests wait
    Server(app).run(sockets=[listener])

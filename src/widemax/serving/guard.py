"""What every request must be before anything looks at it, and what every answer says to browsers."""

import asyncio
import hmac
import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from widemax.serving.replies import BodyTooLargeError, ForbiddenError, UnauthorizedError, refusal
from widemax.serving.settings import Settings

MAX_BODY_BYTES = 1 << 23
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


_RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]


class Guard:
    """Refuses foreign hosts and origins, and bodies that are compressed, too large or too slow.

    A page of another site cannot call the server in a browser that runs beside it: its name is none of the
    server's, even if it leads to the same address.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self.names = {"localhost", socket.gethostname().lower(), *map(str.lower, settings.hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        has_answered = False

        async def send_with_headers(message: Message) -> None:
            nonlocal has_answered
            has_answered = True
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                added = [header for header in _RAW_HEADERS if header[0] not in given]
                message["headers"] = [*message["headers"], *added]
                if scope["app"].state.is_stopping:
                    MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        headers = Headers(scope=scope)
        refused = self._refused(headers)
        if refused is not None:
            status, sentence = refused
            await refusal(status, sentence, Connection="close")(scope, receive, send_with_headers)
            return
        try:
            await self.app(scope, self._bounded(receive), send_with_headers)
        except asyncio.CancelledError:
            if has_answered or not scope["app"].state.is_stopping:
                raise
            stopped = refusal(503, "the server stopped before this was done; ask again when it is back.")
            await stopped(scope, receive, send_with_headers)

    def _refused(self, headers: Headers) -> tuple[int, str] | None:
        """The status and sentence for what its headers alone tell to be wrong."""
        host = headers.get("host", "")
        if not self._is_own(host):
            return 403, (
                f"this server is not called {host!r}. Ask by its address, by localhost, or by a name that it "
                "was given (--allow-host)."
            )
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            return 403, f"pages of {origin!r} may not ask this server."
        encoding = headers.get("content-encoding", "identity")
        if encoding != "identity":
            return 415, f"the body must not be compressed; got Content-Encoding {encoding!r}."
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > MAX_BODY_BYTES:
            return 413, f"a body may have {MAX_BODY_BYTES:,} bytes; {length[:20]} were declared."
        return None

    def _is_own(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self.names or is_address(name)

    def _bounded(self, receive: Receive) -> Receive:
        """The same messages, as long as they arrive in time and are not too many."""
        num_bytes = 0
        is_whole = False

        async def bounded() -> Message:
            nonlocal num_bytes, is_whole
            if is_whole:
                return await receive()  # waits until the client goes
            async with asyncio.timeout(self.settings.timeout_s):
                message = await receive()
            num_bytes += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if num_bytes > MAX_BODY_BYTES:
                raise BodyTooLargeError(f"a body may have {MAX_BODY_BYTES:,} bytes; more arrived.")
            return message

        return bounded


def check_may_order(request: Request) -> None:
    """Let orders pass that come from this machine or bring the token, itself or as the cookie of a session.

    Raises:
        UnauthorizedError: neither, though there is a token; or another was brought.
        ForbiddenError: they come from elsewhere, and there is no token to bring.
    """
    token: str | None = request.app.state.settings.token
    host = request.client.host if request.client else ""
    is_local = is_address(host) and ipaddress.ip_address(host).is_loopback
    if token is None:
        if is_local:
            return
        raise ForbiddenError(
            "this may be asked from the server's own machine alone, since it was started without "
            "--token-file FILE."
        )
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        check_token(given, token)
    elif not is_local and not _is_same(request.cookies.get(cookie_name(request), ""), cookie_of(token)):
        raise UnauthorizedError(
            "this may be asked from the server's own machine, or with the token of --token-file: as "
            "'Authorization: Bearer TOKEN', or by signing in to Studio."
        )


def check_token(given: str, token: str) -> None:
    """Hold a token to that of the server.

    Raises:
        UnauthorizedError: it is another.
    """
    if not _is_same(given, token):
        raise UnauthorizedError("the token is not the one of this server.")


def cookie_name(request: Request) -> str:
    """That of a session; browsers send cookies to the servers at all ports of a host."""
    return f"widemax-session-{request.url.port or request.url.scheme}"


def cookie_of(token: str) -> str:
    """What stands for a token in a cookie, which browsers send to other servers of this machine as well."""
    return hmac.new(token.encode(), b"widemax session", "sha256").hexdigest()


def _is_same(given: str, own: str) -> bool:
    return hmac.compare_digest(given.encode(), own.encode())


def is_address(host: str) -> bool:
    """Whether a host is named by its address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

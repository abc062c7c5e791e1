"""What a request must be before anything looks at it."""

import asyncio
import gzip
import http.client
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.types import Message
from tests.serving.conftest import TOKEN, Server

from widemax.serving.guard import MAX_BODY_BYTES, Guard
from widemax.serving.settings import Settings

QUESTION = {"inputs": ["green leaf"], "k": 1}


def talk(server: Server, *pieces: bytes, timeout: float = 20) -> bytes:
    """What the server answers to bytes as they are."""
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port), timeout=timeout) as connection:
        for piece in pieces:
            connection.sendall(piece)
        answer = b""
        while part := connection.recv(1 << 16):
            answer += part
            head, _, body = answer.partition(b"\r\n\r\n")
            if b"content-length: %d\r\n" % len(body) in head.lower() + b"\r\n" and b"\r\n\r\n" in answer:
                break
        return answer


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "", "localhost.evil.example", "["])
def test_a_foreign_host_is_refused(server: Server, host: str) -> None:
    reply = server.client.get("/v1/model", headers={"Host": host})
    assert reply.status_code == 403
    assert f"this server is not called {host!r}" in reply.json()["error"]


def test_a_host_that_was_allowed_is_answered(guarded: Server) -> None:
    assert guarded.client.get("/v1/model", headers={"Host": "models.example.org:80"}).status_code == 200
    assert guarded.client.get("/v1/model", headers={"Host": "other.example.org"}).status_code == 403


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:1", "https://[", "file://"]
)
def test_pages_of_other_sites_are_refused(server: Server, origin: str) -> None:
    reply = server.post("/v1/predict", QUESTION, headers={"Origin": origin})
    assert reply.status_code == 403
    assert "may not ask this server" in reply.json()["error"]


def test_its_own_page_is_answered(server: Server) -> None:
    assert server.post("/v1/predict", QUESTION, headers={"Origin": server.url}).status_code == 200


def test_answers_tell_browsers_to_be_careful(server: Server) -> None:
    for reply in (server.get("/v1/model"), server.get("/nowhere"), server.post("/v1/predict", {})):
        assert reply.headers["content-security-policy"].startswith("default-src 'self';")
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["x-frame-options"] == "DENY"


def test_a_compressed_body_is_not_unpacked(server: Server) -> None:
    bomb = gzip.compress(b"[" * 50_000_000)
    reply = server.post("/v1/predict", content=bomb, headers={"Content-Encoding": "gzip"})
    assert reply.status_code == 415
    assert "must not be compressed; got Content-Encoding 'gzip'" in reply.json()["error"]


@pytest.mark.parametrize("length", ["1000000000", "9" * 30])
def test_a_declared_length_is_refused_before_the_body(server: Server, length: str) -> None:
    answer = talk(
        server, f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()
    )
    assert answer.split(b"\r\n")[0].split()[1] in (b"413", b"400")


def test_a_body_without_a_length_is_cut_off(server: Server) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 65536 + 2):
            yield b" " * 65536

    try:
        reply = server.client.post("/v1/predict", content=endless())
    except httpx.WriteError:
        return
    assert reply.status_code == 413
    assert "more arrived" in reply.json()["error"]


def test_a_slow_client_is_given_up_and_holds_nobody_back(guarded: Server) -> None:
    place = urlsplit(guarded.url)
    with socket.create_connection((place.hostname, place.port), timeout=20) as slow:
        slow.sendall(b'POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{"inputs"')
        assert guarded.get("/v1/model").status_code == 200
        assert slow.recv(1 << 16).startswith(b"HTTP/1.1 408")


WHOLE = b"GET /v1/model HTTP/1.1\r\nHost: localhost\r\n\r\n"
BEGUN = b"GET /v1/model HTTP/1.1\r\nHost: local"
IDLE = pytest.param(WHOLE, marks=pytest.mark.slow)  # uvicorn waits five seconds for another request


@pytest.mark.parametrize("begun", [b"", BEGUN, b"GE", WHOLE + BEGUN, WHOLE + b"GE", IDLE])
def test_a_head_that_does_not_come_is_not_waited_for(guarded: Server, begun: bytes) -> None:
    place = urlsplit(guarded.url)
    with socket.create_connection((place.hostname, place.port), timeout=20) as slow:
        slow.sendall(begun)
        answer = b""
        while part := slow.recv(1 << 16):
            answer += part
        assert answer.count(b"HTTP/1.1 200") == begun.startswith(WHOLE)


def test_orders_from_elsewhere_need_the_token(guarded: Server) -> None:
    elsewhere = {"X-Forwarded-For": "203.0.113.7"}  # as a proxy on this machine says it
    refused = guarded.post("/v1/reload", headers=elsewhere)
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert "may be asked from the server's own machine" in refused.json()["error"]
    wrong = guarded.post("/v1/reload", headers={**elsewhere, "Authorization": "Bearer 0"})
    assert wrong.status_code == 401
    right = {**elsewhere, "Authorization": f"Bearer {TOKEN}"}
    assert guarded.post("/v1/reload", headers=right).status_code == 200


def test_a_session_stands_for_the_token(guarded: Server) -> None:
    elsewhere = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
    with httpx.Client(base_url=guarded.url, headers=elsewhere, trust_env=False) as browser:
        assert browser.post("/v1/session", json={"token": "0" * 16}).status_code == 401
        assert not browser.cookies
        cookie = browser.post("/v1/session", json={"token": TOKEN}).headers["set-cookie"]
        assert {"HttpOnly", "SameSite=strict", "Secure", "Path=/"} < set(cookie.split("; "))
        assert TOKEN not in cookie
        name, _, value = cookie.split(";")[0].partition("=")
        assert name == f"widemax-session-{httpx.URL(guarded.url).port}"
        for given, status in ((value, 200), (value[:-1], 401), (TOKEN, 401)):
            reply = browser.get("/v1/studio/data", headers={"Cookie": f"{name}={given}"})
            assert reply.status_code == status
        foreign = {"Origin": "http://evil.example", "Cookie": f"{name}={value}"}
        assert browser.post("/v1/reload", headers=foreign).status_code == 403
        assert f'{name}="";' in browser.delete("/v1/session").headers["set-cookie"]


def test_without_a_token_nobody_signs_in(server: Server) -> None:
    untyped = server.post("/v1/session", content=b'{"token": "x"}')
    assert (untyped.status_code, "Content-Type: application/json" in untyped.json()["error"]) == (422, True)
    refused = server.post("/v1/session", {"token": TOKEN})
    assert (refused.status_code, "without --token-file" in refused.json()["error"]) == (403, True)


@pytest.mark.parametrize(
    "path",
    [
        *("/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/../../etc/passwd", "//etc/passwd", "/static/%2e%2e/app.py"),
        *("/%00", "/a%00b", "/v1/models/%00/model", "/v1/labels/%ff", "/v1/models/..%2f..%2fx/predict"),
    ],
)
def test_no_path_reaches_a_file(server: Server, path: str) -> None:
    place = urlsplit(server.url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=20)
    connection.request("GET", path)  # as it stands; clients would shorten it
    reply = connection.getresponse()
    body = reply.read()
    connection.close()
    assert reply.status in (400, 404, 405)
    assert b"root:" not in body


def test_a_wrong_content_length_answers_400(server: Server) -> None:
    answer = talk(server, b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("is_stopping", [True, False])
def test_what_a_stop_cuts_short_says_so(is_stopping: bool) -> None:
    """uvicorn cancels what is not done in time, and would answer 500."""

    async def cancelled(*_: object) -> None:
        raise asyncio.CancelledError

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    sent: list[Message] = []
    app = SimpleNamespace(state=SimpleNamespace(is_stopping=is_stopping))
    scope = {"type": "http", "headers": [(b"host", b"localhost")], "app": app}
    answer = Guard(cancelled, settings=Settings())(scope, receive, send)
    if not is_stopping:
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(answer)
        return
    asyncio.run(answer)
    assert sent[0]["status"] == 503
    assert b"the server stopped before this was done" in sent[1]["body"]

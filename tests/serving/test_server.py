"""Signals, load, and runs that come and go."""

import http.client
import json
import shutil
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from benchmarks.serving import soak
from tests.serving.conftest import Server

QUESTION = {"inputs": ["green leaf"] * 50, "k": 3}


def damaged(whole: bytes) -> bytes:
    """The same with another last byte."""
    return whole[:-1] + bytes([whole[-1] ^ 1])


def test_sigterm_under_load_drops_nothing_that_was_accepted(serve: Callable[..., Server], runs: Path) -> None:
    server = serve(runs / "drinks", "--queue", "1000")
    place = urlsplit(server.url)
    assert place.hostname is not None
    seen: Counter[str] = Counter()
    lock = threading.Lock()

    def client() -> None:
        """Asks until the server takes no more connections; whatever else happens is a drop."""
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=30)
        for _ in range(1000):
            try:
                if connection.sock is None:
                    connection.connect()
            except ConnectionRefusedError:
                outcome = "refused"
            else:
                connection.request("POST", "/v1/predict", json.dumps(QUESTION))
                reply = connection.getresponse()
                reply.read()
                outcome = str(reply.status)
            with lock:
                seen[outcome] += 1
            if outcome == "refused":
                break

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client) for _ in range(8)]
        while seen["200"] < 40:
            time.sleep(0.01)
        server.process.send_signal(signal.SIGTERM)
        for done in clients:
            done.result()
    assert server.process.wait(30) == 0
    assert seen.keys() == {"200", "refused"}
    assert seen["refused"] == 8


def test_overload_is_refused_and_ends(serve: Callable[..., Server], runs: Path) -> None:
    server = serve(runs / "drinks", "--queue", "2", "--max-batch", "1")
    large = {"inputs": ["green leaf"] * 1000}
    with ThreadPoolExecutor(24) as pool:
        replies = list(pool.map(lambda _: server.post("/v1/predict", large), range(48)))
    codes = Counter(reply.status_code for reply in replies)
    assert codes.keys() == {200, 429}
    refused = next(reply for reply in replies if reply.status_code == 429)
    assert refused.headers["retry-after"] == "1"
    assert "requests are waiting already" in refused.json()["error"]
    assert server.post("/v1/predict", QUESTION).status_code == 200


def test_clients_that_leave_harm_nobody(server: Server) -> None:
    place = urlsplit(server.url)
    body = json.dumps(QUESTION).encode()
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    for at in range(40):
        with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
            connection.sendall((head + body)[: len(head) + len(body) - (at % 3)])
    assert server.post("/v1/predict", QUESTION).status_code == 200


def test_a_taken_port_is_said(serve: Callable[..., Server], server: Server, runs: Path) -> None:
    with pytest.raises(AssertionError, match=r"exit code 2: error: cannot listen on 127\.0\.0\.1, port \d+"):
        serve(runs / "fruit", "--port", str(urlsplit(server.url).port))


def test_a_corrupt_run_is_said_and_the_other_serves(
    serve: Callable[..., Server], runs: Path, tmp_path: Path
) -> None:
    shutil.copytree(runs / "fruit", tmp_path / "broken")
    weights = next((tmp_path / "broken" / "weights").glob("head-*"))
    weights.write_bytes(damaged(weights.read_bytes()))
    server = serve(tmp_path / "broken", runs / "drinks")
    assert "broken is not served" in "".join(server.told)
    reply = server.post("/v1/models/broken/predict", QUESTION)
    assert reply.status_code == 503
    assert "is not the file that was saved" in reply.json()["error"]
    assert server.post("/v1/models/drinks/predict", QUESTION).status_code == 200
    with pytest.raises(AssertionError, match="exit code 5"):
        serve(tmp_path / "broken")


def test_reload_under_load_takes_the_new_run_or_keeps_the_old(
    serve: Callable[..., Server], runs: Path, tmp_path: Path
) -> None:
    shutil.copytree(runs / "drinks", tmp_path / "run")
    server = serve(tmp_path / "run")
    before = server.get("/v1/model").json()
    codes: Counter[int] = Counter()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            codes[server.post("/v1/predict", QUESTION).status_code] += 1

    with ThreadPoolExecutor(2) as pool, ExitStack() as finally_:
        finally_.callback(stop.set)
        asking = [pool.submit(ask) for _ in range(2)]
        weights = next((tmp_path / "run" / "weights").glob("head-*"))
        whole = weights.read_bytes()
        weights.write_bytes(damaged(whole))
        reply = server.post("/v1/reload")
        assert reply.status_code == 503
        assert "is not the file that was saved" in reply.json()["error"]
        assert server.get("/v1/model").json()["problem"] == reply.json()["error"]
        weights.write_bytes(whole)
        assert server.post("/v1/reload").json() == before
        stop.set()
        for done in asking:
            done.result()
    assert codes.keys() == {200}
    shutil.rmtree(tmp_path / "run")
    shutil.copytree(runs / "fruit", tmp_path / "run")
    assert server.post("/v1/reload").json()["target"] == "fruit"


@pytest.mark.slow
def test_a_server_that_is_asked_all_the_time_gains_nothing(runs: Path) -> None:
    found = soak(str(runs / "drinks"), minutes=0.5)
    assert found["failed"] == 0
    assert found["reloads"] >= 3
    assert abs(found["more_files"]) <= 2
    assert found["memory_growth"] < 0.2

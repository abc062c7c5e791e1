"""Fetching original files: over connections that break, from servers that change, go or lie."""

import gzip
import hashlib
import io
import json
import re
import shlex
import shutil
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from widemax.data import download, get, sets
from widemax.data.originals import fetch
from widemax.errors import DataError, ResourceError

BODY = bytes(range(256)) * 4_000
TINY = "reverse_dictionary_eval"


class Server(ThreadingHTTPServer):
    """Serves ``bodies`` by path; ``asked`` holds the path and Range of each request."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies = {}
        self.asked = []
        self.ranges = True
        self.cut_after = None  # this many bytes, each connection breaks
        self.statuses = {}
        self.places = {}

    def at(self, path):
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        path, server = self.path[1:], self.server
        wanted = self.headers.get("Range")
        server.asked.append((path, wanted))
        if path in server.places:
            return self.answer(302, b"", Location=server.places[path])
        body = server.bodies.get(path)
        if path in server.statuses or body is None:
            return self.answer(server.statuses.get(path, 404), b"sorry")
        if not wanted or not server.ranges:
            return self.answer(200, body)
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
        if start >= len(body):
            return self.answer(416, b"", Content_Range=f"bytes */{len(body)}")
        return self.answer(206, body[start:], Content_Range=f"bytes {start}-{len(body) - 1}/{len(body)}")

    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.cut_after])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Originals and prepared sets of this test alone."""
    monkeypatch.setenv("WIDEMAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WIDEMAX_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def take(server, path, **options):
    fetch(server.at("file"), path, **{"max_bytes": len(BODY), "say": print} | options)


def test_a_cut_off_file_goes_on_where_it_stopped(server, tmp_path):
    server.bodies["file"] = BODY
    (tmp_path / "file.part").write_bytes(BODY[:1000])
    take(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY
    assert server.asked == [("file", "bytes=1000-")]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_connection_that_breaks_is_opened_again(server, tmp_path):
    server.bodies["file"] = BODY
    server.cut_after = len(BODY) // 3
    take(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY
    third = len(BODY) // 3
    assert [wanted for _, wanted in server.asked] == [
        None,
        *(f"bytes={start}-" for start in (third, 2 * third, 3 * third)),
    ]


def test_a_server_that_knows_no_ranges_starts_again(server, tmp_path):
    server.bodies["file"] = BODY
    server.ranges = False
    (tmp_path / "file.part").write_bytes(b"x" * 1000)
    take(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY
    server.cut_after = 5000
    with pytest.raises(ConnectionError, match="the connection broke after 5,000 of 1,024,000 bytes"):
        take(server, tmp_path / "other")
    assert len(server.asked) == 3
    assert (tmp_path / "other.part").stat().st_size == 5000


def test_a_part_longer_than_the_file_is_given_up(server, tmp_path):
    server.bodies["file"] = BODY
    (tmp_path / "file.part").write_bytes(BODY + b"x")
    take(server, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == BODY


def test_what_a_server_must_not_do(server, tmp_path):
    server.bodies["file"] = BODY
    with pytest.raises(DataError, match="has more than the 1,000 bytes it must have"):
        take(server, tmp_path / "file", max_bytes=1000)
    server.places["file"] = "https://127.0.0.1/file"
    with pytest.raises(OSError, match=r"leads from http to https://127\.0\.0\.1/file"):
        take(server, tmp_path / "file")
    server.places.clear()
    server.statuses["file"] = 503
    with pytest.raises(ConnectionError, match="answers 503 Service Unavailable"):
        take(server, tmp_path / "file")
    assert not (tmp_path / "file").exists()


@pytest.fixture
def tiny(server, here, widemax_data, monkeypatch):
    """A server with the original files of a small set."""
    bodies = {
        name.removesuffix(".gz"): gzip.decompress((widemax_data / TINY / name).read_bytes())
        for name in sets[TINY].files
    }
    server.bodies |= bodies
    monkeypatch.setattr(sets[TINY], "downloads", {name: server.at(name) for name in bodies})
    return server


def test_a_set_from_its_address_to_its_rows(tiny, here):
    lines = []
    tiny.places["data_test_500_rand1_seen.json"] = "/moved"
    tiny.bodies["moved"] = tiny.bodies["data_test_500_rand1_seen.json"]
    download(TINY, say=lines.append)
    assert "Licence: none stated" in lines[0]
    assert lines[1] == "Size: at most 0.3 MB"
    assert [path.name for path in here.iterdir()] == [TINY]
    assert {path.name for path in (here / TINY).iterdir()} == set(sets[TINY].files)
    assert (get(TINY) / f"{TINY}-seen.parquet").is_file()
    asked = len(tiny.asked)
    for _ in range(2):
        lines.clear()
        download(TINY, say=lines.append)
        assert lines[1:] == [f"nothing to fetch: {TINY!r} is here"]
        shutil.rmtree(get(TINY))
    assert len(tiny.asked) == asked


def test_changed_bytes_are_refused_and_not_kept(tiny, here):
    name = "data_test_500_rand1_unseen.json"
    whole = tiny.bodies[name]
    tiny.bodies[name] = whole.replace(b"the", b"teh", 1)
    with pytest.raises(
        DataError, match=r"unseen.json.gz must have sha256 \w+ once unpacked, got sha256"
    ) as failure:
        download(TINY)
    assert sets[TINY].url in str(failure.value)
    assert list(here.iterdir()) == []
    tiny.bodies[name] = whole
    download(TINY)
    assert get(TINY)


def test_a_page_in_place_of_an_archive(server, here, monkeypatch):
    for name, file in (("mnist", "train-images-idx3-ubyte.gz"), ("newsgroups20", "20news-bydate.tar.gz")):
        addresses = {file: server.at(file) for file in sets[name].downloads}
        server.bodies |= dict.fromkeys(addresses, b"<html>please log in</html>")
        monkeypatch.setattr(sets[name], "downloads", addresses)
        with pytest.raises(
            DataError, match=f"is not the '{name}' that widemax knows, and was removed: .*{file} must"
        ):
            download(name)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("loop", [True, False])
def test_an_address_that_leads_nowhere(tiny, here, loop):
    name = "data_test_500_rand1_seen.json"
    if loop:
        tiny.places[name] = f"/{name}"
    else:
        del tiny.bodies[name]
    with pytest.raises(
        DataError, match="answers 302 .* infinite loop" if loop else "answers 404 Not Found"
    ) as failure:
        download(TINY)
    assert "\n" not in str(failure.value)
    assert not (here / TINY).exists()


def test_without_a_network_the_commands_to_do_it_by_hand(tiny, here, tmp_path):
    bodies = dict(tiny.bodies)
    tiny.statuses = dict.fromkeys(bodies, 503)
    with pytest.raises(ResourceError, match="answers 503") as failure:
        download(TINY)
    sentence, *commands = str(failure.value).splitlines()
    assert sentence.endswith("Call this again to go on where it stopped, or after fetching by hand:")
    places = {}
    for command in commands:
        program, *_, option, place, address = shlex.split(command)
        assert (program, option) == ("curl", "-o")
        places[Path(address).name] = Path(place)
    assert places.keys() == bodies.keys()
    for name, place in places.items():
        place.write_bytes(bodies[name])
    download(TINY)
    assert get(TINY)


def test_a_full_disk_is_told_before_anything_is_fetched(tiny, here, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(
        ResourceError, match=f"'{TINY}' takes 1 MB in {here}; free some space or set WIDEMAX_DATA"
    ):
        download(TINY)
    assert tiny.asked == []


def test_gowalla_is_sorted_within_its_lines(tmp_path):
    data_set = sets["gowalla"]()
    (tmp_path / "train.txt").write_text("0 10 9 100\n1 3\n", encoding="ascii")
    (tmp_path / "test.txt").write_text("0 7 5\n1 \n", encoding="ascii")
    data_set.assemble(tmp_path, tmp_path)
    assert gzip.decompress((tmp_path / "train.txt.gz").read_bytes()) == b"0 9 10 100\n1 3\n"
    assert gzip.decompress((tmp_path / "test.txt.gz").read_bytes()) == b"0 7 5\n1 \n"


def archive(posts):
    """A tar.gz of texts by path, in its folders."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as file:
        for path, text in posts:
            folder = tarfile.TarInfo(path.rpartition("/")[0])
            folder.type = tarfile.DIRTYPE
            file.addfile(folder)
            member = tarfile.TarInfo(path)
            member.size = len(text)
            file.addfile(member, io.BytesIO(text))
    return buffer.getvalue()


def test_newsgroups_are_read_from_their_archive(tmp_path, monkeypatch):
    data_set = sets["newsgroups20"]()
    (name,) = data_set.downloads
    made = archive(
        [
            ("20news-bydate-train/sci.space/2", b"caf\xe9\r\n"),
            ("20news-bydate-test/sci.med/1", b"one"),
            ("20news-bydate-train/sci.space/10", b'"two"'),
        ]
    )
    (tmp_path / name).write_bytes(made)
    monkeypatch.setattr(type(data_set), "archive_sha256", hashlib.sha256(made).hexdigest())
    data_set.assemble(tmp_path, tmp_path)
    lines = gzip.decompress((tmp_path / "20news-bydate-train.jsonl.gz").read_bytes()).decode().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"group": "sci.space", "file": "10", "text": '"two"'},
        {"group": "sci.space", "file": "2", "text": "caf\xe9\r\n"},
    ]
    assert len(gzip.decompress((tmp_path / "20news-bydate-test.jsonl.gz").read_bytes()).splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in sets if sets[name].downloads])
def test_what_the_addresses_hold_makes_the_files_that_widemax_knows(
    server, here, widemax_data, monkeypatch, name
):
    data_set = sets[name]()
    holds = {file: (widemax_data / name / file).read_bytes() for file in data_set.files}
    holds |= {file: gzip.decompress(body) for file, body in holds.items() if file.endswith(".gz")}
    if name == "newsgroups20":
        rows = [
            (f"{file.removesuffix('.jsonl.gz')}/{row['group']}/{row['file']}", row["text"].encode("latin-1"))
            for file, lines in holds.items()
            for row in map(json.loads, lines.decode().splitlines())
        ]
        bodies = {"20news-bydate.tar.gz": archive(rows[::-1])}
        monkeypatch.setattr(
            sets[name], "archive_sha256", hashlib.sha256(bodies["20news-bydate.tar.gz"]).hexdigest()
        )
    else:
        bodies = {file.removesuffix(".gz"): body for file, body in holds.items()}
        if name == "gowalla":
            lines = [line.split() for line in bodies["train.txt"].decode().splitlines()]
            bodies["train.txt"] = "\n".join(" ".join([user, *items[::-1]]) for user, *items in lines).encode()
        bodies = {
            file: gzip.compress(bodies[file.removesuffix(".gz")], 1) if file.endswith(".gz") else bodies[file]
            for file in data_set.downloads
        }
    server.bodies = bodies
    server.cut_after = max(map(len, bodies.values())) // 2
    monkeypatch.setattr(sets[name], "downloads", {file: server.at(file) for file in bodies})
    monkeypatch.setattr(
        sets[name], "download_bytes", max(data_set.download_bytes, *map(len, bodies.values()))
    )
    download(name)
    assert set(sets[name].files) == {path.name for path in (here / name).iterdir()}

"""Whatever bytes a file holds, each reader gives rows or one of our own errors, and never dies."""

import gzip
import io
import json
import random
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from widemax.data import Dataset, Reading, infer_schema
from widemax.errors import WidemaxError

ROWS = [
    {"text": f"row {n}, é\n", "x": n / 2, "ids": [n, n + 1], "label": "ab"[n % 2], "y": None}
    for n in range(6)
]
CSV = 'text;x;label\n"a;\n""b";1,5;p\nzwei;NA;q\n;2024-01-02;p\n'
SVM = "3 4 5\n1,2 1:0.5 7:1e3 # note\n qid:3 2:1\n-1 3:2\n"


def columns() -> dict[str, Any]:
    return {
        "text": pa.array([row["text"] for row in ROWS], pa.string_view()),
        "ids": pa.array([row["ids"] for row in ROWS], pa.list_view(pa.int64())),
        "kind": pa.array(["p", "q"] * 3).dictionary_encode(),
        "vector": pa.array([[0.5, 1.5]] * 6, pa.list_(pa.float32(), 2)),
        "label": pa.array([row["label"] for row in ROWS]),
    }


def arrow(*, stream: bool) -> bytes:
    sink = io.BytesIO()
    table = pa.table(columns())
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return sink.getvalue()


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns()), sink)
    return sink.getvalue()


def saved(save: Callable[..., None], *arrays: Any, **named: Any) -> bytes:
    sink = io.BytesIO()
    save(sink, *arrays, **named)
    return sink.getvalue()


def picture(form: str) -> bytes:
    image = pytest.importorskip("PIL.Image", reason="Pillow is absent: pip install 'widemax[images]'")
    sink = io.BytesIO()
    image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(sink, form)
    return sink.getvalue()


def lines() -> bytes:
    return "\n".join(map(json.dumps, ROWS)).encode()


STARTS: dict[str, Callable[[], bytes]] = {
    "a.csv": CSV.encode,
    "a.tsv": CSV.replace(";", "\t").encode,
    "utf16.csv": lambda: CSV.encode("utf-16"),
    "a.csv.gz": lambda: gzip.compress(CSV.encode()),
    "a.jsonl": lines,
    "a.json": lambda: json.dumps(ROWS).encode(),
    "a.svm": SVM.encode,
    "a.parquet": parquet,
    "a.arrow": lambda: arrow(stream=False),
    "a.arrows": lambda: arrow(stream=True),
    "a.npy": lambda: saved(np.save, np.array([(1, 0.5, "p"), (2, 1.5, "q")], "i8,f4,U2")),
    "a.npz": lambda: saved(np.savez_compressed, x=np.eye(4), label=np.array(["p", "q"] * 2)),
    "a-images.idx3-ubyte": lambda: bytes(
        [0, 0, 8, 3, *(0, 0, 0, 2), *(0, 0, 0, 1), *(0, 0, 0, 3), *range(6)]
    ),
    "a.png": lambda: picture("PNG"),
    "a.jpg": lambda: picture("JPEG"),
    "a.bmp": lambda: picture("BMP"),
}
KINDS = ["put", "insert", "cut", "end", "repeat"]
PIECES = [
    b"\0",
    b"\r",
    b"\n",
    b'"',
    b";",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"9" * 30,
    b"nan",
    b"-",
    b"[",
    b"{}",
    b":",
]
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from(KINDS),
        st.one_of(st.binary(min_size=1, max_size=9), st.sampled_from(PIECES)),
    ),
    max_size=4,
)
ENCODINGS = [None, None, "latin-1", "utf-16", "cp932"]
DELIMITERS = [None, None, ";", "tab"]
TARGETS = ["label", "text", None]


def edited(content: bytes, edits: list[tuple[float, str, bytes]]) -> bytes:
    for share, kind, piece in edits:
        at = int(share * len(content))
        after = {
            "put": piece + content[at + len(piece) :],
            "insert": piece + content[at:],
            "cut": content[at + len(piece) :],
            "end": b"",
            "repeat": content[at:] + content[:at],
        }[kind]
        content = content[:at] + after
    return content


def read_whole(path: Path, target: str | None, reading: Reading) -> None:
    """Every row, as training reads it."""
    with suppress(WidemaxError):
        schema = infer_schema([path], target=target, format=reading)
        for batch in Dataset([path], schema, format=reading, drop_bad=True).batches():
            assert all(len(values) == len(batch) for values in batch.columns.values())


FOLDER = tempfile.TemporaryDirectory(prefix="widemax-fuzz-")


@pytest.mark.parametrize("name", STARTS)
def test_damaged_files_give_rows_or_our_errors(name: str) -> None:
    start = STARTS[name]()
    path = Path(FOLDER.name) / name

    @settings(parent=settings.get_profile("quick"), suppress_health_check=list(HealthCheck), max_examples=40)
    @given(
        content=st.one_of(st.binary(max_size=200), EDITS.map(lambda edits: edited(start, edits))),
        encoding=st.sampled_from(ENCODINGS),
        delimiter=st.sampled_from(DELIMITERS),
        target=st.sampled_from(TARGETS),
    )
    def attempt(content: bytes, encoding: str | None, delimiter: str | None, target: str | None) -> None:
        path.write_bytes(content)
        read_whole(path, target, Reading(encoding=encoding, delimiter=delimiter))

    attempt()


def drawn(start: bytes, draw: random.Random) -> bytes:
    """Any bytes, or those of a file after up to four edits."""
    if draw.random() < 0.5:
        return draw.randbytes(draw.randrange(draw.choice([8, 201])))
    edits = []
    for _ in range(draw.randrange(5)):
        piece = draw.choice([draw.choice(PIECES), draw.randbytes(draw.randrange(1, 10))])
        edits.append((draw.choice([0.0, draw.random(), 1.0]), draw.choice(KINDS), piece))
    return edited(start, edits)


@pytest.mark.slow
@pytest.mark.parametrize("name", STARTS)
def test_many_damaged_files_give_rows_or_our_errors(name: str) -> None:
    """Drawn without Hypothesis, which takes two thirds of the time of an example to make it."""
    start, draw, path = STARTS[name](), random.Random(name), Path(FOLDER.name) / name
    for _ in range(10_000):
        content, target = drawn(start, draw), draw.choice(TARGETS)
        reading = Reading(encoding=draw.choice(ENCODINGS), delimiter=draw.choice(DELIMITERS))
        path.write_bytes(content)
        try:
            read_whole(path, target, reading)
        except BaseException as error:
            error.add_note(f"{content!r} with target {target!r} and {reading}")
            raise


@pytest.mark.parametrize("name", STARTS)
def test_whole_files_are_read(name: str) -> None:
    path = Path(FOLDER.name) / f"whole-{name}"
    path.write_bytes(STARTS[name]())
    target = {"a.npy": "f2"}.get(name, "label")
    if path.suffix in (".png", ".jpg", ".bmp", ".idx3-ubyte"):
        pytest.skip("images alone have no labels")
    dataset = Dataset([path], infer_schema([path], target=target), drop_bad=True)
    assert sum(map(len, dataset.batches())) >= 2

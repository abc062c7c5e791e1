"""Ways to damage a file of a run: its bytes, what stands in its place, and what it holds."""

import io
import json
import math
import os
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w
import torch
from safetensors.torch import load, save

from widemax.storage import MANIFEST, sha256, signed


def put(piece: bytes, content: bytes, at: int) -> bytes:
    return content[:at] + piece + content[at + len(piece) :]


def at_one_of(kinds: range, content: bytes, random: Random) -> int:
    """A place of a byte of these, or the first where there is none."""
    return random.choice([at for at, byte in enumerate(content[:200_000]) if byte in kinds] or [0])


def flip(content: bytes, at: int, random: Random) -> bytes:
    return put(bytes([content[at] ^ (1 << random.randrange(8))]), content, at)


def number(content: bytes, random: Random) -> bytes:
    """Another number in the place of one that is written in digits."""
    at = at_one_of(range(48, 58), content, random)
    new = random.choice([b"-1", b"0", b"NaN", b"1e999", b"9" * 30, b"Infinity", b"null", b"0.5", b'"x"'])
    return content[:at] + new + content[at + 1 :]


def bad_float(content: bytes, random: Random) -> bytes:
    """A weight that is no number, where the file holds numbers of four bytes."""
    at = max(0, len(content) - 4 * random.randint(1, 50))
    return put(random.choice([b"\0\0\xc0\x7f", b"\0\0\x80\x7f"]), content, at)


BYTES: dict[str, Callable[[bytes, int, Random], bytes]] = {
    "a bit flipped": flip,
    "its first bit flipped": lambda content, at, random: flip(content, 0, random),
    "its last bit flipped": lambda content, at, random: flip(content, len(content) - 1, random),
    "64 zeros": lambda content, at, random: put(bytes(64), content, at),
    "64 ones": lambda content, at, random: put(b"\xff" * 64, content, at),
    "cut": lambda content, at, random: content[:at],
    "emptied": lambda content, at, random: b"",
    "longer": lambda content, at, random: content + random.randbytes(random.randint(1, 99)),
    "a piece gone": lambda content, at, random: content[:at] + content[at + 7 :],
    "a piece twice": lambda content, at, random: content[:at] + content[max(0, at - 9) :],
    "zeros": lambda content, at, random: bytes(len(content)),
    "noise": lambda content, at, random: random.randbytes(len(content)),
    "another number": lambda content, at, random: number(content, random),
    "another word": lambda content, at, random: put(
        b"x", content, at_one_of(range(97, 123), content, random)
    ),
    "a bad float": lambda content, at, random: bad_float(content, random),
    "nested": lambda content, at, random: b"[" * 100_000,
}
PLACES: dict[str, Callable[[Path], object]] = {
    "removed": lambda path: None,
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
}
DAMAGES = (*BYTES, *PLACES)


def damage(path: Path, kind: str, random: Random) -> None:
    """Damage one file: its bytes, or what stands in its place."""
    content = path.read_bytes()
    path.unlink()
    if kind in PLACES:
        PLACES[kind](path)
    else:
        path.write_bytes(BYTES[kind](content, random.randrange(len(content)), random))


def sign_again(folder: Path, name: str) -> None:
    """The manifest as whoever altered one file, or the manifest itself, would write it."""
    path, file = folder / MANIFEST, folder / name
    with suppress(ValueError, RecursionError, AttributeError):  # it is the manifest, and no such object now
        manifest = json.loads(path.read_bytes() if path.is_file() else b"")
        if file.is_file() and name != MANIFEST:
            manifest["files"][name] = {"sha256": sha256(file), "bytes": file.stat().st_size}
        path.write_text(json.dumps(signed(manifest)), encoding="utf-8")


def altered(path: Path) -> Iterator[tuple[str, bytes]]:
    """Contents of the same format that no run has, or that disagree with the other files."""
    content = path.read_bytes()
    if path.suffix == ".safetensors":
        yield from tensors_of(load(content))
    elif path.suffix == ".parquet":
        yield from columns_of(pq.read_table(io.BytesIO(content)))
    elif path.suffix == ".json":
        for name, changed in values(json.loads(content)):
            yield name, json.dumps(changed).encode()
    elif path.suffix == ".toml":
        for name, changed in values(tomllib.loads(content.decode())):
            if "None" not in name:
                yield name, tomli_w.dumps(changed).encode()


OTHERS = [None, -1, 2, 10**12, float("nan"), 1e308, True, "x", "../x", [], [[]], {}, {"a": 1}]


def values(whole: Any) -> Iterator[tuple[str, Any]]:
    """The same with each value in turn left out or replaced by others."""

    def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        pairs = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for key, inner in pairs:
            yield (*at, key)
            yield from places(inner, (*at, key))

    for place in places(whole):
        for other in ["left out", *OTHERS]:
            copy = json.loads(json.dumps(whole))
            parent = copy
            for key in place[:-1]:
                parent = parent[key]
            if other == "left out":
                del parent[place[-1]]
            elif repr(parent[place[-1]]) == repr(other):
                continue
            else:
                parent[place[-1]] = other
            yield f"{'.'.join(map(str, place))}: {other}", copy


def tensors_of(tensors: dict[str, torch.Tensor]) -> Iterator[tuple[str, bytes]]:
    yield "an unknown tensor", save(tensors | {"odd": torch.zeros(2)})
    for name, tensor in tensors.items():
        yield f"{name} left out", save({key: value for key, value in tensors.items() if key != name})
        changes: dict[str, torch.Tensor] = {
            "flat": tensor.flatten()[None],
            "short": tensor[:-1] if tensor.ndim else tensor[None],
            "long": torch.cat([tensor, tensor[-1:]]) if tensor.ndim else tensor[None, None],
            "none": tensor[:0] if tensor.ndim else tensor,
            "int16": tensor.to(torch.int16),
            "float64": tensor.to(torch.float64),
            "float16": tensor.to(torch.float16),
        }
        for number in (0, -1, 2**40, torch.nan, torch.inf):
            if tensor.numel() and (tensor.is_floating_point() or math.isfinite(number)):
                full = torch.full(tensor.shape, number).to(tensor.dtype)
                changes[f"all {number}"] = full
                changes[str(number)] = torch.cat([tensor.flatten()[:-1], full.flatten()[-1:]]).view(
                    tensor.shape
                )
        if not tensor.is_floating_point() and tensor.numel() > 1:
            changes["reversed"] = tensor.flip(0)
        for change, changed in changes.items():
            if changed.dtype != tensor.dtype or not torch.equal(changed, tensor):
                yield f"{name} {change}", save(tensors | {name: changed.contiguous()})


def columns_of(table: pa.Table) -> Iterator[tuple[str, bytes]]:
    def saved(table: pa.Table) -> bytes:
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        return buffer.getvalue()

    yield "no row", saved(table[:0])
    yield "a row less", saved(table[:-1])
    yield "a row twice", saved(pa.concat_tables([table, table[-1:]]))
    yield "reversed", saved(table.take(pa.array(np.arange(len(table))[::-1])))
    yield "a column more", saved(table.append_column("odd", table[0]))
    for at, name in enumerate(table.column_names):
        column = table[name]
        yield f"{name} left out", saved(table.drop_columns([name]))
        others = [
            pa.nulls(len(table), column.type),
            pa.array([[1]] * len(table)),
            pa.array(["7"] * len(table)),
        ]
        if pa.types.is_integer(column.type):
            numbers = column.to_numpy()
            others += [
                pa.array(numbers * by + more) for by, more in ((-1, 0), (1, 1), (1, 2**40), (1.5, 0.5))
            ]
            others += [pa.array(numbers[::-1].copy()), pa.array(np.full(len(table), np.nan))]
        else:
            others += [pa.array(np.arange(len(table))), pa.array([b"\xff"] * len(table))]
        for number, other in enumerate(others):
            yield f"{name} of {other.type} {number}", saved(table.set_column(at, name, other))

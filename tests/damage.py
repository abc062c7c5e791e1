"""Ways to damage a file of a run: its bytes, what stands in its place, and what it holds."""

import io
import json
import math
import os
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w
import torch
from safetensors.torch import load, save

Damage = tuple[str, Callable[[Path], object]]


def in_its_place(path: Path) -> Iterator[Damage]:
    """Damage of any file; what stands in its place is no file."""
    content = path.read_bytes()

    def holding(changed: bytes) -> Callable[[Path], object]:
        return lambda path: path.write_bytes(changed)

    def instead(make: Callable[[Path], object]) -> Callable[[Path], object]:
        return lambda path: (path.unlink(), make(path))

    for place in (0, 8, len(content) // 2, len(content) - 9, len(content) - 1):
        flipped = bytearray(content)
        flipped[place] ^= 4
        yield f"bit flipped at {place}", holding(bytes(flipped))
    yield "half", holding(content[: len(content) // 2])
    yield "empty", holding(b"")
    yield "zeros", holding(bytes(len(content)))
    yield "a byte more", holding(content + b"\0")
    yield "of another file", holding((path.parent / sorted(os.listdir(path.parent))[0]).read_bytes())
    yield "nested", holding(b"[" * 100_000)
    yield "removed", Path.unlink
    yield "a pipe", instead(os.mkfifo)
    yield "a folder", instead(Path.mkdir)
    yield "a link to itself", instead(lambda path: path.symlink_to(path.name))
    yield "a link to a device", instead(lambda path: path.symlink_to("/dev/zero"))


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

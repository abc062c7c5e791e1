"""Saved rows of classes, a file for each process that saved, for any number of processes to read.

Shapes: C classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from widemax.artifact import read_tensors, write_tensors
from widemax.distributed.placement import Placement
from widemax.distributed.world import World
from widemax.errors import CorruptError
from widemax.storage import new_folder

PATTERN = "shard-*-of-*.safetensors"


@contextmanager
def new_shared_folder(target: Path, facts: Mapping[str, Any], world: World) -> Iterator[Path]:
    """A folder that appears whole, as every saved one, which each process writes files of its own into.

    The first one makes it and, once all have written, the manifest; all go on when it is in place.
    """
    if world.is_first:
        with new_folder(target, facts) as folder:
            world.wait()
            yield folder
            world.wait()
        world.wait()
    else:
        world.wait()
        yield target.with_name(f".{target.name}")
        world.wait()
        world.wait()


def write_shard(folder: Path, placement: Placement, tensors: Mapping[str, Tensor]) -> None:
    """Save what a process holds: tensors of one row a class, and those without axes."""
    name = f"shard-{placement.shard:05d}-of-{placement.num_shards:05d}.safetensors"
    write_tensors(folder / name, tensors)


def read_whole_rows(paths: Sequence[Path], placement: Placement) -> dict[str, Tensor]:
    """What a process holds of tensors that one process saved, in files of consecutive classes."""
    found: dict[str, Tensor] = {}
    ids, starts = placement.ids(), dict[str, int]()
    for path in paths:
        for name, tensor in read_tensors(path).items():
            if not tensor.ndim:
                found[name] = tensor
                continue
            start = starts.get(name, 0)
            starts[name] = stop = start + len(tensor)
            rows = found.setdefault(name, tensor.new_empty(len(ids), *tensor.shape[1:]))
            held = (start <= ids) & (ids < stop)
            rows[held] = tensor[ids[held] - start]
    for name, stop in starts.items():
        if stop != placement.num_classes:
            raise CorruptError(
                f"{paths[-1]}: the files of the head end after {stop:,} rows of {name!r}; its classes are "
                f"{placement.num_classes:,}. Restore them from a copy."
            )
    return found


def read_shards(folder: Path, placement: Placement) -> dict[str, Tensor]:
    """What a process holds of tensors that were saved by as many processes as there were; empty without any.

    Raises:
        CorruptError: a shard is missing, or has other rows than its classes.
    """
    paths = sorted(folder.glob(PATTERN))
    names = [f"shard-{shard:05d}-of-{len(paths):05d}.safetensors" for shard in range(len(paths))]
    if [path.name for path in paths] != names:
        raise CorruptError(
            f"{folder} lacks some of the shards of its classes; it holds {[path.name for path in paths]}. "
            "Restore it from a copy."
        )
    found: dict[str, Tensor] = {}
    ids = placement.ids()
    for shard, path in enumerate(paths):
        saved = Placement(placement.num_classes, len(paths), shard)
        held = saved.holds(ids)
        rows = saved.rows(ids[held])
        tensors = read_tensors(path)
        if shard and tensors.keys() != found.keys():
            raise CorruptError(f"{path} holds {sorted(tensors)}; {paths[0].name} holds {sorted(found)}.")
        for name, tensor in tensors.items():
            if not tensor.ndim:
                found[name] = tensor
                continue
            if len(tensor) != len(saved):
                raise CorruptError(
                    f"{path}: {name!r} has {len(tensor):,} rows; its classes are {len(saved):,}."
                )
            if name not in found:
                found[name] = torch.empty(len(ids), *tensor.shape[1:], dtype=tensor.dtype)
            elif found[name].shape[1:] != tensor.shape[1:] or found[name].dtype != tensor.dtype:
                raise CorruptError(f"{path}: {name!r} is of another shape or type than in {paths[0].name}.")
            found[name][held] = tensor[rows]
    return found

"""Saved rows of classes or tables, a file for each process that saved, for any number of processes to read.

Shapes: C classes.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from widemax.artifact.weights import read_tensors, write_tensors
from widemax.distributed.world import World
from widemax.encoders.placement import Placement
from widemax.errors import CorruptError
from widemax.storage import new_folder, sound


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


def write_shard(
    folder: Path, placement: Placement, tensors: Mapping[str, Tensor], *, kind: str = "shard"
) -> None:
    """Save what a process holds: its rows of some tensors, and those without axes."""
    name = f"{kind}-{placement.shard:05d}-of-{placement.num_shards:05d}.safetensors"
    write_tensors(folder / name, tensors)


@torch.no_grad()
def read_whole_rows(paths: Sequence[Path], placement: Placement, into: Mapping[str, Tensor]) -> None:
    """Fill what a process holds from tensors that one process saved, in files of consecutive classes.

    Raises:
        CorruptError: they are other tensors, or not of all classes.
    """
    ids, ends = placement.ids(), dict.fromkeys(into, 0)
    for path in paths:
        for name, tensor in read_tensors(path).items():
            target = into.get(name)
            if target is None or target.shape[1:] != tensor.shape[1:] or target.dtype != tensor.dtype:
                raise CorruptError(f"{path} holds {name!r}, which is not as it is in this head.")
            if not tensor.ndim:
                target.copy_(tensor)
                ends[name] = placement.num_classes
                continue
            start = ends[name]
            ends[name] = stop = start + len(tensor)
            held = (start <= ids) & (ids < stop)
            target[held] = tensor[ids[held] - start]
    for name, stop in ends.items():
        if stop != placement.num_classes:
            raise CorruptError(
                f"the files of the head {[path.name for path in paths]} hold {stop:,} rows of {name!r}; its "
                f"classes are {placement.num_classes:,}. Restore them from a copy."
            )


def read_shards(
    folder: Path,
    placement: Placement,
    into: Mapping[str, Tensor] | None = None,
    *,
    only: str = "",
    kind: str = "shard",
) -> dict[str, Tensor]:
    """What a process holds of tensors that were saved by as many processes as there were; empty without any.

    One file is in memory at a time.

    Args:
        folder: whose hashes were found right.
        placement: what is held.
        into: tensors to be filled, by name; others are made.
        only: what the names begin with that are wanted.
        kind: what the names of the files begin with.

    Raises:
        CorruptError: a shard is missing, or has other rows than its classes, or of another shape.
    """
    paths = sorted(folder.glob(f"{kind}-*-of-*.safetensors"))
    names = [f"{kind}-{shard:05d}-of-{len(paths):05d}.safetensors" for shard in range(len(paths))]
    if [path.name for path in paths] != names:
        raise CorruptError(
            f"{folder} lacks some of the shards of its rows; it holds {[path.name for path in paths]}. "
            "Restore it from a copy."
        )
    found = dict(into or {}) if paths else {}
    wanted: Set[str] | None = None
    for shard, path in enumerate(paths):
        saved = Placement(placement.num_classes, len(paths), shard)
        if placement.num_shards == saved.num_shards and placement.shard != shard:
            continue  # it holds none of the own classes
        wanted = _take(path, placement, saved, found, only=only, wanted=wanted)
    return found


def _take(
    path: Path,
    placement: Placement,
    saved: Placement,
    found: dict[str, Tensor],
    *,
    only: str,
    wanted: Set[str] | None,
) -> Set[str]:
    """Fill what a process holds from one file, which is let go of then, and return the names of all."""
    tensors = {name: rows for name, rows in read_tensors(path).items() if name.startswith(only)}
    if wanted is None:
        wanted = found.keys() | tensors.keys()
    if wanted != tensors.keys():
        raise CorruptError(
            f"{path} must hold {sorted(wanted)}; got {sorted(tensors)}. Restore it from a copy."
        )
    for name, tensor in tensors.items():
        if tensor.ndim and len(tensor) != len(saved):
            raise CorruptError(f"{path}: {name!r} has {len(tensor):,} rows; it must have {len(saved):,}.")
        shape = (len(placement), *tensor.shape[1:]) if tensor.ndim else ()
        if name not in found:  # else all that is put together would be in memory for a moment
            found[name] = tensor.new_empty(shape)
        target = found[name]
        # A head that was trained in bfloat16 answers in float32.
        is_widened = (tensor.dtype, target.dtype) == (torch.bfloat16, torch.float32)
        if target.shape != shape or not (target.dtype == tensor.dtype or is_widened):
            raise CorruptError(
                f"{path}: {name!r} must hold {target.dtype} of shape {tuple(target.shape[1:])} for each "
                f"row; got {tensor.dtype} of {tuple(tensor.shape[1:])}."
            )
        _fill(target, placement, tensor, saved)
    return wanted


def shape_of_shards(folder: Path, name: str, *, kind: str) -> tuple[int, int] | None:
    """The shape of a matrix whose rows lie in several files; None where there are none.

    Raises:
        CorruptError: a file lacks it.
    """
    shapes = []
    for path in sorted(folder.glob(f"{kind}-*-of-*.safetensors")):
        with sound(path), safe_open(path, "pt") as file:
            shapes.append(file.get_slice(name).get_shape())
    return (sum(num_rows for num_rows, _ in shapes), shapes[0][1]) if shapes else None


@torch.no_grad()
def _fill(target: Tensor, placement: Placement, tensor: Tensor, saved: Placement) -> None:
    """Copy the rows of the classes that both hold."""
    if placement == saved or not tensor.ndim:
        target.copy_(tensor)
    elif placement.num_shards == 1:
        target[saved.shard :: saved.num_shards] = tensor
    else:
        ids = placement.ids()
        held = saved.holds(ids)
        target[held] = tensor[saved.rows(ids[held])]

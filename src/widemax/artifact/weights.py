"""Weights as files of safetensors: all of them finite, those of a head in shards of whole rows."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from widemax.encoders import Encoder
from widemax.errors import ConfigError, CorruptError
from widemax.heads import Head
from widemax.packing import Precision, pack, unpack
from widemax.storage import saving, sound, writing_tensors

SHARD_BYTES = 2**31
ALIGNED_BYTES = 64
"""Where torch lets memory begin, a multiple of this: some processors round products of matrices by it."""
COPIED_BYTES = 2**24
"""Mapped tensors of at most so many bytes are copied where they begin elsewhere."""


def aligned(tensor: Tensor, *, most_bytes: int) -> Tensor:
    """The tensor, or a copy if it is no larger and begins where torch would not let it."""
    return tensor.clone() if tensor.data_ptr() % ALIGNED_BYTES and tensor.nbytes <= most_bytes else tensor


def read_encoder(
    folder: Path,
    encoder: Encoder,
    name: str = "encoder",
    *,
    copy: bool = True,
    held: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict,
) -> None:
    """Fill an encoder, learned or not, from its file.

    Args:
        copy: whether weights are copied from the file. Otherwise large ones are the file, mapped, until they
            are changed, and take the place of the old ones before they are read: less memory, but the file
            must stay as it is.
        held: from what the file has to what the encoder holds.

    Raises:
        CorruptError: the file is damaged, or is of another encoder.
    """
    path = folder / f"{name}.safetensors"
    with sound(path):
        tensors = held(unpack(load_file(path)))
        if not copy:
            tensors = {name: aligned(tensor, most_bytes=COPIED_BYTES) for name, tensor in tensors.items()}
        encoder.restore(tensors, copy=copy)
        check_finite(encoder.state_dict())


def read_network(path: Path, network: nn.Module) -> None:
    """Fill a network whose sizes are known from its file.

    Raises:
        CorruptError: the file is damaged, or is of another network.
    """
    tensors, own = read_tensors(path), network.state_dict()
    with sound(path):
        if any(tensors[name].dtype != own[name].dtype for name in tensors.keys() & own.keys()):
            raise CorruptError("a tensor is of another type than the network's")
        network.load_state_dict(tensors)
        check_finite(tensors)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, packed matrices as they were.

    Raises:
        CorruptError: the file is damaged, or holds numbers that are not finite.
    """
    with sound(path):
        tensors = unpack(load_file(path))
        check_finite(tensors)
    return tensors


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Refuse a state with a number that is none.

    Raises:
        CorruptError: there is one.
    """
    for name in not_finite(tensors):
        raise CorruptError(f"{name!r} holds values that are not finite")


def not_finite(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """The names of the tensors that hold infinite numbers, or none."""
    for name, tensor in tensors.items():
        # Lowest and highest take one pass; isfinite of all values makes several tensors of their size.
        bounds = tensor.aminmax() if tensor.is_floating_point() and tensor.numel() else ()
        if not all(map(torch.isfinite, bounds)):
            yield name


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Save tensors, refusing values that are not finite: a model holding them answers nothing.

    Raises:
        ConfigError: training has diverged.
    """
    for name in not_finite(tensors):
        raise ConfigError(
            f"{name!r} holds values that are not finite: training has diverged. "
            "Lower train.learning_rate and train again."
        )
    num_bytes = sum(tensor.nbytes for tensor in tensors.values())
    with saving(str(path), num_bytes=num_bytes), writing_tensors(path):
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def write_head(folder: Path, head: Head, *, precision: Precision = "float32") -> None:
    """Save a head in shards of whole rows, each at most 2 GiB: of every tensor a shard has an equal part."""
    state = head.state_dict()
    matrices = [tensor for tensor in state.values() if tensor.ndim and len(tensor)]

    def largest(num_shards: int) -> int:
        return sum(-(-len(tensor) // num_shards) * tensor[0].nbytes for tensor in matrices)

    most = max(map(len, matrices))
    num_shards = max(1, min(most, -(-largest(1) // SHARD_BYTES)))
    while num_shards < most and largest(num_shards) > SHARD_BYTES:
        num_shards += 1
    parts = {
        name: tensor.split(-(-len(tensor) // num_shards)) if tensor.ndim and len(tensor) else (tensor,)
        for name, tensor in state.items()
    }
    for shard in range(num_shards):
        part = {name: rows[shard] for name, rows in parts.items() if shard < len(rows)}
        path = folder / f"head-{shard:05d}-of-{num_shards:05d}.safetensors"
        write_tensors(path, pack(part, precision=precision))


@torch.no_grad()
def read_head(folder: Path, head: Head, *, copy: bool = True) -> None:
    """Fill a head from its shards, one shard in memory at a time, and what has a learned size whole.

    Args:
        copy: whether weights are copied; otherwise those of a single shard are the file, mapped, if large.

    Raises:
        CorruptError: shards are missing or their shapes disagree with the head.
    """
    state = head.state_dict()
    paths = sorted(folder.glob("head-*-of-*.safetensors"))
    names = {f"head-{shard:05d}-of-{len(paths):05d}.safetensors" for shard in range(len(paths))}
    if not paths or {path.name for path in paths} != names:
        raise CorruptError(f"{folder} lacks some of the head's shards; it holds {[p.name for p in paths]}.")
    filled = dict.fromkeys(state, 0)
    learned: dict[str, list[Tensor]] = {name: [] for name in head.learned_sizes}
    for path in paths:
        parts = read_tensors(path)
        if not set(parts) <= set(state):
            raise CorruptError(f"{path} holds tensors this head does not have: {sorted(parts)}.")
        for name, part in parts.items():
            start, whole = filled[name], state[name]
            if name in learned and part.ndim == whole.ndim and part.dtype == whole.dtype:
                learned[name].append(part)
                continue
            filled[name] += part.shape[0] if part.ndim else 1
            target = whole[start : filled[name]] if whole.ndim else whole
            if target.shape != part.shape or target.dtype != part.dtype:
                raise CorruptError(
                    f"{path}: {name!r} has shape {tuple(part.shape)} of {part.dtype}; "
                    f"{tuple(target.shape)} of {target.dtype} was expected."
                )
            if copy or len(paths) > 1:
                target.copy_(part)
            else:
                own = aligned(part, most_bytes=COPIED_BYTES)
                head.load_state_dict({name: own}, strict=False, assign=True)
    for name, tensor in state.items():
        if name not in learned and filled[name] != (tensor.shape[0] if tensor.ndim else 1):
            raise CorruptError(
                f"{paths[-1]}: the shards end before row {tensor.shape[0] if tensor.ndim else 0} of {name!r}."
            )
    if learned:
        sizes = {name: torch.cat([state[name][:0], *parts]) for name, parts in learned.items()}
        head.load_state_dict(sizes, strict=False)
    for holds, law in head.laws():
        if not holds:
            raise CorruptError(f"{paths[0]}: the head's state must have {law}. Restore it from a copy.")

"""A device that is pretended: torch takes its tensors for an accelerator's, the numbers are a CPU's.

Operations that mix it with the CPU fail, as they do on an accelerator, and those for which a program would
wait until an accelerator has finished are told by ``waits``. Its numbers are right, so that a step on it can
be held to the same step on the CPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils import backend_registration

CPU = torch.device("cpu")
WAITS = {
    "_unique2": "unique",
    "unique_dim": "unique",
    "unique_consecutive": "unique",
    "nonzero": "select",
    "masked_select": "select",
    "bincount": "count",
    "_coalesce": "unique",
    "equal": "read",
    "_local_scalar_dense": "read",
}
"""Operations whose result has a size that depends on numbers, or is a number of the host."""
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}

told: list[str] = []


class Backend:
    """What torch asks of a device's module."""

    def is_available(self) -> bool:
        return True

    is_initialized = is_available

    def _is_in_bad_fork(self) -> bool:
        return False

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def manual_seed_all(self, seed: int) -> None:
        """Its generators are seeded one by one."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


backend_registration._setup_privateuseone_for_python_backend("pretended", backend_module=Backend())
DEVICE = torch.device("pretended:0")


class OnDevice(Tensor):
    """A tensor there, ``raw`` its numbers."""

    raw: Tensor
    __torch_function__: ClassVar[Any] = nn.Parameter.__torch_function__  # none: all is found below

    @staticmethod
    def __new__(cls, raw: Tensor) -> "OnDevice":
        strided = {}
        if raw.layout == torch.strided:
            strided = {"strides": raw.stride(), "storage_offset": raw.storage_offset()}
        made: OnDevice = Tensor._make_wrapper_subclass(
            cls, raw.size(), dtype=raw.dtype, device=DEVICE, layout=raw.layout, **strided
        )
        made.raw = raw
        return made

    def tolist(self) -> Any:
        told.append("read")
        return self.raw.tolist()

    def __repr__(self) -> str:
        return f"OnDevice({self.raw!r})"

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(op, *args, **(kwargs or {}))


def computed(op: Any, *args: Any, **kwargs: Any) -> Any:
    """What an operation gives there; what it waits for is told."""
    name, target = op.overloadpacket.__name__, kwargs.get("device")
    tensors = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    here = {id(x.raw): x for x in tensors if isinstance(x, OnDevice)}
    elsewhere = [x for x in tensors if not isinstance(x, OnDevice)]
    stays = target is None or torch.device(target).type == DEVICE.type
    if name in ("_to_copy", "copy_"):
        stays = stays and (name == "_to_copy" or isinstance(args[0], OnDevice))
        if elsewhere or not stays:
            told.append("copy")
    elif any(x.dim() for x in elsewhere):
        raise AssertionError(f"{op} takes tensors of both devices, of shapes {[x.shape for x in tensors]}")
    if name in WAITS:
        told.append(WAITS[name])
    if name == "repeat_interleave" and kwargs.get("output_size") is None:
        told.append("repeat")
    if name in INDEXING and any(x is not None and x.dtype == torch.bool for x in args[1]):
        told.append("select")
    if target is not None:
        kwargs["device"] = CPU
    raw_args, raw_kwargs = pytree.tree_map_only(OnDevice, lambda x: x.raw, (args, kwargs))
    found = op(*raw_args, **raw_kwargs)
    if not stays:
        return args[0] if name == "copy_" else found
    return pytree.tree_map_only(Tensor, lambda x: here[id(x)] if id(x) in here else OnDevice(x), found)


def arange(*args: Any, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
    return OnDevice(torch.arange(*args, dtype=dtype))


class Generator(torch.Generator):
    """Randomness of a device, which draws as a CPU's does."""

    device = DEVICE

    def __new__(cls, device: torch.device = DEVICE) -> torch.Generator:
        return super().__new__(cls if torch.device(device) == DEVICE else cls.__base__)


every_operation = torch.library.Library("_", "IMPL")
every_operation.fallback(computed, "PrivateUse1")
every_operation.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
ranges = torch.library.Library("aten", "IMPL")
for overload in ("arange", "arange.start", "arange.start_step"):
    # Torch would make them with an empty tensor that grows, which has no place for what grew.
    ranges.impl(overload, arange, "PrivateUse1")


def place(module: nn.Module) -> None:
    """Move the parameters and buffers of a module there."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            setattr(part, name, nn.Parameter(OnDevice(parameter.detach().clone())))
        for name, buffer in part.named_buffers(recurse=False):
            setattr(part, name, OnDevice(buffer.detach().clone()))


@contextmanager
def waits() -> Iterator[list[str]]:
    """What is waited for in a block, in order."""
    told.clear()
    yield told

"""Matrices in fewer bytes on the disk: 16 or 8 bits a weight, and no rows that say nearly nothing.

A packed matrix ``name`` of F rows and D columns is stored as ``name@kept``, which of its rows are not zero,
and these rows as ``name@float32``, ``name@float16`` or ``name@int8`` with ``name@scale``, one factor a row.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from widemax.errors import ConfigError, CorruptError

Precision: TypeAlias = Literal["float32", "float16", "int8"]


def pack(tensors: Mapping[str, Tensor], *, precision: Precision, keep: float = 1.0) -> dict[str, Tensor]:
    """The same tensors with float32 matrices stored in ``precision``; all others as they are.

    Args:
        keep: the share of Σ‖row‖² of each matrix that stays; its shortest rows become zero and take no room.

    Raises:
        ConfigError: a weight is larger than float16 can hold.

    Example:
        >>> packed = pack({"weight": torch.tensor([[3.0, -4.0], [0.0, 0.0]])}, precision="float16")
        >>> {name: tensor.tolist() for name, tensor in packed.items()}
        {'weight@kept': [True, False], 'weight@float16': [[3.0, -4.0]]}
    """
    packed = {}
    for name, tensor in tensors.items():
        if (precision, keep) == ("float32", 1.0) or tensor.dtype != torch.float32 or tensor.dim() != 2:
            packed[name] = tensor
            continue
        packed[f"{name}@kept"] = kept_F = _rows_to_keep(tensor, keep)
        rows_RD = tensor[kept_F]
        if precision == "int8":
            scale_R1 = rows_RD.abs().amax(1, keepdim=True) / 127
            packed[f"{name}@scale"] = scale_R1
            rows_RD = (rows_RD / scale_R1).round()
        packed[f"{name}@{precision}"] = rows_RD = rows_RD.to(getattr(torch, precision))
        if precision == "float16" and not torch.isfinite(rows_RD).all():
            raise ConfigError(f"{name!r} holds weights above 65,504, float16's largest; choose int8.")
    return packed


def unpack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``pack``, in float32.

    Raises:
        CorruptError: a part of a packed matrix is missing, or parts disagree.

    Example:
        >>> unpack(pack({"weight": torch.tensor([[3.0, -4.0], [0.0, 0.0]])}, precision="int8"))
        {'weight': tensor([[ 2.9921, -4.0000],
                [ 0.0000,  0.0000]])}
    """
    whole = {name: tensor for name, tensor in tensors.items() if "@" not in name}
    for name in (key.removesuffix("@kept") for key in tensors if key.endswith("@kept")):
        kept_F = tensors[f"{name}@kept"]
        stored = [
            f"{name}@{precision}" for precision in get_args(Precision) if f"{name}@{precision}" in tensors
        ]
        rows_RD = tensors[stored[0]] if len(stored) == 1 else torch.empty(0)
        num_scales = len(rows_RD) if stored == [f"{name}@int8"] else 0
        scale_R1 = tensors.get(f"{name}@scale", torch.empty(0, 1))
        if (
            kept_F.dtype != torch.bool
            or rows_RD.dim() != 2
            or len(rows_RD) != int(kept_F.sum())
            or scale_R1.shape != (num_scales, 1)
        ):
            raise CorruptError(f"the parts of the packed matrix {name!r} do not agree.")
        whole[name] = torch.zeros(len(kept_F), rows_RD.shape[1])
        whole[name][kept_F] = rows_RD * scale_R1 if num_scales else rows_RD.float()
    return whole


def _rows_to_keep(matrix_FD: Tensor, keep: float) -> Tensor:
    """Rows that are not zero; the longest of them, until they hold their share of Σ‖row‖²."""
    squares_F = matrix_FD.double().square().sum(1)
    if keep == 1.0:
        return squares_F > 0
    longest_F = squares_F.argsort(descending=True, stable=True)
    held_F = squares_F[longest_F].cumsum(0)
    num_kept = int((held_F < keep * held_F[-1:]).sum()) + 1
    kept_F = torch.zeros(len(matrix_FD), dtype=torch.bool)
    kept_F[longest_F[:num_kept]] = True
    return kept_F & (squares_F > 0)

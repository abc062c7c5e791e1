"""A small linear layer and targets for it. Shapes: B rows, C classes, D hidden."""

import torch

from widemax.kernels import Pairs

B, C, D = 6, 23, 4


def layer(*, dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(*shape, dtype=dtype, generator=generator) for shape in ((B, D), (C, D), (C,))]
    tensors[1] *= scale
    return [tensor.requires_grad_() for tensor in tensors]


def targets():
    """Row 1 has three labels, row 3 none, rows 4 and 5 the same one."""
    rows = torch.tensor([0, 1, 1, 1, 2, 4, 5])
    return Pairs(rows, torch.tensor([22, 3, 0, 9, 0, 7, 7])), torch.tensor([1, 0.2, 0.3, 0.5, 1, 1, 0.5])

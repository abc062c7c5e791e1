"""The registry of auxiliary objectives.

A registered auxiliary is an ``nn.Module`` called on two arguments of B rows: what the model gave, and what it
should agree with. It returns one loss a row [B], in float32 at least and already times its ``strength``, so
that it is added to the main loss before rows are reduced. What it learns of its own it keeps in its state
dict. Keyword-only parameters of the constructor are the options of the registry.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from widemax.registry import Registry

auxiliaries: Registry[Callable[..., nn.Module]] = Registry("auxiliary", "widemax.auxiliaries")


def at_least_float32(x: Tensor) -> Tensor:
    """The tensor itself in float32 or float64, anything narrower in float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))

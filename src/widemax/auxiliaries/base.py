"""The registry of auxiliary objectives.

A registered auxiliary is an ``nn.Module`` called on two arguments of B rows: what the model gave, and what it
should agree with. It returns one loss a row [B], in float32 at least and already times its ``strength``, so
that it is added to the main loss before rows are reduced. What it learns of its own it keeps in its state
dict. Keyword-only parameters of the constructor are the options of the registry.
"""

from collections.abc import Callable

from torch import nn

from widemax.registry import Registry

auxiliaries: Registry[Callable[..., nn.Module]] = Registry("auxiliary", "widemax.auxiliaries")

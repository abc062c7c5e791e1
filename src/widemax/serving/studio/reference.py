"""What the page says of the functions it names: their signatures and docstrings."""

import inspect
from importlib import import_module
from typing import Any

from fastapi import APIRouter

from widemax.errors import UnknownNameError, did_you_mean

NAMES = (
    "widemax.auxiliaries.CenterLoss",
    "widemax.evaluate",
    "widemax.heads.ExactHead",
    "widemax.heads.exact_softmax_loss",
    "widemax.heads.sampled_softmax_loss",
    "widemax.losses.crammer_singer",
    "widemax.losses.cross_entropy",
    "widemax.losses.weston_watkins",
    "widemax.numerics.sigmoid",
    "widemax.numerics.softmax",
    "widemax.optim.LazyAdam",
    "widemax.samplers.build_sampler",
)
"""The functions and classes that the page names."""

reference = APIRouter(tags=["studio"])


@reference.get("/reference/{name}")
def describe(name: str) -> dict[str, Any]:
    """The signature and the docstring of a function that the page names."""
    if name not in NAMES:
        raise UnknownNameError(f"Studio names no function {name!r}; {did_you_mean(name, list(NAMES))}")
    module, _, own = name.rpartition(".")
    member = getattr(import_module(module), own)
    signature = f"{own}{inspect.signature(member)}"
    return {"name": name, "text": f"{signature}\n\n{inspect.getdoc(member)}"}

"""What torch.compile leaves as it is."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
Result = TypeVar("Result")


def not_traced(function: Callable[P, Result]) -> Callable[P, Result]:
    """A function whose steps depend on values: torch.compile calls it between its graphs.

    ``torch.compiler.disable`` does the same, but takes seconds to import where nothing is compiled.

    Example:
        >>> not_traced(len)([1, 2])
        2
    """
    apart: Callable[P, Result] = torch._disable_dynamo(function)  # type: ignore[attr-defined]  # torch's own

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Result:
        return (apart if torch.compiler.is_compiling() else function)(*args, **kwargs)

    return call

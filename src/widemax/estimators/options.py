"""Types of the options of estimators, checked when fitting, as scikit-learn wants it."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, dataclass_transform

import numpy as np
from pydantic import Field

from widemax.options import Options

Positive = Annotated[float, Field(gt=0.0)]
PositiveOrInf = Annotated[float, Field(gt=0.0, allow_inf_nan=True)]
NonNegative = Annotated[float, Field(ge=0.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)] | np.random.RandomState | None

Estimator = TypeVar("Estimator")


def check_options(estimator: Any) -> None:
    """Hold the options of an estimator to the annotations of its constructor.

    Raises:
        OptionError: says which option must be what.
    """
    options = _options_of(estimator.__class__)
    for name in options.keywords:
        options.check(name, getattr(estimator, name))


def check_names(build: Callable[..., None]) -> Callable[..., None]:
    """The same constructor, which refuses options that it does not have.

    Values are checked when fitting: scikit-learn wants them kept as they were given.

    Raises:
        OptionError: from then on, for an argument that does not exist, or by position.
    """
    options = Options(build, of=build.__qualname__.removesuffix(".__init__"))

    @functools.wraps(build)
    def init(*args: Any, **keywords: Any) -> None:
        options.check_names(args, keywords)
        build(*args, **keywords)

    return init


@dataclass_transform(kw_only_default=True, eq_default=False)
def with_options(kind: type[Estimator]) -> type[Estimator]:
    """The same class, with a constructor that takes its annotated fields as options, by keyword."""
    kind = dataclass(kw_only=True, eq=False, repr=False)(kind)
    kind.__init__ = check_names(kind.__init__)  # type: ignore[method-assign]  # of the same signature
    return kind


@functools.cache
def _options_of(kind: type) -> Options:
    return Options(kind.__init__, of=kind.__name__)  # type: ignore[misc]  # of this very class

"""Types of the options of estimators, checked when fitting, as scikit-learn wants it."""

import functools
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform

import numpy as np
from pydantic import Field

from widemax.docstrings import inherit
from widemax.options import Options

Positive = Annotated[float, Field(gt=0.0)]
PositiveOrInf = Annotated[float, Field(gt=0.0, allow_inf_nan=True)]
NonNegative = Annotated[float, Field(ge=0.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)] | np.random.RandomState | None
Device = Literal["auto", "cpu", "cuda"]

Estimator = TypeVar("Estimator")


def check_options(estimator: Any) -> None:
    """Hold the options of an estimator to the annotations of its constructor.

    Raises:
        OptionError: says which option must be what.
    """
    options = _options_of(estimator.__class__)
    for name in options.keywords:
        options.check(name, getattr(estimator, name))


def check_names(kind: type, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    """Refuse options that an estimator does not have; scikit-learn has their values checked when fitting.

    Raises:
        OptionError: an argument that does not exist, or stands by position.
    """
    _options_of(kind).check_names((kind, *args), keywords)


@dataclass_transform(kw_only_default=True, eq_default=False)
def with_options(kind: type[Estimator]) -> type[Estimator]:
    """The same class, with a constructor that takes its annotated fields as options, by keyword.

    Its docstring explains those of its bases too.
    """
    made = dataclass(kw_only=True, eq=False, repr=False)(kind)
    inherit(made, "Args", "Attributes")
    return made


@functools.cache
def _options_of(kind: type) -> Options:
    return Options(kind.__init__, of=kind.__name__)  # type: ignore[misc]  # of this very class

"""Public data sets; one file a set."""

from typing import NoReturn

from widemax.data.sets.base import PublicSet, SourceFile
from widemax.registry import Registry

__all__ = ["PublicSet", "SourceFile", "sets"]

sets: Registry[type[PublicSet]] = Registry("data set", "widemax.data.sets")


def __getattr__(name: str) -> NoReturn:
    hint = "; it is PublicSet now" if name == "DataSet" else ""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")

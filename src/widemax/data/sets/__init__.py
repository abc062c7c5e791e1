"""Public data sets; one file a set."""

from typing import NoReturn

from widemax.data.sets.base import PublicSet
from widemax.registry import Registry

__all__ = ["PublicSet", "sets"]

sets: Registry[type[PublicSet]] = Registry("data set", "widemax.data.sets")


def __getattr__(name: str) -> NoReturn:
    now = {"DataSet": "; it is PublicSet now", "SourceFile": "; PublicSet.files maps names to sha256 now"}
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{now.get(name, '')}")

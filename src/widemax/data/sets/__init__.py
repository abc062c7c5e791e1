"""Public data sets; one file a set."""

from widemax.data.sets.base import DataSet, SourceFile
from widemax.registry import Registry

__all__ = ["DataSet", "SourceFile", "sets"]

sets: Registry[type[DataSet]] = Registry("data set", "widemax.data.sets")

"""The exact k best of many vectors by an 8-bit scan with a proven bound."""

from widemax.search.index import ExactIndex, Nearest

__all__ = ["ExactIndex", "Nearest"]

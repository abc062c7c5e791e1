"""Which columns of a file of events mean what, and the names by which they are recognized."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

_USUAL = {
    "user": r"(user|customer|visitor|reviewer|member|session)(id)?|uid",
    "item": r"(item|movie|product|article|song|track|book|video|place|artist)(id)?|isbn|asin|sku|iid",
    "time": r"(unix)?(review)?(event)?time(stamp)?|ts|date(time)?|createdat",
}


@dataclass(frozen=True)
class EventColumns:
    """Which columns of an event file mean what.

    Args:
        user, item: who, and what.
        time: when, as a number or a date.
        weight: how much; pairs of user and item whose weights add up to 0 or less are no interaction.
    """

    user: str
    item: str
    time: str | None = None
    weight: str | None = None

    @classmethod
    def recognized(cls, names: Sequence[str]) -> Self | None:
        """What the usual names of users, items and times say; None where there are none.

        Example:
            >>> EventColumns.recognized(["userId", "movieId", "rating", "timestamp"])
            EventColumns(user='userId', item='movieId', time='timestamp', weight=None)
        """
        bare = {name: re.sub("[^a-z]", "", name.lower()) for name in reversed(list(names))}
        found = {
            meaning: name
            for meaning, pattern in _USUAL.items()
            for name in bare
            if re.fullmatch(pattern, bare[name])
        }
        return cls(**found) if {"user", "item"} <= found.keys() else None

    @property
    def options(self) -> str:
        """The options of ``widemax train`` that name them."""
        named = {name: value for name, value in vars(self).items() if value}
        named["split"] = "time:0.9" if self.time else "random:0.9"
        return " ".join(f"--{name} {shlex.quote(value)}" for name, value in named.items())

"""Every error widemax raises on purpose.

::

    WidemaxError
    ├── UsageError (ValueError)           exit 2   the call is wrong
    │   ├── ConfigError                            a key or value of a config
    │   │   └── OptionError (TypeError)            an option of a call or of a member
    │   ├── UnknownNameError (LookupError)         a name no registry knows
    │   ├── ShapeError                             an array of the wrong shape
    │   └── ArgumentError (TypeError)              an argument of the wrong kind
    ├── DataError (ValueError)            exit 3   the data are wrong
    │   ├── BadRowError                            one row, named by file and line
    │   └── LabelError                             a label outside the classes
    ├── ResourceError (OSError)           exit 4   memory, disk or time ran out
    ├── PeerError (ConnectionError)       exit 6   another process of the same training is gone
    └── CorruptError (OSError)            exit 5   a saved file is damaged or unsafe

Each message is one plain sentence that says which thing, what it must be, what it was, and the way out.
"""

import re
from difflib import get_close_matches
from reprlib import Repr
from typing import Any, ClassVar

_SYNONYMS = {
    "dim": "axis",
    "axes": "axis",
    "mask": "where",
    "attn_mask": "where",
    "tau": "temperature",
    "rng": "generator",
    "lr": "learning_rate",
    "learning_rate": "lr",
}
"""What other libraries, or other parts of this one, call an argument."""

_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 80


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class WidemaxError(Exception):
    """Base of all errors raised on purpose; ``exit_code`` is what the command line returns."""

    exit_code: ClassVar[int] = 1


class UsageError(WidemaxError, ValueError):
    """The call or the command line is wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """A key or value of a config is wrong."""


class UnknownNameError(UsageError, LookupError):
    """A name that no registry knows."""


class ShapeError(UsageError):
    """An array has the wrong shape."""


class ArgumentError(UsageError, TypeError):
    """An argument is of the wrong kind, or unknown."""


class OptionError(ConfigError, ArgumentError):
    """An option does not exist, is of the wrong type or out of range; a ValueError and a TypeError."""


class DataError(WidemaxError, ValueError):
    """The data cannot be used as they are."""

    exit_code = 3


class BadRowError(DataError):
    """One row is unusable; the message names its file and line."""


class LabelError(DataError):
    """A label lies outside the classes."""


class ResourceError(WidemaxError, OSError):
    """Memory, disk or time does not suffice."""

    exit_code = 4


class PeerError(WidemaxError, ConnectionError):
    """Another process of the same training has ended, or does not answer."""

    exit_code = 6


class CorruptError(WidemaxError, OSError):
    """A saved file is damaged, incomplete or unsafe to load."""

    exit_code = 5


def reason_of(error: BaseException) -> str:
    """The first sentence of what a library says, without the advice after it, or the name of its error.

    Example:
        >>> reason_of(ValueError("Exceeds the limit (4300 digits); use sys.set_int_max_str_digits()"))
        'Exceeds the limit (4300 digits)'
    """
    first_line = (str(error).splitlines() or [type(error).__name__])[0]
    ends = r"\. " if isinstance(error, WidemaxError) else r"\. |; "
    return re.split(ends, first_line)[0].rstrip(".")


def visible(text: str) -> str:
    r"""A text whose control characters are written as escapes, so that none moves a cursor or gives an order.

    Line ends and tabs stay; what turns the direction of writing, and halves of characters, count too.

    Example:
        >>> visible("tea \x1b]0;owned\x07")
        'tea \\x1b]0;owned\\x07'
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def counted(count: int, noun: str) -> str:
    """A number with its noun.

    Example:
        >>> counted(1, "bad row"), counted(2_000, "class")
        ('1 bad row', '2,000 classes')
    """
    plural = "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}" + plural * (count != 1)


def nearest(word: Any, known: list[str]) -> str | None:
    """The known word that was meant, as far as can be told."""
    if _SYNONYMS.get(word) in known:
        return _SYNONYMS[word]
    return next(iter(get_close_matches(str(word), known, n=1)), None)


def did_you_mean(word: Any, known: list[str]) -> str:
    """The end of an error sentence: the nearest known word, or all of them."""
    near = nearest(word, known)
    return f"did you mean {near!r}?" if near else f"choose one of {known}."


def shown(value: Any) -> str:
    """What an error sentence says was got: the value, shortened; of an array or frame its type and shape.

    Example:
        >>> shown(list(range(10**6)))
        '[0, 1, 2, 3, 4, 5, ...]'
    """
    if getattr(value, "shape", ()):
        return f"a {type(value).__name__} of shape {tuple(value.shape)}"
    text = _SHORT.repr(value)
    return text if "\n" not in text else f"a {type(value).__name__}"

"""How a check runs its laws, what it raises, and what it returns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor

from widemax.errors import WidemaxError


class ConformanceError(WidemaxError, AssertionError):
    """A member breaks a law of its room; ``law`` is the law's name."""

    def __init__(self, subject: str, law: str, found: str) -> None:
        super().__init__(f"{subject} breaks the law {law!r}: {found}")
        self.law = law


class NotApplicable(Exception):  # noqa: N818 - nothing is wrong
    """Raised by a law that has nothing to say about this member; the message is the reason."""


@dataclass(frozen=True)
class Report:
    """The laws a member was held to.

    Attributes:
        subject: the member, as messages call it.
        held: law → what was found.
        skipped: law → why it was not asked.

    Example:
        >>> print(Report("mine", {"gradient": "is that of the value"}, {"ignored rows": "no option"}))
        mine
          holds    gradient: is that of the value
          skipped  ignored rows: no option
    """

    subject: str
    held: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"  holds    {law}: {found}" for law, found in self.held.items()]
        lines += [f"  skipped  {law}: {reason}" for law, reason in self.skipped.items()]
        return "\n".join([self.subject, *lines])


def name_of(function: Callable[..., object]) -> str:
    """What messages call a function, be it wrapped in ``functools.partial``.

    Example:
        >>> name_of(partial(max, 1))
        'max'
    """
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__name__", type(function).__name__)


def run_laws(subject: str, laws: Mapping[str, Callable[[], str]]) -> Report:
    """Ask one law after the other, each of which answers with what it found.

    Raises:
        ConformanceError: the first law that is broken, or in which the member raised an error of its own.

    Example:
        >>> run_laws("two", {"even": lambda: "divides by 2"}).held
        {'even': 'divides by 2'}
    """
    report = Report(subject)
    for name, law in laws.items():
        try:
            report.held[name] = law()
        except NotApplicable as reason:
            report.skipped[name] = str(reason)
        except AssertionError as failure:
            raise ConformanceError(subject, name, str(failure)) from None
        except Exception as error:
            raise ConformanceError(subject, name, f"it raised {type(error).__name__}: {error}") from error
    return report


def require(holds: bool, found: str, *, cause: str) -> None:
    """Break the law unless it holds.

    Example:
        >>> require(True, "1 + 1 is 2", cause="")
    """
    if not holds:
        raise broken(found, cause=cause)


def broken(found: str, *, cause: str) -> AssertionError:
    """What a broken law raises: what was expected and what was found, and a usual cause."""
    return AssertionError(f"{found} A usual cause: {cause}.")


def require_close(what: str, actual: Tensor, expected: Tensor, *, tolerance: float, cause: str) -> float:
    """Break the law unless two tensors agree.

    |actual − expected| ≤ tolerance · (1 + max |expected|), entry by entry; infinities must be the same.

    Returns:
        The largest difference.

    Example:
        >>> import torch
        >>> require_close("the sum", torch.ones(2), torch.ones(2), tolerance=1e-12, cause="")
        0.0
    """
    require(
        actual.shape == expected.shape,
        f"{what} must have shape {tuple(expected.shape)}, found {tuple(actual.shape)}.",
        cause="a reduction over the wrong axis",
    )
    actual, expected = actual.detach().double().flatten(), expected.detach().double().flatten()
    if not len(actual):
        return 0.0
    gap = (actual - expected).abs().masked_fill(actual == expected, 0.0)
    limit = tolerance * (1 + float(expected.abs().nan_to_num(posinf=0.0).max()))
    worst = int(gap.nan_to_num(nan=float("inf")).argmax())
    require(
        bool((gap <= limit).all()),
        f"{what} must be {float(expected[worst]):.12g}, found {float(actual[worst]):.12g} "
        f"(allowed difference {limit:.2g}).",
        cause=cause,
    )
    return float(gap.max())

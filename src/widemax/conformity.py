"""How probable a model held the right labels of rows that it had not learned; what that promises of others.

Shapes: P labels of all rows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from widemax.errors import CorruptError, UsageError, counted
from widemax.options import AtLeast1, checked

MOST_LABELS = 2**16
"""Of a run are kept, a random part of them: a share of theirs is then known to 0.2 %."""
SLACK = 1e-9
"""Sums of shares such as 1/3 are not exact."""
ROUNDING = 1e-5
"""Rows that are alike are answered with probabilities so close, whatever stands beside them."""
KINDS = {"probs": np.float32, "ranks": np.int32, "shares": np.float32}
"""Of the arrays that are saved."""


@checked
@dataclass(frozen=True, eq=False)
class Conformity:
    """Of each right label its probability, its rank, and what share of its row's labels it is.

    A label of which the probability is not known, as training never saw it, is left out; its row counts.

    Args:
        probs_P: from 0 to 1.
        ranks_P: 1-based, among all classes.
        shares_P: 1 where a row has one label.
        num_rows: how many rows have labels.

    Source: Angelopoulos, Bates, Fisch, Lei, Schuster, Conformal Risk Control, ICLR 2024. Where each row has
    one label, split conformal sets: Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World (2005).

    Example:
        >>> conformity = Conformity(np.array([0.9, 0.6, 0.2]), np.array([1, 1, 2]), np.ones(3), num_rows=3)
        >>> round(conformity.covering(0.5), 3), round(conformity.covering(0.75), 3)
        (0.6, 0.2)
    """

    probs_P: NDArray[np.floating]
    ranks_P: NDArray[np.integer]
    shares_P: NDArray[np.floating]
    num_rows: int

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Those of all rows together."""
        none = np.empty(0)
        return cls(
            np.concatenate([none, *(part.probs_P for part in parts)]),
            np.concatenate([none.astype(int), *(part.ranks_P for part in parts)]),
            np.concatenate([none, *(part.shares_P for part in parts)]),
            sum(part.num_rows for part in parts),
        )

    @checked
    def covering(self, coverage: Annotated[float, Field(gt=0, lt=1)], *, k: AtLeast1 | None = None) -> float:
        """The highest threshold whose labels hold, in the mean of new rows, such a share of the right ones.

        The promise is of rows as these, which training has not seen; the mean counts each row that has labels
        alike.

        Args:
            coverage: the share.
            k: how many labels a row is given at most.

        Raises:
            UsageError: the k best labels do not hold so many, or the rows are too few to say.
        """
        given_P = self.ranks_P <= (k or math.inf)
        probs_P = self.probs_P[given_P]
        order_P = np.argsort(-probs_P, kind="stable")
        covered_P = self.shares_P[given_P][order_P].cumsum(dtype=np.float64)
        # One more row, of which nothing might be covered, stands for the new ones.
        place = int(np.searchsorted(covered_P, coverage * (self.num_rows + 1) - SLACK))
        if place == len(covered_P):
            most = (covered_P[-1] if len(covered_P) else 0.0) / (self.num_rows + 1)
            raise UsageError(
                f"of the labels of {counted(self.num_rows, 'row')} too few are among the best "
                f"predictions for coverage {coverage:g}; ask for {math.floor(1000 * most) / 1000:g} at most, "
                f"or give more rows{' or a larger k' if k else ''}."
            )
        return float(probs_P[order_P[place]]) * (1 - ROUNDING)

    def some(self, *, seed: int) -> Self:
        """At most ``MOST_LABELS`` of them, drawn at random; each then stands for several."""
        if len(self.probs_P) <= MOST_LABELS:
            return self
        chosen = np.random.default_rng(seed).choice(len(self.probs_P), MOST_LABELS, replace=False)
        parts = self.probs_P[chosen], self.ranks_P[chosen], self.shares_P[chosen]
        # By their shares, not their number: labels of many rows are never more than these rows have.
        return type(self)(*parts, math.ceil(self.num_rows * parts[2].sum() / self.shares_P.sum()))

    def state(self) -> dict[str, NDArray[Any]]:
        """All of it but the number of rows, for a file."""
        columns = self.probs_P, self.ranks_P, self.shares_P
        return {name: column.astype(KINDS[name]) for name, column in zip(KINDS, columns, strict=True)}

    @classmethod
    def of_state(cls, state: Mapping[str, NDArray[Any]], *, num_rows: int) -> Self:
        """The inverse of :meth:`state`.

        Raises:
            CorruptError: arrays are missing, or do not belong together.
        """
        if fits := {name: column.dtype for name, column in state.items()} == KINDS:
            probs_P, ranks_P, shares_P = (state[name] for name in KINDS)
            fits = probs_P.ndim == 1 and probs_P.shape == ranks_P.shape == shares_P.shape
            fits = fits and all(((part >= 0) & (part <= 1)).all() for part in (probs_P, shares_P))
            fits = fits and bool((ranks_P >= 1).all()) and shares_P.sum(dtype=np.float64) < num_rows + 0.5
        if not fits:
            raise CorruptError("the held-out labels do not belong together; restore them from a copy")
        return cls(probs_P, ranks_P, shares_P, num_rows)

"""How often each id came, in a table of fixed size. Shapes: N ids, R rows of cells, W cells a row."""

import torch
from torch import Tensor

from widemax.errors import ConfigError
from widemax.options import checked


@checked
class CountMinSketch:
    """Counts any int64 ids in R·W cells; an estimate is never below the true count.

    Every row adds an id to one of its cells; the estimate is the least of the id's R cells, so only ids that
    share a cell in every row add to it. In a row, the excess is total / W on average; the estimate exceeds
    the count by more than e·total / W with probability e^−R at most, and not at all if some row keeps the id
    apart.

    The cell is taken from the upper bits of a_r·low + b_r·high + c_r mod 2^64, where low and high are the
    halves of the id. Such hashes are pairwise independent, which is what the bounds rest on, and the same in
    every process.

    Args:
        width: W, a power of two up to 2^32.
        depth: R.
        seed: decides a, b and c.

    Attributes:
        total: how many ids have been added.

    Raises:
        ConfigError: a width that is no power of two, or no rows.

    Example:
        >>> sketch = CountMinSketch(1024, 4)
        >>> sketch.add(torch.tensor([7, 7, -(2**60)]))
        >>> sketch.estimate(torch.tensor([7, -(2**60), 8])), sketch.total
        (tensor([2, 1, 0]), 3)

    Source: Cormode, Muthukrishnan 2005, "An improved data stream summary: the count-min sketch and its
    applications", Theorem 1; Thorup 2015, "High speed hashing for integers and strings", multiply-shift of
    vectors.
    """

    def __init__(self, width: int, depth: int, *, seed: int = 0) -> None:
        if depth < 1 or not 1 <= width <= 2**32 or width & (width - 1):
            raise ConfigError(
                "a sketch's width must be a power of two up to 2^32 and its depth 1 or more; "
                f"got width {width} and depth {depth}."
            )
        self.total = 0
        generator = torch.Generator().manual_seed(seed)
        self._factors_3R = torch.randint(-(2**63), 2**63 - 1, (3, depth), generator=generator)
        self._counts_RW = torch.zeros(depth, width, dtype=torch.int64)

    def add(self, ids: Tensor) -> None:
        """Counts every id once for each time it stands in ``ids``, of any shape."""
        cells_RN = self._cells(ids.reshape(-1))
        self._counts_RW.scatter_add_(1, cells_RN, torch.ones_like(cells_RN))
        self.total += ids.numel()

    def estimate(self, ids: Tensor) -> Tensor:
        """int64 counts of ids, in the shape of ``ids``: the true ones or more."""
        cells_RN = self._cells(ids.reshape(-1))
        return self._counts_RW.gather(1, cells_RN).amin(0).view(ids.shape)

    def merge(self, other: "CountMinSketch") -> None:
        """Adds the counts of another sketch, as if its ids had been added here.

        Raises:
            ConfigError: the other sketch has another width, depth or seed.
        """
        same_cells = self._counts_RW.shape == other._counts_RW.shape
        if not same_cells or not torch.equal(self._factors_3R, other._factors_3R.to(self._factors_3R.device)):
            raise ConfigError("sketches to merge must have the same width, depth and seed; make both alike.")
        self._counts_RW += other._counts_RW.to(self._counts_RW.device)
        self.total += other.total

    def state(self) -> dict[str, Tensor]:
        """The cells and the hashes that lead to them."""
        return {"counts": self._counts_RW.clone(), "factors": self._factors_3R.clone()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go back to a state; the inverse of :meth:`state`."""
        assert state["counts"].shape == self._counts_RW.shape
        self._counts_RW, self._factors_3R = state["counts"].clone(), state["factors"].clone()
        # Every id stands in each row once.
        self.total = int(self._counts_RW[0].sum())

    def _cells(self, ids_N: Tensor) -> Tensor:
        """[R, N] the cell of each id in each row, on the device of the ids, where the sketch moves."""
        self._counts_RW, self._factors_3R = (
            tensor.to(ids_N.device) for tensor in (self._counts_RW, self._factors_3R)
        )
        low, high, offset = self._factors_3R.unsqueeze(2).unbind()
        mixed_RN = low * (ids_N & 0xFFFFFFFF) + high * (ids_N >> 32) + offset
        # For ids that first differ in bit s of a half, bits s and up are independent; s is 31 at most.
        return (mixed_RN >> 32) & (self._counts_RW.shape[1] - 1)

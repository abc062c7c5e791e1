"""What every solver returns. Shapes: F features and biases, K vectors of weights."""

from typing import NamedTuple

from widemax.solvers.products import Array


class Solution(NamedTuple):
    """Weights and the proof of how good they are.

    Attributes:
        weight_FK: the weights.
        objective: its value at the weights.
        gap: a bound from above on (objective − optimum) / objective, by duality; inf without penalty.
        num_steps: steps over all rows.
        converged: whether the tolerance was reached.
        gradient_norm: Euclidean length of the shortest subgradient, where it is computed.
    """

    weight_FK: Array
    objective: float
    gap: float
    num_steps: int
    converged: bool
    gradient_norm: float = float("nan")

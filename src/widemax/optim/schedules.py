"""Learning-rate schedules: pure functions from a step to a factor of the learning rate."""

from typing import Annotated

from pydantic import Field

from widemax.optim.row_optimizer import AtLeast0
from widemax.options import checked

Steps = Annotated[int, Field(ge=0)]


@checked
def linear_decay(step: AtLeast0, total_steps: Steps, warmup: Steps = 0) -> float:
    """A rise from 0 to 1 over the warm-up, then a fall to 0 at the last step, both linear.

    ::

        min(1, (step + 1) / warmup)                      step < warmup
        (total_steps − step) / (total_steps − warmup)    warmup ≤ step < total_steps
        0                                                afterwards

    Args:
        step: steps already taken, from 0; a fraction where a clock, not the count, measures the progress.
        total_steps: steps of the whole training.
        warmup: steps of the rise.

    Returns:
        The factor, in [0, 1]; positive at every step of the training.

    Example:
        >>> [linear_decay(step, 6, 2) for step in range(7)]
        [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]

    Source: Devlin et al., "BERT" (NAACL 2019), appendix A.2.
    """
    if step >= total_steps:
        return 0.0
    if step < warmup:
        return min(1.0, (step + 1) / warmup)
    return (total_steps - step) / (total_steps - warmup)

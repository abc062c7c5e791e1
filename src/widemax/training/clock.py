"""The time a run has taken, and whether what must follow the last step still fits into its limit."""

import time


class Clock:
    """Counts from its making; evaluation, calibration and saving are kept room for.

    Args:
        limit_s: seconds for everything, or None.

    Attributes:
        earlier_s: seconds of earlier sessions of the run.
        evaluation_s: seconds of an evaluation on the held-out rows, predicted, then measured.
        saving_s: seconds of writing the weights, likewise.
    """

    # Reading what fits the temperature, and drawing the report page.
    CLOSING_S = 0.5

    def __init__(self, limit_s: float | None) -> None:
        self._made = time.perf_counter()
        self._reading_s = 0.0
        self.limit_s = limit_s
        self.earlier_s = self.evaluation_s = self.saving_s = 0.0

    @property
    def seconds(self) -> float:
        """Since the first file was read, over all sessions."""
        return self.earlier_s + time.perf_counter() - self._made

    @property
    def closing_s(self) -> float:
        """What follows the last step: two evaluations, a calibration; a checkpoint, the best, the model."""
        return self.CLOSING_S + 3 * self.evaluation_s + 3 * self.saving_s

    def begin_steps(self) -> None:
        """From here on the learning rate falls with the time."""
        self._reading_s = time.perf_counter() - self._made

    def is_over(self, step_s: float = 0.0) -> bool:
        """Whether a step of this length would leave too little time for what follows the last one."""
        return self.limit_s is not None and self.seconds + step_s + self.closing_s >= self.limit_s

    @property
    def share(self) -> float:
        """The share of the time for steps that has passed; 0 without a limit."""
        if self.limit_s is None:
            return 0.0
        room_s = self.limit_s - self.closing_s - self._reading_s
        return min(1.0, (self.seconds - self._reading_s) / room_s) if room_s > 0 else 1.0

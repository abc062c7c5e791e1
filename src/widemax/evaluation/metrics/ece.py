"""Expected calibration error."""

from widemax.evaluation.calibration.bins import ConfidenceBins
from widemax.evaluation.metrics import Metric, TrainingCounts, metrics
from widemax.evaluation.rows import OneLabelRows
from widemax.task import Task


@metrics.register("ece")
class ExpectedCalibrationError(Metric):
    """``Σ_m n_m/n · |accuracy_m − confidence_m|`` over 15 equal-width bins of the best class's probability.

    A row with an unseen label counts as wrong: its confidence was misplaced.

    Source: Guo et al., On Calibration of Modern Neural Networks (ICML 2017), equation 3.
    """

    tasks = frozenset({Task.ONE})
    larger_is_better = False

    def __init__(self, training: TrainingCounts) -> None:
        super().__init__(training)
        self._bins = ConfidenceBins()

    def update(self, rows: OneLabelRows) -> None:
        self._bins.update(rows.confidence_B, rows.ranks_B == 1)

    def compute(self) -> float:
        return self._bins.calibration_error()

"""Arrays in, numbers out: metrics, calibration and the report of a run."""

from widemax.evaluation.auroc import auroc
from widemax.evaluation.baseline import Baseline
from widemax.evaluation.calibration import ConfidenceBins, fit_temperature
from widemax.evaluation.evaluate import Measures, evaluate_rows
from widemax.evaluation.groups import Groups
from widemax.evaluation.rows import OneLabelRows, SeveralLabelRows
from widemax.evaluation.threshold import Threshold

__all__ = [
    "Baseline",
    "ConfidenceBins",
    "Groups",
    "Measures",
    "OneLabelRows",
    "SeveralLabelRows",
    "Threshold",
    "auroc",
    "evaluate_rows",
    "fit_temperature",
]

"""How far probabilities can be trusted, what mends them, and sets that hold the label as often as asked."""

from widemax.evaluation.calibration.bins import ConfidenceBins
from widemax.evaluation.calibration.calibrated import CalibratedTopK
from widemax.evaluation.calibration.conformal import ConformalSets, PredictionSets
from widemax.evaluation.calibration.conformal_scores import APS, LAC, RAPS
from widemax.evaluation.calibration.known_logits import KnownLogits
from widemax.evaluation.calibration.platt import PlattScaling
from widemax.evaluation.calibration.prior_shift import PriorShift
from widemax.evaluation.calibration.temperature import Temperature, fit_temperature
from widemax.evaluation.calibration.vector import VectorScaling

__all__ = [
    "APS",
    "LAC",
    "RAPS",
    "CalibratedTopK",
    "ConfidenceBins",
    "ConformalSets",
    "KnownLogits",
    "PlattScaling",
    "PredictionSets",
    "PriorShift",
    "Temperature",
    "VectorScaling",
    "fit_temperature",
]

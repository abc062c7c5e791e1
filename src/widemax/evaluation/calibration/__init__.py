"""How far probabilities can be trusted, and the one number that mends them."""

from widemax.evaluation.calibration.bins import ConfidenceBins
from widemax.evaluation.calibration.temperature import fit_temperature

__all__ = ["ConfidenceBins", "fit_temperature"]

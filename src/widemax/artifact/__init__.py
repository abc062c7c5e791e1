"""Saved models: what training leaves in a run, whole, checked and without code."""

from widemax.artifact.model import Model as Model
from widemax.artifact.model import Prediction as Prediction

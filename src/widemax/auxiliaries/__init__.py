"""Objectives beside the main loss, on hidden vectors or inputs: one loss a row each."""

from widemax.auxiliaries.base import auxiliaries
from widemax.auxiliaries.center_loss import CenterLoss
from widemax.auxiliaries.reconstruction import Reconstruction

__all__ = ["CenterLoss", "Reconstruction", "auxiliaries"]

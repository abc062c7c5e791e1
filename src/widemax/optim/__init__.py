"""Optimizers whose cost follows the rows touched, and learning-rate schedules."""

from widemax.optim.lazy_adam import LazyAdam
from widemax.optim.mapped_rows import MappedRows
from widemax.optim.momentum import Momentum
from widemax.optim.row_optimizer import RowOptimizer, optimizers
from widemax.optim.rowwise_adagrad import RowwiseAdagrad
from widemax.optim.schedules import linear_decay
from widemax.optim.stochastic_rounding import stochastic_round

__all__ = [
    "LazyAdam",
    "MappedRows",
    "Momentum",
    "RowOptimizer",
    "RowwiseAdagrad",
    "linear_decay",
    "optimizers",
    "stochastic_round",
]

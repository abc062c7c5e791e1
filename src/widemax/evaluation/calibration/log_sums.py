"""Sums of exponentials, in logarithms, and without scipy, which is slow to import. Shapes: B rows."""

import numpy as np

from widemax.evaluation.rows import FloatArray, IntArray


def log_sum_exp(values: FloatArray) -> FloatArray:
    """log Σ exp over the last axis; −inf where every value is."""
    highest = values.max(axis=-1, keepdims=True, initial=-np.inf)
    shift = np.where(np.isneginf(highest), 0.0, highest)
    return log_or_minus_inf(np.exp(values - shift).sum(axis=-1)) + shift[..., 0]


def log_sum_of_steps(step_B: FloatArray, num_steps_B: IntArray) -> FloatArray:
    """log Σ_{j=1..n} exp(−j·step) for steps above 0; n below 1 counts as 1."""
    num_steps_B = np.maximum(num_steps_B, 1)
    return np.asarray(-step_B + np.log(np.expm1(-num_steps_B * step_B) / np.expm1(-step_B)), np.float64)


def log_or_minus_inf(values: FloatArray) -> FloatArray:
    """The logarithm, with log 0 = −inf as a value rather than a warning."""
    return np.asarray(np.log(values, where=values > 0, out=np.full(np.shape(values), -np.inf)))

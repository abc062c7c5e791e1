"""Convolution, mean pooling and softmax in plain NumPy: forward, cost, error and gradient.

Shapes: B images of H by W pixels, F filters of K by K, G pixels a side of a map, Q of a pooled map,
D = F·Q·Q pooled values, C classes.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from widemax.numerics import log_softmax, sigmoid, softmax
from widemax.recipes.base import Array


class Weights(NamedTuple):
    """What the network learns."""

    filters_FKK: Array
    offsets_F: Array
    weight_CD: Array
    bias_C: Array


class Pass(NamedTuple):
    """What a forward pass gives, layer by layer."""

    maps_BFGG: Array
    pooled_BD: Array
    logits_BC: Array


def convolve(images_BHW: Array, filters_FKK: Array, offsets_F: Array) -> Array:
    """σ(Σ_ij filter_ij · pixel_{g+i, h+j} + offset) wherever the whole filter lies in the image."""
    size = filters_FKK.shape[1]
    windows_BGGKK = sliding_window_view(images_BHW, (size, size), axis=(1, 2))
    sums_BGGF = np.tensordot(windows_BGGKK, filters_FKK, axes=((3, 4), (1, 2)))
    return np.asarray(sigmoid((sums_BGGF + offsets_F).transpose(0, 3, 1, 2)))


def mean_pool(maps_BFGG: Array, pool: int) -> Array:
    """[B, F, Q, Q] means of squares of pool by pool pixels, which must tile the map."""
    num_images, num_filters, side, _ = maps_BFGG.shape
    tiles = maps_BFGG.reshape(num_images, num_filters, side // pool, pool, side // pool, pool)
    return np.asarray(tiles.mean(axis=(3, 5)))


def forward(weights: Weights, images_BHW: Array, *, pool: int) -> Pass:
    """Maps, pooled values and logits."""
    maps_BFGG = convolve(images_BHW, weights.filters_FKK, weights.offsets_F)
    pooled_BD = mean_pool(maps_BFGG, pool).reshape(len(images_BHW), -1)
    return Pass(maps_BFGG, pooled_BD, pooled_BD @ weights.weight_CD.T + weights.bias_C)


def cost(logits_BC: Array, labels_B: Array) -> float:
    """−(1/B) Σ_b log p_b,y."""
    return float(-log_softmax(logits_BC)[np.arange(len(labels_B)), labels_B].mean())


def error(logits_BC: Array, labels_B: Array) -> Array:
    """[B, C] ∂cost/∂logits = (p − 1{y}) / B."""
    return np.asarray(softmax(logits_BC) - np.eye(logits_BC.shape[1])[labels_B]) / len(labels_B)


def gradient(weights: Weights, images_BHW: Array, labels_B: Array, *, pool: int) -> Weights:
    """∂cost/∂weights: the error goes back through the pooling, which shares it evenly, and the sigmoid."""
    maps_BFGG, pooled_BD, logits_BC = forward(weights, images_BHW, pool=pool)
    error_BC = error(logits_BC, labels_B)
    side, size = maps_BFGG.shape[2] // pool, weights.filters_FKK.shape[1]
    error_BFQQ = (error_BC @ weights.weight_CD).reshape(*maps_BFGG.shape[:2], side, side)
    shared_BFGG = error_BFQQ.repeat(pool, axis=2).repeat(pool, axis=3) / pool**2
    error_BFGG = shared_BFGG * maps_BFGG * (1 - maps_BFGG)
    windows_BGGKK = sliding_window_view(images_BHW, (size, size), axis=(1, 2))
    return Weights(
        np.tensordot(error_BFGG, windows_BGGKK, axes=((0, 2, 3), (0, 1, 2))),
        error_BFGG.sum(axis=(0, 2, 3)),
        error_BC.T @ pooled_BD,
        error_BC.sum(axis=0),
    )

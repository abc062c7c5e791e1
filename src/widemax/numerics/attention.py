"""Scaled dot-product attention in plain form.

Shapes: T queries, S keys, D their length, E length of a value; any axes may precede them.
"""

import math

import numpy as np
import torch

from widemax.errors import ShapeError
from widemax.numerics.arrays import Array, check_same_kind, given_as, mask_of, tensor_of, widened_tensor
from widemax.numerics.softmax import softmax
from widemax.options import checked


@checked
def attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    where: Array | None = None,
    scale: float | None = None,
    is_causal: bool = False,
) -> Array:
    """Averages of values, weighted by the softmax of how well their keys match each query.

    attention(Q, K, V) = softmax(scale · Q Kᵀ) V.

    Args:
        query: [..., T, D] array or tensor; 16-bit numbers are computed with in float32.
        key: [..., S, D]; leading axes broadcast.
        value: [..., S, E].
        where: boolean mask that broadcasts to [..., T, S], true where a query may look at a key.
        scale: multiplies the scores; None is 1/√D.
        is_causal: whether query t may look at keys 0 to t only, as well as at those ``where`` admits.

    Returns:
        [..., T, E] array of the same kind and type as ``query``. A query that may look at no key gives zeros,
        and its gradient is zero.

    Raises:
        ArgumentError: an array or ``where`` of the wrong kind, or an unknown keyword.
        ShapeError: shapes that do not fit one another.

    Example:
        >>> values = np.array([[1.0], [3.0]])
        >>> attention(np.zeros((2, 4)), np.zeros((2, 4)), values, is_causal=True)
        array([[1.],
               [2.]])

    Source: Vaswani et al., Attention Is All You Need, NeurIPS 2017, equation 1.
    """
    check_same_kind(query=query, key=key, value=value)
    wide_query, wide_key, wide_value = (
        widened_tensor(tensor_of(x, name)) for x, name in ((query, "query"), (key, "key"), (value, "value"))
    )
    _check_shapes(wide_query.shape, wide_key.shape, wide_value.shape)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = wide_query @ wide_key.transpose(-2, -1) * scale
    mask = None if where is None else mask_of(where, query, scores.shape)
    if is_causal:
        past = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        mask = past if mask is None else mask & past
    return given_as(softmax(scores, where=mask) @ wide_value, query)


def _check_shapes(query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...]) -> None:
    shapes = f"query {tuple(query)}, key {tuple(key)}, value {tuple(value)}"
    if min(len(query), len(key), len(value)) < 2:
        raise ShapeError(f"query, key and value must have at least two axes; got {shapes}.")
    if query[-1] != key[-1] or query[-1] == 0:
        raise ShapeError(f"query and key must have one length, at least 1, on their last axis; got {shapes}.")
    if key[-2] != value[-2]:
        raise ShapeError(f"key and value must have one length on their second last axis; got {shapes}.")
    try:
        np.broadcast_shapes(query[:-2], key[:-2], value[:-2])
    except ValueError:
        raise ShapeError(
            f"the leading axes of query, key and value must broadcast; got {shapes}. Insert axes of length 1."
        ) from None

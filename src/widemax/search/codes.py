"""Vectors as 8-bit codes, with a proven bound on what the codes can be wrong by.

Shapes: N vectors (rounded up to whole blocks), D dimensions, G blocks of vectors, B queries.
"""

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from widemax.search.rows import Metric, Rows, check_finite, unit_rows

# Vectors with one scale; their scores are bounded together.
BLOCK = 64
# Vectors from which the center is estimated.
_SAMPLE = 4096
# The scale of what is (nearly) zero: its reciprocal times any score stays in float64's range.
_SMALLEST_SCALE = 1e-150
# Products below float64's range vanish; this is more than what they can add up to.
_UNDERFLOW = 1e-300


class Codes(NamedTuple):
    """Vectors in the order of the scan, which gives a block vectors of similar bias or size.

    Every metric ranks by key(q, x) = q'·v + b, where v is the (for cosine: normalized) vector less the center
    and q' the query (for cosine normalized, for Euclidean less the center); b is the bias or −|v|²/2. With
    v = S c + r, c the codes and S the scale of the block, and q' = s a + e likewise,

        |q'·v − s S (a·c)| = |s a·r + e·v| ≤ |s a| |r| + |e| |v|

    by Cauchy and Schwarz; a·c is a sum of integers and exact. ``error_4G`` holds max |r| and max |v| of each
    block, and what float64 rounding adds, here and in the final scores, as terms 1 and rounding: with
    u = (D + 16) 2^-50 ≥ 4 γ_{D+8}, it is at most u |q'| (|v| + |center|) + u |b|, for Euclidean
    u (|q'| + |v|)² ≤ 2u |q'|² + 2u |v|². The factors of a query are in :class:`QueryCodes`.

    Attributes:
        codes_ND: int8 c.
        ids_N: int64 which vector each is; places after the last vector repeat it.
        places_N: int64 the inverse of ``ids_N``.
        bias_N: float64 b.
        scale_G: float64 S.
        error_4G: float64 bounds; query factors times these bound |key − approximation|.
        lower_4G: query factors times these and the largest approximation bound the block's largest key below.
        gap_4G: query factors times these bound upper less lower bound.
        center_D: float64.
    """

    codes_ND: Tensor
    ids_N: Tensor
    places_N: Tensor
    bias_N: Tensor
    scale_G: Tensor
    error_4G: Tensor
    lower_4G: Tensor
    gap_4G: Tensor
    center_D: Tensor

    def __len__(self) -> int:
        return len(self.places_N)


class QueryCodes(NamedTuple):
    """Queries as codes; keys are compared in units of s, the scale of the query.

    Attributes:
        codes_BD: int8 a.
        per_scale_B1: float64 1/s.
        factors_B4: (|s a|, |e| + u|q'|, rounding of the query alone, 1) / s.
    """

    codes_BD: Tensor
    per_scale_B1: Tensor
    factors_B4: Tensor


@functools.cache
def largest_exact_code() -> int:
    """The largest code: processors without 8-bit dot products add pairs in 16 bits, which saturate."""
    full = torch.full((32, 64), 127, dtype=torch.int8)
    exact = all(
        bool((torch._int_mm(sign * full, other.T) == sign * 64 * 127**2).all())
        for sign in (1, -1)
        for other in (full, full[:1])  # one query has another program
    )
    return 127 if exact else 63


def largest_code(dim: int) -> int:
    """The largest code whose sums of ``dim`` products fit in 32 bits."""
    return min(largest_exact_code(), math.isqrt((2**31 - 1) // dim))


def _padded(codes_ND: Tensor) -> Tensor:
    """The codes with zeros up to whole groups of 4; ``torch._int_mm`` is wrong for a single dimension."""
    return nn.functional.pad(codes_ND, (0, -codes_ND.shape[1] % 4))


def _rounding(dim: int) -> float:
    return (dim + 16) * 2.0**-50


def _points(rows: Rows, where: slice | Tensor, center_D: Tensor | float) -> Tensor:
    x_ND = rows.read(where)
    return (unit_rows(x_ND) if rows.metric == "cosine" else x_ND) - center_D


def _keys(rows: Rows, where: slice, points_ND: Tensor) -> Tensor:
    if rows.metric == "euclidean":
        return points_ND.square().sum(1).mul_(-0.5)
    return torch.zeros(len(points_ND), dtype=torch.float64).add_(rows.biases(where))


def quantize(rows: Rows) -> Codes:
    """The codes of at least one vector, in two passes over the vectors.

    Raises:
        DataError: a vector is not finite.
    """
    sample = torch.linspace(0, len(rows) - 1, min(len(rows), _SAMPLE), dtype=torch.float64).long()
    # A median is not moved by a few huge vectors. Refusing NaN comes later, with the row's number.
    center_D = _points(rows, sample, 0.0).nan_to_num_(0.0).median(0).values
    bias_N, largest_N = (torch.empty(len(rows), dtype=torch.float64) for _ in range(2))
    for tile in rows.tiles():
        x_ND = rows.read(tile)
        check_finite(x_ND, "vectors", first_row=tile.start)
        points_ND = (unit_rows(x_ND) if rows.metric == "cosine" else x_ND) - center_D
        bias_N[tile] = _keys(rows, tile, points_ND)
        largest_N[tile] = points_ND.abs().amax(1)
    has_bias = rows.metric == "euclidean" or rows.bias is not None
    order_N = (bias_N if has_bias else largest_N).argsort(descending=True, stable=True)
    places_N = torch.empty_like(order_N)
    places_N[order_N] = torch.arange(len(rows))
    padding = -len(rows) % BLOCK
    ids_N = torch.cat([order_N, order_N[-1:].expand(padding)])
    levels = largest_code(rows.dim)
    scale_G = largest_N[ids_N].view(-1, BLOCK).amax(1).div_(levels).clamp_(min=_SMALLEST_SCALE)
    codes_ND = torch.empty((len(ids_N), rows.dim + -rows.dim % 4), dtype=torch.int8)
    residual_N, norm_N = torch.empty_like(bias_N), torch.empty_like(bias_N)
    for tile in rows.tiles():
        points_ND = _points(rows, tile, center_D)
        scale_N1 = scale_G[places_N[tile] // BLOCK, None]
        rounded_ND = (points_ND / scale_N1).round_()
        codes_ND[places_N[tile]] = _padded(rounded_ND.to(torch.int8))
        norm_N[tile] = torch.linalg.vector_norm(points_ND, dim=1)
        residual_N[tile] = torch.linalg.vector_norm(points_ND.sub_(rounded_ND.mul_(scale_N1)), dim=1)
    codes_ND[len(rows) :] = codes_ND[len(rows) - 1]
    blocks = (x_N[ids_N].view(-1, BLOCK) for x_N in (bias_N, residual_N, norm_N))
    error_4G, lower_4G, gap_4G = block_bounds(rows, *blocks)
    return Codes(codes_ND, ids_N, places_N, bias_N[ids_N], scale_G, error_4G, lower_4G, gap_4G, center_D)


def block_bounds(
    rows: Rows, bias_GN: Tensor, residual_GN: Tensor, norm_GN: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The error, lower and gap of each block, as :class:`Codes` holds them."""
    norm_G, one_G = norm_GN.amax(1), torch.ones(len(norm_GN), dtype=torch.float64)
    size_G = 2 * norm_G.square() if rows.metric == "euclidean" else bias_GN.abs().amax(1)
    rounding_G = _rounding(rows.dim) * size_G + _UNDERFLOW
    error_4G = torch.stack([residual_GN.amax(1), norm_G, one_G, rounding_G])
    lower_4G, gap_4G = -error_4G, 2 * error_4G
    lower_4G[3] += bias_GN.amin(1)
    gap_4G[3] += bias_GN.amax(1) - bias_GN.amin(1)
    return error_4G, lower_4G, gap_4G


def quantize_queries(queries_BD: Tensor, metric: Metric, center_D: Tensor) -> QueryCodes:
    """The codes of queries in float64; for cosine they are normalized already."""
    levels, rounding = largest_code(queries_BD.shape[1]), _rounding(queries_BD.shape[1])
    points_BD = queries_BD - center_D if metric == "euclidean" else queries_BD
    scale_B1 = points_BD.abs().amax(1, keepdim=True).div_(levels).clamp_(min=_SMALLEST_SCALE)
    rounded_BD = (points_BD / scale_B1).round_()
    norm_B = torch.linalg.vector_norm(points_BD, dim=1)
    alone_B = 2 * norm_B.square() if metric == "euclidean" else norm_B * torch.linalg.vector_norm(center_D)
    factors = (
        torch.linalg.vector_norm(rounded_BD * scale_B1, dim=1),
        torch.linalg.vector_norm(points_BD - rounded_BD * scale_B1, dim=1) + rounding * norm_B,
        rounding * alone_B,
        torch.ones_like(norm_B),
    )
    return QueryCodes(_padded(rounded_BD.to(torch.int8)), 1 / scale_B1, torch.stack(factors, 1) / scale_B1)

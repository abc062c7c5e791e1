"""The exact k best of many vectors.

Shapes: N vectors, D dimensions, B queries, K wanted, P (query, vector) pairs.
"""

import functools
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from widemax import native
from widemax.errors import ConfigError, ShapeError
from widemax.kernels import Pairs
from widemax.numerics.ids import checked_ids
from widemax.options import AtLeast1, checked
from widemax.search.best import Best
from widemax.search.codes import Codes, quantize, quantize_queries
from widemax.search.rows import Metric, Numbers, Rows, as_array, as_matrix, check_finite, unit_rows
from widemax.search.scan import candidates
from widemax.search.sketch import MOST_QUERIES, Sketch

# Queries that share a pass: enough for the products to be fast, few enough for wide tiles.
QUERIES_AT_ONCE = 256
_NO_PAIRS = Pairs(*torch.empty(2, 0, dtype=torch.int64))


class Nearest(NamedTuple):
    """The k best vectors of each query, best first, equal scores by ascending id.

    Attributes:
        ids: [B, K] int64 row numbers of the vectors; −1 where fewer than k vectors take part.
        scores: [B, K] float64 scores; for Euclidean, distances. Beside id −1 it is −inf, or the distance inf.
    """

    ids: Tensor
    scores: Tensor


@checked
class ExactIndex:
    """Finds the exact k best of many vectors, and reads an 8-bit copy of them to do so.

    Scores are float64: Σ_d q_d x_d + bias, Σ_d q_d x_d / (‖q‖·‖x‖) (0 where either is zero), or the distance
    sqrt(Σ_d (q_d − x_d)²). The answer is that of computing all of them and sorting, ties by ascending id. A
    scan of the codes bounds every score; float64 scores are computed only of what the bound cannot rule out.
    The bound is derived in ``widemax.search.codes`` and holds for any numbers; where very many
    vectors lie within it of the k-th best (near copies, say), a search is slower than computing all scores.

    The index reads ``vectors`` again at each search: do not change them. Beside them it holds D + 40 bytes a
    vector, and D / 2 more once up to 8 queries were asked and widemax-native is installed: a copy of 4 bits,
    which so few read first. A memory-mapped file is read in tiles, and in single rows when searching.

    Args:
        vectors: [N, D] NumPy array (also memory-mapped) or CPU tensor of real numbers within float32's range.
        metric: "dot" or "cosine", where larger is better, or "euclidean", where smaller is.
        bias: [N] added to each vector's dot products.

    Raises:
        OptionError: an unknown metric.
        ConfigError: a bias with another metric than "dot".
        ShapeError: vectors that are not a matrix, or a bias of another length.
        ArgumentError: not real numbers on the CPU.
        DataError: NaN, infinity, or a number beyond float32's range.

    Example:
        >>> index = ExactIndex(torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 1.0]]), metric="euclidean")
        >>> nearest = index.topk(torch.tensor([[0.0, 0.0]]), 2)
        >>> nearest.ids, nearest.scores
        (tensor([[0, 2]]), tensor([[1., 1.]], dtype=torch.float64))
    """

    def __init__(self, vectors: Numbers, *, metric: Metric = "dot", bias: Numbers | None = None) -> None:
        if bias is not None and metric != "dot":
            raise ConfigError(f'bias must be None unless metric="dot"; got one with metric={metric!r}.')
        self.metric = metric
        array = as_matrix(vectors, "vectors")
        self._rows = Rows(array, None if bias is None else _checked_bias(bias, len(array)), metric)
        self._codes = quantize(self._rows) if len(array) else None

    def __len__(self) -> int:
        return len(self._rows)

    @checked
    def topk(
        self, queries: Numbers, k: AtLeast1, *, exclude: Pairs | None = None, only: Tensor | None = None
    ) -> Nearest:
        """The k best vectors of each query.

        Args:
            queries: [B, D] NumPy array or CPU tensor.
            k: how many, at least 1; with fewer vectors than that, ids −1 fill up.
            exclude: (query, id) pairs that must not be found, in any order.
            only: ids from which to choose, for all queries; None for all. Their codes are made anew at each
                call: for many calls with the same ids, an index of these vectors is faster.

        Raises:
            OptionError: a k that is no whole number of at least 1.
            ShapeError: queries of another dimension.
            ArgumentError: queries that are not real numbers on the CPU, or ids that are not integers.
            DataError: a query with NaN, infinity, or a number beyond float32's range.
            LabelError: an id outside [0, N), or an excluded row outside [0, B).

        Example:
            >>> index = ExactIndex(torch.eye(3), bias=torch.tensor([0.0, 0.5, 0.0]))
            >>> seen = Pairs(torch.tensor([0]), torch.tensor([0]))
            >>> index.topk(torch.tensor([[1.0, 0.0, 0.0]]), 1, exclude=seen)
            Nearest(ids=tensor([[1]]), scores=tensor([[0.5000]], dtype=torch.float64))
        """
        queries_BD = self._checked_queries(queries)
        excluded = self._checked_pairs(exclude, len(queries_BD)) if exclude else _NO_PAIRS
        rows, codes, sketch = self._rows, self._codes, None
        if only is not None:
            rows = rows.only(torch.unique(checked_ids(only, len(self), "only")))
            codes = quantize(rows) if len(rows) else None
            excluded = _among(excluded, rows.global_ids(slice(None)))
        elif len(queries_BD) <= MOST_QUERIES and native.takes():
            sketch = self._sketch
        if codes is None or not len(queries_BD):
            shape = len(queries_BD), k
            return self._nearest(torch.full(shape, -1), torch.full(shape, -torch.inf, dtype=torch.float64))
        parts = []
        for start in range(0, len(queries_BD), QUERIES_AT_ONCE):
            part_BD = queries_BD[start : start + QUERIES_AT_ONCE]
            its_excluded = excluded.of_rows(start, start + len(part_BD))[1]
            parts.append(_search(rows, codes, sketch, part_BD, its_excluded, k))
        ids_BK, scores_BK = (torch.cat(columns) for columns in zip(*parts, strict=True))
        return self._nearest(ids_BK, scores_BK)

    @functools.cached_property
    def _sketch(self) -> Sketch | None:
        return Sketch(self._codes) if self._codes else None

    def _nearest(self, ids_BK: Tensor, scores_BK: Tensor) -> Nearest:
        return Nearest(ids_BK, -scores_BK if self.metric == "euclidean" else scores_BK)

    def _checked_queries(self, queries: Numbers) -> Tensor:
        array = as_matrix(queries, "queries")
        if array.shape[1] != self._rows.dim:
            raise ShapeError(
                f"queries must be [B, {self._rows.dim}] as the vectors are; got shape {array.shape}."
            )
        queries_BD = torch.from_numpy(array.astype(np.float64))
        check_finite(queries_BD, "queries")
        return unit_rows(queries_BD) if self.metric == "cosine" else queries_BD

    def _checked_pairs(self, exclude: Pairs, num_queries: int) -> Pairs:
        rows_P = checked_ids(exclude.rows_P, num_queries, "exclude.rows_P")
        ids_P = checked_ids(exclude.ids_P, len(self), "exclude.ids_P")
        if len(rows_P) != len(ids_P):
            raise ShapeError(f"exclude must pair each row with an id; got {len(rows_P)} and {len(ids_P)}.")
        order_P = rows_P.argsort(stable=True)
        return Pairs(rows_P[order_P], ids_P[order_P])


def _checked_bias(bias: Numbers, num_vectors: int) -> Tensor:
    bias_N = torch.tensor(as_array(bias, "bias"), dtype=torch.float64)
    if bias_N.shape != (num_vectors,):
        raise ShapeError(
            f"bias must be [{num_vectors}], one number a vector; got shape {tuple(bias_N.shape)}."
        )
    check_finite(bias_N[:, None], "bias")
    return bias_N


def _among(pairs: Pairs, ids_N: Tensor) -> Pairs:
    """The pairs whose id is one of the ascending ``ids_N``, with its place there for the id."""
    inside_P = torch.isin(pairs.ids_P, ids_N)
    return Pairs(pairs.rows_P[inside_P], torch.searchsorted(ids_N, pairs.ids_P[inside_P]))


def _search(
    rows: Rows, codes: Codes, sketch: Sketch | None, queries_BD: Tensor, excluded: Pairs, k: int
) -> tuple[Tensor, Tensor]:
    """Ids and scores of a few queries."""
    best = Best(rows, queries_BD, excluded, k)
    silent_B = ~queries_BD.any(1)
    if rows.metric == "euclidean" or rows.bias is not None:
        silent_B.zero_()
    elif silent_B.any():
        # To a zero query all vectors are alike: the first ids are the best, and bounds would rule out none.
        silent = silent_B.nonzero().squeeze(1)
        most_excluded = int(excluded.rows_P.bincount(minlength=1).amax())
        first_ids = torch.arange(min(k + most_excluded, len(rows)))
        best.add(Pairs(silent.repeat_interleave(len(first_ids)), first_ids.repeat(len(silent))))
    query = quantize_queries(queries_BD, rows.metric, codes.center_D)
    excluded_places = Pairs(excluded.rows_P, codes.places_N[excluded.ids_P])
    few = sketch.candidates(query, excluded_places, silent_B, k=k) if sketch else None
    for pairs in [few] if few else candidates(codes, query, excluded_places, silent_B, k=k):
        real_P = pairs.ids_P < len(rows)
        best.add(Pairs(pairs.rows_P[real_P], codes.ids_N[pairs.ids_P[real_P]]))
    return best.table()

"""The k best of scored pairs. Shapes: B queries, D dimensions, K kept, P (query, vector) pairs."""

import numpy as np
import torch
from torch import Tensor

from widemax.kernels import Pairs, budget
from widemax.search.rows import Rows


class Best:
    """The k best of the pairs added so far, by float64 score, equal scores by ascending id."""

    def __init__(self, rows: Rows, queries_BD: Tensor, excluded: Pairs, k: int) -> None:
        self.rows, self.queries_BD, self.k = rows, queries_BD, k
        self._excluded_keys = self._keys(excluded)
        nothing = torch.empty(0, dtype=torch.int64)
        self._pairs, self._scores_P = Pairs(nothing, nothing), torch.empty(0, dtype=torch.float64)

    def add(self, pairs: Pairs) -> None:
        """Score the pairs that are not excluded; each pair is added once."""
        keys_P = self._keys(pairs)
        if len(self._excluded_keys):
            keys_P = keys_P[~torch.isin(keys_P, self._excluded_keys)]
        for part_P in torch.split(keys_P, max(1, budget.SMALL_TILE_ELEMENTS // self.rows.dim)):
            part = Pairs(part_P // len(self.rows), part_P % len(self.rows))
            self._merge(part, self.rows.exact_scores(self.queries_BD[part.rows_P], part.ids_P))

    def _keys(self, pairs: Pairs) -> Tensor:
        return pairs.rows_P * len(self.rows) + pairs.ids_P

    def _merge(self, pairs: Pairs, scores_P: Tensor) -> None:
        rows_P, ids_P = (torch.cat(parts) for parts in zip(self._pairs, pairs, strict=True))
        scores_P = torch.cat([self._scores_P, scores_P])
        order_P = torch.from_numpy(np.lexsort((ids_P, -scores_P, rows_P)))
        kept_P = order_P[_ranks(rows_P[order_P]) < self.k]
        self._pairs, self._scores_P = Pairs(rows_P[kept_P], ids_P[kept_P]), scores_P[kept_P]

    def table(self) -> tuple[Tensor, Tensor]:
        """[B, K] ids, −1 where there are fewer, and scores, −inf there."""
        where = self._pairs.rows_P, _ranks(self._pairs.rows_P)
        ids_BK = torch.full((len(self.queries_BD), self.k), -1)
        scores_BK = torch.full(ids_BK.shape, -torch.inf, dtype=torch.float64)
        ids_BK[where] = self.rows.global_ids(self._pairs.ids_P)
        scores_BK[where] = self._scores_P
        return ids_BK, scores_BK


def _ranks(rows_P: Tensor) -> Tensor:
    """The place of each pair among those of its query, for ascending queries."""
    return torch.arange(len(rows_P)) - torch.searchsorted(rows_P, rows_P)

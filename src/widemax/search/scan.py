"""One pass over the codes, which leaves the few vectors that can be among the k best.

Shapes: B queries, K kept, W vectors of one tile, G blocks of vectors, P (query, vector) pairs.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from widemax.kernels import Pairs, budget
from widemax.search.codes import BLOCK, Codes, QueryCodes

# Tiles whose bounds are kept until they are ranked, which bounds the memory for very many vectors.
WAITING_TILES = 64
# Pairs that are handed over at a time, which bounds the memory where bounds rule out little.
HELD_PAIRS = 2**21


def candidates(
    codes: Codes, query: QueryCodes, excluded: Pairs, silent_B: Tensor, *, k: int
) -> Iterator[Pairs]:
    """Pieces of (query, place) pairs, among all of which are the k best of every query.

    A block's largest integer product gives a lower bound of its best key. The k-th largest of the blocks'
    lower bounds bounds the k-th best key below; what has a smaller upper bound is not among the k best.
    Excluded (query, place) pairs do not count, and the queries of ``silent_B`` are passed over.
    """
    num_queries, block = len(silent_B), block_size(len(codes), k)
    width = BLOCK * max(1, budget.TILE_ELEMENTS // (num_queries * BLOCK))
    blocks = _Blocks(codes, block)
    excluded_places = excluded.places_by_tile(width, -(-len(codes) // width))
    floor = _Floor(silent_B, k)
    # A block of nothing but padding would count its vector twice.
    codes_ND = codes.codes_ND[: -(-len(codes) // block) * block]
    buffer = torch.empty(num_queries * min(width, len(codes_ND)), dtype=torch.int32)
    held: list[tuple[Tensor, Tensor, Tensor]] = []
    for tile, places in enumerate(excluded_places):
        start = tile * width
        codes_WD = codes_ND[start : start + width]
        products_BW = buffer[: num_queries * len(codes_WD)].view(num_queries, -1)
        if num_queries == 1:
            # The same numbers in the same order; from this side they are read in half the time.
            torch._int_mm(codes_WD, query.codes_BD.T, out=products_BW.T)
        else:
            torch._int_mm(query.codes_BD, codes_WD.T, out=products_BW)
        products_BGb = products_BW.view(num_queries, -1, block)
        here = slice(start // block, start // block + products_BGb.shape[1])
        lower_BG = products_BGb.amax(2).double().mul_(blocks.scale_G[here])
        lower_BG.addmm_(query.factors_B4, blocks.lower_4G[:, here])
        with_excluded = excluded.rows_P[places], (excluded.ids_P[places] - start) // block
        lower_BG[with_excluded] = -torch.inf
        floor.raise_by(lower_BG, tile)
        gap_B = query.factors_B4 @ blocks.gap_4G[:, here].amax(1)
        open_BG = lower_BG >= floor.keys_B1 - gap_B[:, None]
        open_BG[with_excluded] = True
        held.append(_open_pairs(codes, query, blocks, products_BGb, open_BG, here.start, floor.keys_B1))
        if start + width >= len(codes_ND) or sum(len(rows_P) for rows_P, _, _ in held) > HELD_PAIRS:
            yield _still_open(held, floor.keys_B1)
            held = []


def block_size(num_vectors: int, k: int) -> int:
    """Vectors whose maximum is taken together: the k best are told apart only where blocks outnumber them."""
    block = BLOCK
    while block > 1 and num_vectors < block * max(16 * k, 1024):
        block //= 2
    return block


class _Blocks:
    """What is known of blocks of ``block`` vectors each."""

    def __init__(self, codes: Codes, block: int) -> None:
        self.size = block
        self.scale_G, self.lower_4G, self.gap_4G, self.error_4G = (
            # Repeating once copies all the same.
            part if block == BLOCK else part.repeat_interleave(BLOCK // block, dim=-1)
            for part in (codes.scale_G, codes.lower_4G, codes.gap_4G, codes.error_4G)
        )


class _Floor:
    """A lower bound of each query's k-th best key, raised as tiles are seen."""

    def __init__(self, silent_B: Tensor, k: int) -> None:
        self.k = k
        self.silent_B1 = silent_B[:, None]
        self.keys_B1 = torch.full(self.silent_B1.shape, -torch.inf, dtype=torch.float64)
        self.keys_B1[self.silent_B1] = torch.inf
        self._best: list[Tensor] = []

    def raise_by(self, lower_BG: Tensor, tile: int) -> None:
        self._best.append(lower_BG)
        # After 1, 2, 4, ... tiles: an older bound costs some k blocks more, a newer one a top k a tile.
        if tile & (tile + 1) == 0 or len(self._best) > WAITING_TILES:
            lower_BN = torch.cat(self._best, 1)
            self._best = [lower_BN.topk(min(self.k, lower_BN.shape[1]), sorted=False).values]
            if self._best[0].shape[1] == self.k:
                self.keys_B1 = self._best[0].amin(1, keepdim=True)
                self.keys_B1[self.silent_B1] = torch.inf


def _open_pairs(
    codes: Codes,
    query: QueryCodes,
    blocks: _Blocks,
    products_BGb: Tensor,
    open_BG: Tensor,
    first_block: int,
    floor_B1: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and places whose upper bound reaches the floor, and the bound."""
    rows_O, places_O = open_BG.nonzero(as_tuple=True)
    blocks_O = places_O + first_block
    upper_Ob = products_BGb[rows_O, places_O].double().mul_(blocks.scale_G[blocks_O, None])
    upper_Ob += codes.bias_N.view(-1, blocks.size)[blocks_O] * query.per_scale_B1[rows_O]
    upper_Ob += torch.linalg.vecdot(query.factors_B4[rows_O], blocks.error_4G.T[blocks_O])[:, None]
    opened_P, inside_P = (upper_Ob >= floor_B1[rows_O]).nonzero(as_tuple=True)
    return rows_O[opened_P], blocks_O[opened_P] * blocks.size + inside_P, upper_Ob[opened_P, inside_P]


def _still_open(held: list[tuple[Tensor, Tensor, Tensor]], floor_B1: Tensor) -> Pairs:
    rows_P, places_P, upper_P = (torch.cat(parts) for parts in zip(*held, strict=True))
    open_P = upper_P >= floor_B1[rows_P, 0]
    return Pairs(rows_P[open_P], places_P[open_P])

"""A sketch of the codes by 4 bits: few queries read half of the bytes, which leaves few vectors open.

Shapes: N vectors in whole blocks, D dimensions, G blocks of vectors, S bytes of a block, B queries, T tried
blocks, O open (query, block) pairs, P (query, vector) pairs.
"""

import torch
from torch import Tensor, nn

from widemax import native
from widemax.kernels import Pairs, budget
from widemax.search.codes import BLOCK, Codes, QueryCodes, largest_code
from widemax.search.scan import block_size

# Queries that a sketch answers sooner than products of all codes.
MOST_QUERIES = 8
# The largest code of 4 bits.
_LARGEST = 7
# Where a larger share of the blocks stays open, a sketch gains nothing.
_MOST_OPEN = 1 / 4
# So many times k blocks bound the k-th best key: by 4 bits it is not seen which are the k best.
_TRIED_BLOCKS = 8


class Sketch:
    """Codes of 8 bits once more as codes of 4.

    With c = t h + d, h the nearest code of 4 bits and t the ratio of the largest, v = S t h + (S d + r): the
    bound of :class:`Codes` holds with the scale S t, and the largest |r| + S |d| of the block for |r|.

    Attributes:
        codes_GS: uint8 h + 8, two a byte: those of a block by 8 dimensions, then by 16 vectors, then 4 bytes,
            of which the lower halves are the first 4 dimensions.
        scale_G: float64 S t.
        upper_4G: query factors times these and the largest approximation bound the block's keys above.
        pays: false once it left too much open: so it will again.
    """

    def __init__(self, codes: Codes) -> None:
        self.codes, self.pays = codes, True
        num_blocks, dim = len(codes.scale_G), codes.codes_ND.shape[1]
        ratio, slices = largest_code(dim) / _LARGEST, -(-dim // 8)
        self.codes_GS = torch.empty(num_blocks, BLOCK * slices * 4, dtype=torch.uint8)
        lost_G = torch.empty(num_blocks)
        width = max(1, budget.SMALL_TILE_ELEMENTS // (BLOCK * dim))
        for start in range(0, num_blocks, width):
            here = slice(start, start + width)
            whole_GnD = codes.codes_ND.view(num_blocks, BLOCK, dim)[here].float()
            short_GnD = (whole_GnD / ratio).round_()
            lost_G[here] = torch.linalg.vector_norm(whole_GnD.sub_(short_GnD, alpha=ratio), dim=2).amax(1)
            halves = nn.functional.pad(short_GnD.add_(8).to(torch.uint8), (0, -dim % 8))
            low, high = halves.view(-1, 4, 16, slices, 2, 4).unbind(4)
            self.codes_GS[here] = (low | high << 4).permute(0, 3, 1, 2, 4).flatten(1)
        self.scale_G = codes.scale_G * ratio
        self.upper_4G = codes.lower_4G + codes.gap_4G
        # float32 is off by far less than a thousandth.
        self.upper_4G[0] += lost_G.double().mul_(1.001) * codes.scale_G

    def candidates(self, query: QueryCodes, excluded: Pairs, silent_B: Tensor, *, k: int) -> Pairs | None:
        """What :func:`widemax.search.scan.candidates` gives, or None where that is sooner.

        The best vector of a block has a lower bound by its code of 8 bits, and the k-th largest of some such
        bounds is one of the k-th best key.
        """
        codes = self.codes
        if not self.pays or block_size(len(codes), k) < BLOCK:
            return None
        products = native.SketchProducts(query.codes_BD, self.codes_GS, codes.codes_ND)
        maxima_BG, places_BG = products.maxima()
        rest_BG = query.factors_B4 @ self.upper_4G
        upper_BG = torch.addcmul(rest_BG, maxima_BG.double(), self.scale_G)
        with_excluded = excluded.rows_P, excluded.ids_P // BLOCK
        tried_BG = upper_BG.index_put(with_excluded, upper_BG.new_tensor(-torch.inf))
        tried_upper_BT, tried_BT = tried_BG.topk(_TRIED_BLOCKS * k)
        lower_BT = _lower_bounds(codes, query, places_BG.gather(1, tried_BT))
        lower_BT[tried_upper_BT == -torch.inf] = -torch.inf
        floor_B1 = lower_BT.topk(k).values[:, -1:]
        floor_B1[silent_B] = torch.inf
        open_BG = upper_BG >= floor_B1
        rows_O, blocks_O = open_BG.nonzero(as_tuple=True)
        if len(rows_O) > _MOST_OPEN * open_BG.numel():
            # Where exclusions left a query no bound, others may have one.
            self.pays = bool((floor_B1 == -torch.inf).any())
            return None
        whole_4O = codes.lower_4G[:, blocks_O] + codes.gap_4G[:, blocks_O]
        whole_O = torch.linalg.vecdot(query.factors_B4[rows_O], whole_4O.T)
        floor_O = floor_B1[rows_O, 0]
        least, whole_least = (
            # One less than the product whose upper bound is the floor, for the sake of rounding.
            ((floor_O - rest_O) / scale_G[blocks_O]).floor_().sub_(1).clamp_(-(2**31), 2**31 - 1).int()
            for rest_O, scale_G in ((rest_BG[rows_O, blocks_O], self.scale_G), (whole_O, codes.scale_G))
        )
        return Pairs(*products.at_least((rows_O, blocks_O), (least, whole_least)))


def _lower_bounds(codes: Codes, query: QueryCodes, places_BT: Tensor) -> Tensor:
    """[B, T] what the keys of vectors are at least, by their codes of 8 bits."""
    products_BT = (codes.codes_ND[places_BT].int() * query.codes_BD[:, None]).sum(2)
    blocks_BT = places_BT // BLOCK
    errors_BT = torch.linalg.vecdot(query.factors_B4[:, None], codes.error_4G.T[blocks_BT])
    keys_BT = products_BT * codes.scale_G[blocks_BT] + codes.bias_N[places_BT] * query.per_scale_B1
    return keys_BT.sub_(errors_BT)

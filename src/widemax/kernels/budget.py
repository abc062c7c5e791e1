"""How much is held at a time, and why: every size of the kernels and of what uses them.

Sizes count numbers, of 4 bytes each in float32.
"""

# So few are sorted in less time than the calls take that look for the largest of them.
FEW_ELEMENTS = 2**11
# Up to here the whole matrix of logits is cheaper to keep than to cut into tiles.
PLAIN_ELEMENTS = 2**20
# One tile of logits: it should stay in a processor's cache between the passes over it.
TILE_ELEMENTS = 2**21
# Where a tile is passed over many times, as in answers, a smaller one.
SMALL_TILE_ELEMENTS = 2**20
# Rows of logits that are passed over many times between two products: they should stay in a core's own cache.
BLOCK_ELEMENTS = 2**17
# A tile of few rows: below so many classes calls take more time than arithmetic.
MIN_TILE_WIDTH = 512
# One part of what needs whole rows of logits: here memory matters, not the cache.
CHUNK_ELEMENTS = 2**22
# What is held across tiles, to be used again: 64 MB.
HELD_ELEMENTS = 2**24
# What exact answers hold at most, so that no tile is computed twice: 256 MB.
MOST_ANSWER_ELEMENTS = 2**26
# What a loss holds at most, so that its weights are passed over less often: 512 MB.
MOST_LOSS_ELEMENTS = 2**27
# Rows of a loss that are passed over together at most.
MOST_LOSS_ROWS = 2048
# The compiled kernels compute logits of shorter vectors anew, which takes less time than holding them.
HELD_DIM = 128
# So many logits in bfloat16 the compiled kernels compute twice, which takes less time than holding them.
ANEW_ELEMENTS = 2**22
# Blocks of a window gathered at a time to count the larger logits in them.
COUNTED_BLOCKS = 2**13
# Rows of one product: more make it no faster.
MOST_ROWS = 512
# Of so few, MKL's product with many classes takes up to twice as long as of the next number of rows.
SLOW_ROWS = range(6, 11)


def rows_at_once(num_rows: int, dim: int, num_classes: int) -> int:
    """Rows whose exponentials are held at a time, for which all weights and their gradient are passed over.

    Twice as many numbers are held as there are weights, within the limits above. 0 where these would be so
    few rows that computing the logits twice is faster, as the tiled losses do.

    Example:
        >>> rows_at_once(4096, 256, 131072), rows_at_once(4096, 64, 100_000_000)
        (512, 0)
    """
    held = min(max(HELD_ELEMENTS, 2 * num_classes * dim), MOST_LOSS_ELEMENTS)
    rows = min(max(held // num_classes, 1), num_rows)
    return min(rows, MOST_LOSS_ROWS) if rows >= min(dim, num_rows) else 0

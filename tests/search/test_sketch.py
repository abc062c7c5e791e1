"""Few queries by a sketch of the codes: the same answers, and what happens where its bound is too small."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from widemax import native
from widemax.kernels import Pairs
from widemax.search import ExactIndex, index
from widemax.search.codes import quantize
from widemax.search.rows import Rows
from widemax.search.sketch import MOST_QUERIES, Sketch

pytestmark = pytest.mark.skipif(
    native.library()[1] != "used", reason=f"the compiled kernels are {native.library()[1]}; make native"
)
# Fewer vectors have blocks too small for a sketch.
NUM_VECTORS = 66_000
NOTHING = torch.empty(0, dtype=torch.int64)


@pytest.fixture(autouse=True)
def with_kernels(monkeypatch):
    monkeypatch.setenv("WIDEMAX_NATIVE", "1")


def gaussian(num, dim, seed=0):
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed))


@functools.cache
def an_index(metric, dim):
    bias = gaussian(NUM_VECTORS, 1, seed=1)[:, 0] if metric == "dot" else None
    return ExactIndex(gaussian(NUM_VECTORS, dim), metric=metric, bias=bias)


def without_sketch(monkeypatch):
    monkeypatch.setattr(Sketch, "candidates", lambda *args, **options: None)


@given(
    *(st.sampled_from(["dot", "cosine", "euclidean"]), st.sampled_from([1, 5, 12])),
    *(st.integers(1, MOST_QUERIES), st.integers(1, 60), st.integers(0, 2**32 - 1)),
)
def test_answers_are_those_of_all_codes(metric, dim, num_queries, k, seed):
    its_index, queries = an_index(metric, dim), gaussian(num_queries, dim, seed)
    queries[-1] *= seed % 2
    best = its_index.topk(queries, 2).ids
    seen = torch.cat(
        [best[0], torch.randint(NUM_VECTORS, (40,), generator=torch.Generator().manual_seed(seed))]
    )
    exclude = Pairs(torch.zeros_like(seen), seen)
    found = its_index.topk(queries, k, exclude=exclude)
    with pytest.MonkeyPatch.context() as patch:
        without_sketch(patch)
        wanted = its_index.topk(queries, k, exclude=exclude)
    assert torch.equal(found.ids, wanted.ids)
    assert torch.equal(found.scores, wanted.scores)


def test_queries_may_lie_in_columns():
    its_index = ExactIndex(gaussian(NUM_VECTORS, 16))
    queries = gaussian(5, 16, seed=1)
    found = [candidates(its_index, x) for x in (queries, queries.T.contiguous().T)]
    assert all(map(torch.equal, *found))


def candidates(its_index, query_BD, k=10):
    """Of a query by the sketch."""
    found = []
    proven = Sketch.candidates

    def seen(*args, **options):
        found.append(proven(*args, **options))
        return found[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sketch, "candidates", seen)
        its_index.topk(query_BD, k)
    return found[0]


def test_few_vectors_are_left_open():
    query_BD = gaussian(1, 12, seed=7)
    index = an_index.__wrapped__("dot", 12)  # of the shared one, other questions may have left too much open
    pairs = candidates(index, query_BD)
    assert 10 <= len(pairs.ids_P) < 100


def test_all_codes_are_read_where_the_bound_tells_little():
    # The bound grows with the square root of the dimensions, beside what scores differ by.
    assert candidates(ExactIndex(gaussian(NUM_VECTORS, 256)), gaussian(1, 256, seed=1)) is None
    # Nor do excluded vectors count for the bound.
    its_index = an_index("dot", 5)
    exclude = Pairs(torch.zeros(NUM_VECTORS, dtype=torch.int64), torch.arange(NUM_VECTORS))
    assert (its_index.topk(torch.ones(1, 5), 3, exclude=exclude).ids == -1).all()
    # Which says nothing of other queries.
    assert candidates(its_index, torch.ones(1, 5)) is not None


@pytest.mark.parametrize(("factor", "right"), [(1.0, True), (0.25, False)])
def test_a_bound_too_small_misses(factor, right, monkeypatch):
    class Scaled(Sketch):
        def __init__(self, codes):
            super().__init__(codes)
            self.upper_4G[0] *= factor

    monkeypatch.setattr(index, "Sketch", Scaled)
    vectors, queries = gaussian(NUM_VECTORS, 3), gaussian(200, 3, seed=1)
    its_index = ExactIndex(vectors)
    found = torch.cat([its_index.topk(query[None], 5).ids for query in queries])
    truth = (queries.double() @ vectors.double().T).topk(5).indices
    assert torch.equal(found, truth) == right


@given(st.integers(1, 8), st.integers(1, 3), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_products_of_4_and_8_bits(num_rows, num_blocks, fours, seed):
    rng = np.random.default_rng(seed)
    rows, dim = (
        Rows(rng.standard_normal((64 * num_blocks, 4 * fours)).astype(np.float32), None, "dot"),
        4 * fours,
    )
    codes = quantize(rows)
    sketch = Sketch(codes)
    query_BD = rng.integers(-127, 128, (num_rows, dim))
    query_BD[0] = 127
    products = native.SketchProducts(
        torch.from_numpy(query_BD.astype(np.int8)), sketch.codes_GS, codes.codes_ND
    )
    maxima_BG, places_BG = products.maxima()
    whole_ND = codes.codes_ND.numpy().astype(int)
    ratio = float(sketch.scale_G[0] / codes.scale_G[0])
    short_BN, whole_BN = (
        query_BD @ x.T for x in (np.rint(np.float32(whole_ND) / np.float32(ratio)).astype(int), whole_ND)
    )
    np.testing.assert_array_equal(maxima_BG, short_BN.reshape(num_rows, -1, 64).max(2))
    np.testing.assert_array_equal(places_BG % 64, short_BN.reshape(num_rows, -1, 64).argmax(2))
    row, block = num_rows - 1, num_blocks - 1
    here = slice(64 * block, 64 * block + 64)
    least, whole_least = (int(np.sort(x_BN[row, here])[n]) for x_BN, n in ((short_BN, 20), (whole_BN, 40)))
    pairs, limits = (
        (torch.tensor([row]), torch.tensor([block])),
        (torch.tensor([least]).int(), torch.tensor([whole_least]).int()),
    )
    rows_P, places_P = products.at_least(pairs, limits)
    assert (rows_P == row).all()
    wanted = (short_BN[row, here] >= least) & (whole_BN[row, here] >= whole_least)
    np.testing.assert_array_equal(places_P - here.start, wanted.nonzero()[0])

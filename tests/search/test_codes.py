"""The bound on the error of the codes, and what happens without it."""

import os

import numpy as np
import pytest
import torch
from tests.forked import answer_of

from widemax.search import ExactIndex, codes
from widemax.search.codes import BLOCK, quantize, quantize_queries
from widemax.search.rows import Rows, unit_rows

METRICS = ("dot", "cosine", "euclidean")


def example(metric, *, spread, seed=0, dim=20):
    generator = torch.Generator().manual_seed(seed)
    vectors, queries = (
        torch.randn(size, dim, generator=generator, dtype=torch.float64) for size in (500, 30)
    )
    vectors *= 10 ** (spread * torch.randn(500, 1, generator=generator, dtype=torch.float64))
    queries *= 10 ** (spread * torch.randn(30, 1, generator=generator, dtype=torch.float64))
    bias = 3 * torch.randn(500, generator=generator, dtype=torch.float64) if metric == "dot" else None
    rows = Rows(vectors.float().numpy(), bias, metric)
    return rows, queries if metric != "cosine" else unit_rows(queries)


def errors_and_bounds(rows, queries_BD):
    """|key − approximation| by 80-bit arithmetic and its bound, both [B, N] in units of the query's scale."""
    coded, query = quantize(rows), quantize_queries(queries_BD, rows.metric, quantize(rows).center_D)
    products_BN = (query.codes_BD.long() @ coded.codes_ND.long().T).double()
    approximate_BN = products_BN * coded.scale_G.repeat_interleave(BLOCK) + coded.bias_N * query.per_scale_B1
    bounds_BN = (query.factors_B4 @ coded.error_4G).repeat_interleave(BLOCK, 1)
    x_ND, q_BD, center_D = (
        x.numpy().astype(np.longdouble) for x in (rows.read(coded.ids_N), queries_BD, coded.center_D)
    )
    if rows.metric == "cosine":
        x_ND = x_ND / np.sqrt((x_ND**2).sum(1, keepdims=True))
    v_ND = x_ND - center_D
    bias_N = 0 if rows.bias is None else rows.bias[coded.ids_N].numpy().astype(np.longdouble)
    if rows.metric == "euclidean":
        q_BD, bias_N = q_BD - center_D, -(v_ND**2).sum(1) / 2
    keys_BN = (q_BD @ v_ND.T + bias_N) * query.per_scale_B1.numpy().astype(np.longdouble)
    return np.abs(keys_BN - approximate_BN.numpy()), bounds_BN.numpy()


@pytest.mark.parametrize("spread", [0, 0.3, 5])
@pytest.mark.parametrize("metric", METRICS)
def test_the_bound_holds(metric, spread):
    for seed in range(5):
        errors_BN, bounds_BN = errors_and_bounds(*example(metric, spread=spread, seed=seed))
        assert (errors_BN <= bounds_BN).all()


def test_half_the_bound_does_not_hold():
    # In one dimension Cauchy and Schwarz are nearly equal to the truth.
    errors_BN, bounds_BN = errors_and_bounds(*example("dot", spread=0, dim=1))
    assert (errors_BN <= bounds_BN).all()
    assert (errors_BN > bounds_BN / 2).any()


@pytest.mark.parametrize(("factor", "right"), [(1.0, True), (0.25, False), (0.0, False)])
def test_a_bound_too_small_misses(factor, right, monkeypatch):
    """In few dimensions neighbors share a code: only the bound keeps the best of them."""
    proven = codes.block_bounds

    def scaled(*args):
        error_4G, lower_4G, gap_4G = proven(*args)
        change = (1 - factor) * error_4G[:2]
        error_4G[:2] -= change
        lower_4G[:2] += change
        gap_4G[:2] -= 2 * change
        return error_4G, lower_4G, gap_4G

    monkeypatch.setattr(codes, "block_bounds", scaled)
    generator = torch.Generator().manual_seed(0)
    vectors, queries = torch.randn(4000, 3, generator=generator), torch.randn(200, 3, generator=generator)
    found = ExactIndex(vectors, metric="euclidean").topk(queries, 5)
    truth = torch.cdist(queries.double(), vectors.double(), compute_mode="donot_use_mm_for_euclid_dist")
    assert torch.equal(found.ids, truth.topk(5, largest=False).indices) == right


def largest_code_of_older_processors():
    """Instruction sets before VNNI add pairs of products in 16 bits; answers stay exact there."""
    os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"
    vectors = torch.arange(4000.0).sin().view(400, 10)
    queries = -vectors[:50]
    truth = (queries.double() @ vectors.double().T).topk(3).indices
    assert torch.equal(ExactIndex(vectors).topk(queries, 3).ids, truth)
    a, b = torch.full((2, 200, 320), 63, dtype=torch.int8)
    for sign in (1, -1):
        assert (torch._int_mm(sign * a, b.T) == sign * 320 * 63**2).all()
    return codes.largest_exact_code()


def test_processors_that_saturate_get_smaller_codes():
    assert answer_of(largest_code_of_older_processors) in {63, 127}


def test_sums_of_long_vectors_fit():
    assert codes.largest_code(64) in {63, 127}
    assert codes.largest_code(10**6) ** 2 * 10**6 < 2**31 < (codes.largest_code(10**6) + 1) ** 2 * 10**6


@pytest.mark.parametrize("dim", [1, 7, 64, 1001, 40_000])
def test_a_score_does_not_depend_on_its_neighbors(dim):
    row_D = torch.randn(dim, generator=torch.Generator().manual_seed(0)).numpy()
    rows = Rows(np.stack([row_D] * 50), None, "dot")
    query_D = torch.linspace(-1, 2, dim, dtype=torch.float64)
    scores = {
        score
        for size in (1, 2, 3, 8, 50)
        for score in rows.exact_scores(query_D.expand(size, dim), torch.arange(size)).tolist()
    }
    assert len(scores) == 1

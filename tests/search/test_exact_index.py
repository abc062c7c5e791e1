"""Top k of an index against computing every score in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from widemax.errors import ArgumentError, ConfigError, DataError, LabelError, OptionError, ShapeError
from widemax.kernels import Pairs, budget
from widemax.search import ExactIndex, index, scan

METRICS = ("dot", "cosine", "euclidean")


@pytest.fixture(params=["one tile", "many tiles"], autouse=True)
def tiles(request, monkeypatch):
    if request.param == "many tiles":
        monkeypatch.setattr(budget, "TILE_ELEMENTS", 1)
        monkeypatch.setattr(scan, "WAITING_TILES", 5)
        monkeypatch.setattr(scan, "HELD_PAIRS", 50)
        monkeypatch.setattr(index, "QUERIES_AT_ONCE", 3)


def all_scores(vectors, queries, metric, bias=None):
    """[B, N] larger is better."""
    vectors, queries = (np.asarray(x).astype(np.float64) for x in (vectors, queries))
    if metric == "euclidean":
        return -np.sqrt(((vectors - queries[:, None]) ** 2).sum(2))
    if metric == "cosine":
        vectors, queries = unit(vectors), unit(queries)
    return (vectors * queries[:, None]).sum(2) + (0 if bias is None else np.asarray(bias, np.float64))


def unit(x):
    largest = np.abs(x).max(1, keepdims=True)
    x = x / np.where(largest > 0, largest, 1)
    length = np.sqrt((x**2).sum(1, keepdims=True))
    return x / np.where(length > 0, length, 1)


def check(found, scores, metric, k, allowed=None):
    """The very ids and scores of a stable sort of all scores."""
    taking_part = np.ones(scores.shape, dtype=bool) if allowed is None else allowed
    scores = np.where(taking_part, scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, 1)
    ids = np.where(np.isneginf(best), -1, order)
    missing = ((0, 0), (0, k - ids.shape[1]))
    ids, best = np.pad(ids, missing, constant_values=-1), np.pad(best, missing, constant_values=-np.inf)
    np.testing.assert_array_equal(found.ids, ids)
    np.testing.assert_array_equal(found.scores, -best if metric == "euclidean" else best)


@st.composite
def problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num, dim = draw(st.sampled_from([1, 2, 63, 64, 65, 300, 2500])), draw(st.sampled_from([1, 2, 7, 16, 33]))
    kind = draw(
        st.sampled_from(["normal", "levels", "near ties", "wild rows", "wild columns", "equal", "far"])
    )
    vectors = rng.standard_normal((num, dim))
    queries = rng.standard_normal((draw(st.integers(0, 7)), dim))
    match kind:
        case "levels":
            vectors, queries = vectors.round(), queries.round()
        case "near ties":
            vectors = vectors[:1] * (1 + rng.integers(-3, 4, vectors.shape) * 2.0**-23)
        case "wild rows":
            vectors *= 10.0 ** rng.integers(-30, 31, (num, 1))
            queries *= 10.0 ** rng.integers(-30, 31, (len(queries), 1))
        case "wild columns":
            vectors *= 10.0 ** rng.integers(-10, 11, dim)
        case "equal":
            vectors[:] = vectors[0]
        case "far":
            vectors, queries = vectors + 1000, queries + 1000
    if len(queries) > 2:
        queries[1] = 0
        queries[2] = vectors[-1]
    if num > 2:
        vectors[1] = 0
    bias = rng.standard_normal(num) * 10.0 ** draw(st.sampled_from([-30, 0, 3, 30]))
    k = draw(st.sampled_from([1, 3, 70, 3000]))
    return *(x.astype(np.float32) for x in (vectors, queries, bias)), k


@given(problems(), st.sampled_from([*METRICS, "dot + bias"]))
def test_equals_brute_force(problem, metric):
    vectors, queries, bias, k = problem
    if metric != "dot + bias":
        bias = None
    metric = metric.removesuffix(" + bias")
    found = ExactIndex(vectors, metric=metric, bias=bias).topk(queries, k)
    check(found, all_scores(vectors, queries, metric, bias), metric, k)


@given(problems(), st.sampled_from(METRICS), st.integers(0, 2**32 - 1), st.floats(0, 1), st.booleans())
def test_filters_are_exact(problem, metric, seed, share, restricted):
    vectors, queries, _, k = problem
    rng = np.random.default_rng(seed)
    allowed = rng.random((len(queries), len(vectors))) > share
    rows, ids = (torch.from_numpy(part) for part in np.nonzero(~allowed))
    shuffled = torch.from_numpy(rng.permutation(len(rows)))
    only = (
        torch.from_numpy(rng.integers(0, len(vectors), rng.integers(0, 2 * len(vectors))))
        if restricted
        else None
    )
    found = ExactIndex(vectors, metric=metric).topk(
        queries, k, exclude=Pairs(rows[shuffled], ids[shuffled]), only=only
    )
    if only is not None:
        allowed &= np.isin(np.arange(len(vectors)), only)
    check(found, all_scores(vectors, queries, metric), metric, k, allowed)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", ["u1", "i4", "f2", "f4", "f8"])
def test_arrays_of_every_type(metric, dtype):
    rng = np.random.default_rng(0)
    vectors, queries = (rng.integers(0, 50, (size, 9)).astype(dtype) for size in (700, 5))
    check(
        ExactIndex(vectors, metric=metric).topk(queries, 8), all_scores(vectors, queries, metric), metric, 8
    )


def test_tensors_of_half_precision():
    generator = torch.Generator().manual_seed(0)
    vectors, queries = (torch.randn(size, 9, generator=generator).bfloat16() for size in (700, 5))
    check(ExactIndex(vectors).topk(queries, 8), all_scores(vectors.float(), queries.float(), "dot"), "dot", 8)


@pytest.mark.parametrize("metric", METRICS)
def test_a_file_is_searched_as_memory_is(metric, tmp_path):
    rng = np.random.default_rng(0)
    vectors, queries = (rng.standard_normal((size, 12)).astype(np.float32) for size in (3000, 20))
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    found, only = ExactIndex(mapped, metric=metric).topk(queries, 10), torch.arange(0, 3000, 7)
    check(found, all_scores(vectors, queries, metric), metric, 10)
    restricted = ExactIndex(mapped, metric=metric).topk(queries, 10, only=only)
    torch.testing.assert_close(
        restricted, ExactIndex(vectors, metric=metric).topk(queries, 10, only=only), rtol=0, atol=0
    )


def test_arrays_that_cannot_be_written():
    vectors, bias = np.eye(3, dtype=np.float32), np.arange(3.0)
    for array in (vectors, bias):
        array.setflags(write=False)
    assert ExactIndex(vectors, bias=bias).topk(vectors, 1).ids.tolist() == [[2], [1], [2]]


def test_few_exact_scores_are_computed(monkeypatch):
    scored = []
    plain = index.Rows.exact_scores
    monkeypatch.setattr(
        index.Rows, "exact_scores", lambda self, q, where: scored.append(len(where)) or plain(self, q, where)
    )
    generator = torch.Generator().manual_seed(0)
    vectors, queries = torch.randn(50_000, 32, generator=generator), torch.randn(10, 32, generator=generator)
    queries[3] = 0
    ExactIndex(vectors).topk(queries, 10)
    assert sum(scored) < 10 * 1000


def test_no_vectors_and_no_queries():
    found = ExactIndex(np.empty((0, 3), np.float32), metric="euclidean").topk(np.zeros((2, 3)), 2)
    assert found.ids.tolist() == [[-1, -1]] * 2
    assert found.scores.tolist() == [[np.inf] * 2] * 2
    assert ExactIndex(np.ones((4, 3))).topk(np.empty((0, 3)), 2).ids.shape == (0, 2)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (OptionError, "did you mean 'cosine'", lambda: ExactIndex(np.ones((2, 2)), metric="cosin")),
        (
            ConfigError,
            "bias must be None",
            lambda: ExactIndex(np.ones((2, 2)), metric="cosine", bias=np.ones(2)),
        ),
        (ShapeError, r"bias must be \[2\]", lambda: ExactIndex(np.ones((2, 2)), bias=np.ones(3))),
        (ShapeError, "vectors must be", lambda: ExactIndex(np.ones(2))),
        (ShapeError, "vectors must be", lambda: ExactIndex(np.ones((2, 0)))),
        (ArgumentError, "bool", lambda: ExactIndex(np.ones((2, 2), bool))),
        (OptionError, "vectors", lambda: ExactIndex([[1.0]])),
        (ArgumentError, "meta", lambda: ExactIndex(torch.ones(2, 2, device="meta"))),
        (DataError, "vectors .* row 1 ", lambda: ExactIndex(np.array([[1.0], [np.nan]]))),
        (DataError, "vectors .* row 0 ", lambda: ExactIndex(np.array([[1e39], [1.0]]), metric="cosine")),
        (DataError, "bias .* row 1 ", lambda: ExactIndex(np.ones((2, 1)), bias=np.array([1.0, -np.inf]))),
        (
            DataError,
            "queries .* row 1 ",
            lambda: ExactIndex(np.ones((2, 1))).topk(np.array([[1.0], [np.nan]]), 1),
        ),
        (
            ShapeError,
            r"queries must be \[B, 1\]",
            lambda: ExactIndex(np.ones((2, 1))).topk(np.ones((1, 2)), 1),
        ),
        (
            OptionError,
            "'k' .* of at least 1; got 0",
            lambda: ExactIndex(np.ones((2, 1))).topk(np.ones((1, 1)), 0),
        ),
        (ArgumentError, "torch.bool", lambda: topk_of_two(only=torch.tensor([True, False]))),
        (LabelError, r"only must lie in \[0, 2\)", lambda: topk_of_two(only=torch.tensor([2]))),
        (
            LabelError,
            r"exclude\.ids_P",
            lambda: topk_of_two(exclude=Pairs(torch.tensor([0]), torch.tensor([-1]))),
        ),
        (
            LabelError,
            r"exclude\.rows_P",
            lambda: topk_of_two(exclude=Pairs(torch.tensor([1]), torch.tensor([0]))),
        ),
    ],
)
def test_what_is_refused(error, message, call):
    with pytest.raises(error, match=message):
        call()


def topk_of_two(**filters):
    return ExactIndex(np.ones((2, 1))).topk(np.ones((1, 1)), 1, **filters)

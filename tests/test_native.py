"""The compiled kernels against float64, and what is said of them where they are not used."""

import ctypes
import importlib.util
import os
import signal
from threading import Event, Timer, current_thread, main_thread

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.sparse import csr_array, random_array

from widemax import native, threads
from widemax.encoders import TextEncoder, to_tensors
from widemax.errors import ConfigError
from widemax.heads import CountsHead, ExactHead, SeveralLabels
from widemax.kernels import (
    Elsewhere,
    Pairs,
    Sweep,
    budget,
    linear_cross_entropy,
    linear_logsumexp,
    linear_softplus,
)
from widemax.optim import LazyAdam, RowwiseAdagrad
from widemax.search import ExactIndex
from widemax.solvers import Separators

SEEDS = st.integers(0, 2**32 - 1)
needs_kernels = pytest.mark.skipif(
    native.library()[1] != "used", reason=f"the compiled kernels are {native.library()[1]}; make native"
)


@pytest.fixture(autouse=True)
def not_left_unused(monkeypatch):
    monkeypatch.setenv("WIDEMAX_NATIVE", "1")


def test_the_environment_leaves_them_unused(monkeypatch):
    monkeypatch.setenv("WIDEMAX_NATIVE", "0")
    assert native.state() == "ignored, as WIDEMAX_NATIVE=0 says"
    assert not native.takes(torch.ones(1, 1))
    monkeypatch.setenv("WIDEMAX_NATIVE", "no")
    with pytest.raises(ConfigError, match="WIDEMAX_NATIVE must be 0 or 1; got 'no'"):
        native.takes(torch.ones(1, 1))


@pytest.fixture
def looked_for_anew():
    native.library.cache_clear()
    yield
    native.library.cache_clear()


class Library:
    def __init__(self, abi):
        self.widemax_native_abi = lambda: abi


@pytest.mark.parametrize(
    ("abi", "state"),
    [(None, "not installed"), (0, "installed, but this processor lacks AVX-512"), (99, "another version")],
)
def test_what_cannot_be_used_is_not_and_says_why(looked_for_anew, monkeypatch, abi, state):
    spec = importlib.util.spec_from_file_location("widemax_native", __file__)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if abi is None else spec)
    monkeypatch.setattr(ctypes, "CDLL", lambda path: Library(abi))
    assert state in native.state()
    assert not native.takes(torch.ones(1, 1))
    assert ExactHead(3, 2).topk(torch.ones(1, 2), 3).class_ids.shape == (1, 3)


@needs_kernels
@given(st.integers(1, 16), st.integers(1, 140), st.integers(1, 130), st.booleans(), SEEDS)
def test_products(num_rows, num_classes, dim, has_bias, seed):
    generator = torch.Generator().manual_seed(seed)
    hidden, weight, bias = (
        torch.randn(shape, generator=generator)
        for shape in ((num_rows, dim), (num_classes, dim), num_classes)
    )
    weight[-1], bias[-1] = weight[0], bias[0]
    wider = torch.full((num_rows, num_classes + 3), 7.0)
    logits = wider[:, 1:-2]
    native.products_into(hidden, weight, bias if has_bias else None, logits)
    truth = hidden.double() @ weight.double().T + (bias.double() if has_bias else 0)
    size = hidden.double().abs() @ weight.double().abs().T + bias.abs()
    assert ((logits - truth).abs() <= (dim / 16 + 7) * 2**-24 * size).all()
    assert (wider[:, [0, -2, -1]] == 7).all()
    # Alike wherever the class stands, and whichever rows and classes are beside it.
    assert torch.equal(logits[:, 0], logits[:, -1])
    alone = torch.empty(1, 1)
    native.products_into(hidden[-1:], weight[-1:], bias[-1:] if has_bias else None, alone)
    assert alone == logits[-1, -1]


def sums_of(logits, powers=2, before=-torch.inf):
    """Maxima, shift, sum and squares of logits, after one that came before."""
    shift, total, squares = (
        torch.full((len(logits),), x) for x in (torch.finfo(torch.float32).min, 0.0, 0.0)
    )
    total, squares = total.double(), squares.double()
    tiles = torch.full((len(logits), 64), before), logits
    maxima = [native.block_maxima(tile, shift, total, squares, powers=powers) for tile in tiles]
    return maxima[1], shift, total, squares


@needs_kernels
@given(
    *(st.integers(1, 3), st.integers(1, 4)),
    *(st.floats(0, 200), st.sampled_from([-torch.inf, -1e30, 300.0]), SEEDS),
)
def test_maxima_and_sums(num_rows, num_blocks, scale, before, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(num_rows, 64 * num_blocks, generator=generator)
    maxima, shift, total, squares = sums_of(logits, before=before)
    assert torch.equal(maxima, logits.view(num_rows, -1, 64).amax(2))
    all_logits = torch.cat([torch.full((num_rows, 64), before), logits], 1)
    assert torch.equal(shift, all_logits.amax(1))
    terms = (all_logits.double() - shift.double()[:, None]).exp()
    # The difference is rounded first, which moves e^x by up to 2^-24 x, of terms that are at most x e^-x.
    torch.testing.assert_close(total, terms.sum(1), rtol=3e-7, atol=1e-30)
    torch.testing.assert_close(squares, terms.square().sum(1), rtol=6e-7, atol=1e-30)


@needs_kernels
def test_every_exponential():
    x = torch.linspace(-87, 0, 2**16)
    logits = torch.full((len(x), 64), -torch.inf)
    logits[:, 0], logits[:, 63] = x, 0
    total = sums_of(logits, powers=1)[2] - 1
    truth = x.double().exp()
    # What is added to 1 in float32 keeps 2^-24 of 1.
    assert ((total - truth).abs() <= 2**-24 + 2**-22 * truth).all()


@needs_kernels
@given(
    *(st.integers(1, 3), st.integers(0, 70), st.booleans(), st.booleans()),
    *(st.sampled_from([torch.float32, torch.bfloat16]), st.floats(0, 200), SEEDS),
)
def test_exponentials(num_rows, width, has_bias, looks, dtype, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(num_rows, width, generator=generator)).to(dtype)
    logits[0, width // 2 :: 9] = -torch.inf
    bias = torch.randn(width, generator=generator) if has_bias else None
    sums = logits.float() + (bias if has_bias else 0)
    shift = sums.amax(1).clamp(min=-100) if width and not looks else torch.zeros(num_rows)
    largest = torch.cat([shift[:, None], sums], 1).amax(1) if looks else shift.clone()
    assert native.takes_logits(logits)
    assert not native.takes_logits(logits.half())
    total = native.exponentials_(logits, bias, shift, looks=looks)
    assert torch.equal(shift, largest)
    truth = (sums.double() - largest.double()[:, None]).exp()
    truth[truth < 2.0**-125] = 0
    # The difference is rounded first, which moves e^x by up to 2^-24 x, of terms that are at most x e^-x.
    torch.testing.assert_close(total.double(), truth.sum(1), rtol=3e-7, atol=1e-30)
    places = 2.0**-8 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(logits.double(), truth, rtol=places, atol=1e-30)


@needs_kernels
@given(
    *(st.integers(1, 3), st.integers(0, 70), st.booleans(), st.booleans()),
    *(st.sampled_from([torch.float32, torch.bfloat16]), st.floats(0, 200), SEEDS),
)
def test_softplus(num_rows, width, has_bias, has_factor, dtype, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(num_rows, width, generator=generator)).to(dtype)
    logits[0, width // 2 :: 9] = -torch.inf
    bias, factor = (torch.rand(2, width, generator=generator) + 0.1).unbind()
    sums = logits.double() + (bias if has_bias else 0)
    total = native.softplus_(logits, bias if has_bias else None, factor if has_factor else None)
    terms = torch.where(sums > 0, sums, 0) + (-sums.abs()).exp().log1p()
    truth = (terms * (factor if has_factor else 1)).sum(1)
    # The sum of logit and bias is rounded first, which moves e^x by up to 2^-24 x.
    torch.testing.assert_close(total.double(), truth, rtol=1e-6, atol=1e-36)
    places = 2.0**-8 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(logits.double(), sums.sigmoid(), rtol=places, atol=2.0**-125)


@needs_kernels
def test_softplus_of_numbers_beyond_all_bounds():
    logits = torch.tensor([torch.inf, -torch.inf, torch.nan, 3e38, -3e38, -80.0, 0.0])[:, None]
    for dtype in (torch.float32, torch.bfloat16):
        sigmoids = logits.to(dtype)
        truth = torch.nn.functional.softplus(sigmoids.float())[:, 0], sigmoids.sigmoid()
        total = native.softplus_(sigmoids, None)
        torch.testing.assert_close((total, sigmoids), truth, equal_nan=True, atol=0, rtol=1e-6)


@needs_kernels
@pytest.mark.parametrize("is_softmax", [False, True])
@pytest.mark.parametrize("is_anew", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.1, 30.0])
def test_losses_of_candidates_are_the_same(monkeypatch, dtype, scale, is_anew, is_softmax):
    if is_anew:
        skip_unless_multiplied(dtype)
        monkeypatch.setattr(budget, "ANEW_ELEMENTS", 1)
    torch.manual_seed(0)
    hidden, weight = (torch.randn(n, 64, dtype=dtype) for n in (120, 300))
    shift, factor, grad = scale * torch.randn(300), 10 * torch.rand(300), torch.rand(120)
    rows = torch.arange(120).repeat_interleave(torch.tensor([300, *[1] * 119]))  # the first hits all
    hits = Pairs(rows, torch.cat([torch.arange(300), torch.randint(300, (119,))]))

    def found(needed, dtype=dtype):
        leaves = [(scale * hidden).to(dtype), weight.to(dtype), shift]
        leaves = [x.clone().requires_grad_(i in needed) for i, x in enumerate(leaves)]
        if is_softmax:
            shift_B, loss = linear_logsumexp(*leaves, hits)
            total = shift_B.double() + loss.detach()
        else:
            loss = linear_softplus(*leaves, factor, hits)
            total = loss.detach()
        return [total, *torch.autograd.grad(loss, [leaves[i] for i in needed], grad.to(loss.dtype))]

    uses, name = [], "exponentials_" if is_softmax else "softplus_"
    if is_anew and dtype == torch.bfloat16:
        monkeypatch.setattr(native.LossTiles, "log_sums", spied(native.LossTiles.log_sums, uses))
    else:
        monkeypatch.setattr(native, name, spied(getattr(native, name), uses))
    ours = [found(needed) for needed in ([0, 1, 2], [0], [1], [2])]
    assert len(uses) == len(ours)
    for alone, gradient in zip(ours[1:], ours[0][1:], strict=True):
        torch.testing.assert_close(alone, [ours[0][0], gradient], rtol=1e-2, atol=1e-6)
    monkeypatch.setenv("WIDEMAX_NATIVE", "0")
    alike = zip(ours[0], found([0, 1, 2]), found([0, 1, 2], torch.float64), strict=True)
    places = 2.0**-7 if dtype == torch.bfloat16 else 2e-6
    for one, other, truth in alike:
        assert (one.isfinite() == truth.isfinite()).all()
        errors = [torch.where(truth.isfinite(), x - truth, 0).norm() for x in (one.double(), other.double())]
        assert errors[0] <= errors[1] + places * torch.where(truth.isfinite(), truth, 0).norm()


@needs_kernels
def test_numbers_that_are_none_stay():
    logits = torch.zeros(4, 128)
    logits[0, 70], logits[1, 3], logits[2], logits[3, 5] = torch.nan, torch.inf, -torch.inf, -torch.inf
    maxima, _, total, _ = sums_of(logits)
    assert maxima.isnan().tolist() == [[False, True], *[[False, False]] * 3]
    assert maxima[1].tolist() == [torch.inf, 0]
    assert total.isnan().tolist() == [True, True, False, False]
    assert total[2] < 1e-30
    assert total[3] == 127


@needs_kernels
@pytest.mark.parametrize("metric", ["dot", "cosine", "euclidean"])
def test_a_search_finds_the_same(monkeypatch, metric):
    rng = np.random.default_rng(0)
    # The fewest of which whole blocks of 64 are ranked, and near copies among them.
    vectors = rng.standard_normal((65_600, 6)).astype(np.float32)
    vectors[40_000:40_300] = vectors[7]
    vectors[40_100:40_200] += 1e-6
    queries = np.concatenate([vectors[7:9], rng.standard_normal((6, 6))])
    exclude = Pairs(torch.tensor([0, 0, 4]), torch.tensor([7, 40_005, 1]))
    index = ExactIndex(vectors, metric=metric)
    for rows in (1, 3, 8):
        found = [index.topk(queries[:rows], 10, exclude=exclude.of_rows(0, rows)[1])]
        with monkeypatch.context() as torch_alone:
            torch_alone.setenv("WIDEMAX_NATIVE", "0")
            found.append(index.topk(queries[:rows], 10, exclude=exclude.of_rows(0, rows)[1]))
        assert all(map(torch.equal, *found))


@needs_kernels
@given(
    *(st.integers(1, 40), st.integers(0, 70), st.sampled_from([0.0, 0.1]), st.sampled_from([0, 1, 5])),
    *(
        st.sampled_from([(torch.float32, True), (torch.float32, False), (torch.bfloat16, True)]),
        st.booleans(),
    ),
    SEEDS,
)
def test_a_step_of_adagrad(num_rows, dim, weight_decay, size, kind, is_sparse, seed):
    dtype, rowwise = kind
    generator = torch.Generator().manual_seed(seed)
    shape = [dim] if dim else []
    weight = torch.randn(50, *shape, generator=generator).to(dtype)
    weight[:3] *= 3e38
    num_rows = num_rows if is_sparse else 50
    ids = torch.randperm(50, generator=generator)[:num_rows]
    grads = 10.0**size * torch.randn(2, num_rows, *shape, generator=generator)
    grads.view(-1)[-1] = torch.nan
    grads = grads.to(dtype)

    def moved(kernels):
        parameter = torch.nn.Parameter(weight.clone())
        optimizer = RowwiseAdagrad([parameter], lr=0.5, weight_decay=weight_decay, rowwise=rowwise)
        optimizer.split(parameter, 1, 3)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("WIDEMAX_NATIVE", kernels)
            for grad in grads:
                sparse = torch.sparse_coo_tensor(
                    ids[None], grad, weight.shape, is_coalesced=True, check_invariants=False
                )
                parameter.grad = sparse if is_sparse else grad
                optimizer.step()
        return parameter.detach(), optimizer.state[parameter]["sum"]

    for found, wanted in zip(moved("1"), moved("0"), strict=True):
        # Sums that differ in the last place may be rounded to the other neighbor.
        places = 2e-6 if found.dtype == torch.float32 else 2.0**-7
        torch.testing.assert_close(found, wanted, rtol=places, atol=2e-6, equal_nan=True)
        assert (~found.isclose(wanted, rtol=2e-6, atol=2e-6, equal_nan=True)).sum() <= 2
    still = torch.ones(50, dtype=torch.bool).index_fill(0, ids, False)
    assert torch.equal(moved("1")[0][still], weight[still])


@needs_kernels
@given(
    *(st.integers(1, 40), st.integers(1, 70), st.sampled_from([0.0, 0.9]), st.sampled_from([-9, 0, 5])), SEEDS
)
def test_steps_of_lazy_adam(num_rows, dim, beta1, size, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(50, dim, generator=generator)
    steps = [
        (
            torch.randperm(50, generator=generator)[:num_rows],
            10.0**size * torch.randn(num_rows, dim, generator=generator),
        )
        for _ in range(4)
    ]
    steps[-1][1].view(-1)[-1] = torch.nan

    def moved(kernels):
        parameter = torch.nn.Parameter(weight.clone())
        optimizer = LazyAdam([parameter], lr=0.1, beta1=beta1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("WIDEMAX_NATIVE", kernels)
            for ids, grad in steps:
                parameter.grad = torch.sparse_coo_tensor(
                    ids[None], grad, weight.shape, is_coalesced=True, check_invariants=False
                )
                optimizer.step()
        state = optimizer.state[parameter]
        return parameter.detach(), *(state[name] for name in ("exp_avg", "exp_avg_sq", "touches"))

    for found, wanted in zip(moved("1"), moved("0"), strict=True):
        least = float(wanted.nan_to_num().abs().max()) if found.is_floating_point() else 0
        torch.testing.assert_close(found, wanted, rtol=3e-6, atol=1e-6 * least, equal_nan=True)


@needs_kernels
@given(*(st.integers(1, 40), st.integers(1, 300), st.integers(1, 60)), st.booleans(), SEEDS)
def test_sweeps_of_separators(num_rows, num_classes, num_features, is_shared, seed):
    rng = np.random.default_rng(seed)
    offsets = np.cumsum([0, *rng.integers(0, 40, num_rows)])
    ids, values = rng.integers(0, num_features, offsets[-1]), rng.normal(size=offsets[-1]).astype(np.float32)
    rows = csr_array((values, ids, offsets), (num_rows, num_features))  # which name an id more than once
    own = rng.random((num_rows, num_classes)) < 0.3

    def weights(kernels):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("WIDEMAX_NATIVE", kernels)
            patch.setattr(threads, "THREAD_ELEMENTS", 1 if is_shared else threads.THREAD_ELEMENTS)
            patch.setattr(torch, "get_num_threads", lambda: 3)
            separators = Separators([(rows, own), (rows[:17], own[:17])], seed=0)
            for _ in range(3):
                separators.sweep()
        return separators.weight_FC

    found, wanted = weights("1"), weights("0")
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


@needs_kernels
@given(
    st.lists(st.integers(0, 9), max_size=9),
    st.sampled_from([1, 2, 2048, 2049, 2**31 - 1]),
    SEEDS,
)
def test_entries_by_their_ids(lengths, num_ids, seed):
    rng = np.random.default_rng(seed)
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    few = rng.integers(0, num_ids, 5)
    ids = rng.choice(few, offsets[-1])
    values = rng.random(offsets[-1], dtype=np.float32)
    strided = np.repeat(offsets, 2)[::2]
    found = native.sorted_entries(*map(torch.from_numpy, (strided, ids, values)), num_ids)
    order = np.argsort(ids, kind="stable")
    distinct, counts = np.unique(ids, return_counts=True)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    wanted = distinct, np.concatenate(([0], np.cumsum(counts))), rows[order], values[order]
    for ours, truth in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(ours, truth)


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_default_of_float64_is_not_theirs(monkeypatch, dtype):
    skip_unless_multiplied(dtype)
    monkeypatch.setattr(budget, "ANEW_ELEMENTS", 1)
    generator = torch.Generator().manual_seed(0)
    layer = [torch.randn(n, 64, generator=generator).to(dtype) for n in (64, 130)]
    numbers = [torch.rand(130, generator=generator) for _ in range(2)]
    labels = Pairs(torch.arange(64), torch.arange(64))
    encoder = TextEncoder([("a", "text")], dim=4)
    columns = {"a": pa.array(["to be or not to be", "that is the question"])}
    encoder.fit([encoder.featurize(columns)], generator=torch.Generator())
    features = to_tensors(encoder.encode(columns))

    def found():
        torch.manual_seed(0)
        yield encoder(features)
        leaves = [x.clone().requires_grad_() for x in layer]
        for loss in (
            *(
                linear_cross_entropy(*leaves, None, labels, impl="fused", reduction="sum", normalizer=name)
                for name in ("softmax", "sigmoid")
            ),
            linear_logsumexp(*leaves, numbers[0], labels)[1].sum(),
            linear_softplus(*leaves, *numbers, labels).sum(),
        ):
            yield loss
            yield from torch.autograd.grad(loss, leaves)

    ours = list(found())
    try:
        torch.set_default_dtype(torch.float64)
        alike = list(found())
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(map(torch.equal, ours, alike))


@needs_kernels
@pytest.mark.parametrize("char_ngrams", [(), (2, 3)])
def test_weights_of_n_grams(char_ngrams):
    words = ["to", "be", "or", "not", "that", "is", "the", "question", "whether", "tis", "nobler"]
    rng = np.random.default_rng(0)
    texts = [
        pa.array([" ".join(rng.choice(words, rng.integers(0, 20))) for _ in range(200)]) for _ in range(2)
    ]
    columns = dict(zip("ab", texts, strict=True))
    encoder = TextEncoder(
        [("a", "text"), ("b", "text")], char_ngrams=char_ngrams, char_weight=0.5, dropout=0.25
    )
    encoder.fit([encoder.featurize(columns)], generator=torch.Generator())
    encoder.idf_F[::7] = 0  # those that no row of a fit had
    features = to_tensors(encoder.encode(columns))
    for draws in (None, torch.rand(len(features["bag"].ids))):
        found = encoder.bag(features, draws)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("WIDEMAX_NATIVE", "0")
            wanted = encoder.bag(features, draws)
        assert torch.equal(found.offsets, wanted.offsets)
        assert torch.equal(found.ids, wanted.ids)
        torch.testing.assert_close(found.values, wanted.values, rtol=1e-6, atol=0)


@needs_kernels
@given(*[st.integers(0, 200)] * 3, st.floats(0, 0.5), SEEDS)
def test_sparse_products(num_rows, num_inner, num_columns, density, seed):
    rng = np.random.default_rng(seed)
    shapes = (num_rows, num_inner), (num_inner, num_columns)
    left, right = (random_array(shape, density=density, rng=rng, dtype=np.float32) for shape in shapes)
    left, right = left.tocsr(), right.tocsr()
    right.data[:1] = np.nan
    assert native.takes_sparse(left, right)
    found, truth = native.sparse_product(left, right), left @ right
    truth.eliminate_zeros()
    truth.sort_indices()
    for name in ("indptr", "indices", "data"):
        np.testing.assert_array_equal(getattr(found, name), getattr(truth, name))
    assert not native.takes_sparse(left, right.astype(np.float64))
    assert not native.takes_sparse(left, right.tocsc())


@needs_kernels
@given(
    *(st.integers(1, 40), st.integers(1, 300), st.sampled_from([np.float32, np.float64])),
    *(st.floats(0, 200), st.booleans(), SEEDS),
)
def test_the_softmax_of_columns(num_rows, num_columns, dtype, scale, is_along, seed):
    logits = (scale * np.random.default_rng(seed).standard_normal((num_rows, num_columns))).astype(dtype)
    wider = np.full((num_rows + 2, num_columns), 7, dtype)
    assert native.takes_softmax(logits)
    assert not native.takes_softmax(logits.astype(np.float16))
    along = None
    if is_along:
        along = np.flip(logits).copy(), 0.5, np.empty_like(logits)
    largest, total, mean = native.softmax_into(logits, wider[1:-1], along)
    if along:
        direction, length, moved = along
        wanted = logits + length * direction.astype(np.float64)
        np.testing.assert_allclose(moved, wanted, rtol=0, atol=20 * scale * np.finfo(dtype).eps)
        logits = moved
        means, size = (wider[1:-1] * direction.astype(np.float64)).sum(0), np.abs(direction).max()
        np.testing.assert_allclose(mean, means, rtol=0, atol=float(60 * np.finfo(dtype).eps * size))
    np.testing.assert_array_equal(largest, logits.max(0))
    terms = np.exp(logits.astype(np.float64) - largest)
    error = 60 * np.finfo(dtype).eps
    np.testing.assert_allclose(total, terms.sum(0), rtol=error)
    np.testing.assert_allclose(wider[1:-1], terms / terms.sum(0), rtol=error, atol=2.0**-125)
    assert (wider[[0, -1]] == 7).all()


def counted(num_classes, rng):
    """A head that counted rows which often say the same, some with many classes."""
    head = CountsHead(num_classes, 12)
    labels = torch.from_numpy(rng.integers(0, num_classes, 300) ** 2 // num_classes)
    head.partial_fit(torch.from_numpy(some_features(300, rng)), labels)
    many = torch.from_numpy(rng.permutation(num_classes)[: 1 + num_classes // 2])
    head.partial_fit(torch.ones(1, 12), SeveralLabels(many, torch.tensor([0, len(many)])))
    head.finish()
    head.smoothing.fill_(rng.choice([1e-9, 0.1, 2.0]))
    head.calibration_temperature.fill_(rng.choice([0.3, 1.0, 3.0]))
    return head


def some_features(num_rows, rng):
    shape = num_rows, 12
    return (rng.integers(0, 3, shape) * (rng.random(shape) < 0.3)).astype(np.float32)


@needs_kernels
@given(st.sampled_from([1, 9, 70, 5000]), st.integers(1, 20), st.floats(0, 1), SEEDS)
def test_answers_of_counts(num_classes, k, share_barred, seed):
    rng = np.random.default_rng(seed)
    head, hidden = counted(num_classes, rng), torch.from_numpy(some_features(9, rng))
    hidden[0] = 0
    asked, barred = (
        SeveralLabels(torch.from_numpy(rng.integers(-1, num_classes, 9 * n)), torch.arange(10) * n)
        for n in (3, int(share_barred * num_classes))
    )
    found = head.answer(hidden, asked, k=k, exclude=barred)
    with pytest.MonkeyPatch.context() as numpy_alone:
        numpy_alone.setenv("WIDEMAX_NATIVE", "0")
        truth = head.answer(hidden, asked, k=k, exclude=barred)
    assert_same(found, truth)


def assert_same(answers, others):
    """The same order, and numbers as near as logarithms in 64 bits are before they are rounded."""
    assert torch.equal(answers.topk.class_ids, others.topk.class_ids)
    assert torch.equal(answers.label_ranks, others.label_ranks)
    pairs = [(answers.topk, others.topk, name) for name in ("logits", "log_probs")]
    names = "log_partition", "square_sum", "label_logits", "label_log_probs"
    for one, other, name in [*pairs, *((answers, others, name) for name in names)]:
        x, y = getattr(one, name), getattr(other, name)
        torch.testing.assert_close(x, y, rtol=1e-6, atol=1e-6, equal_nan=True)


@needs_kernels
def test_what_counts_say_of_numbers_that_are_none(monkeypatch):
    head = counted(70, np.random.default_rng(0))
    hidden, asked = torch.eye(3, 12), SeveralLabels(torch.tensor([5, -1, 3]), torch.tensor([0, 2, 2, 3]))
    hidden[0, 0] = torch.inf
    found = head.answer(hidden, asked, k=4)
    monkeypatch.setenv("WIDEMAX_NATIVE", "0")
    assert found.log_partition.isnan().tolist() == [True, False, False]
    assert_same(found, head.answer(hidden, asked, k=4))


def is_multiplied(dtype):
    return native.loss_pays(*(torch.ones(64, 64, dtype=dtype) for _ in range(2)), None)


def skip_unless_multiplied(dtype):
    if not is_multiplied(dtype):
        pytest.skip(f"the compiled kernels multiply no {dtype} on this processor")


def loss_and_gradients(
    hidden, weight, bias, targets, slope, *, kept, adds=False, is_softmax=True, factor_C=None
):
    """Largest logits, sums, and the gradients of hidden vectors, weights and biases, added to ones."""
    room = hidden.new_full((-(-len(hidden) // 64) * 64 * len(weight),), torch.nan) if kept else None
    tiles = native.LossTiles(*(hidden, weight, bias, targets, room), factor_C=factor_C, is_softmax=is_softmax)
    largest, total = tiles.log_sums()
    gradients = [torch.ones(x.shape) for x in (hidden, weight, weight[:, 0])]
    names = "hidden_grad_BD", "weight_grad_CD", "bias_grad_C"
    tiles.add_gradients(slope, largest + 1, **dict(zip(names, gradients, strict=True)), adds=adds)
    return largest, total, *gradients


@needs_kernels
@given(
    *(st.integers(1, 140), st.integers(1, 140), st.integers(1, 140), st.integers(0, 30)),
    *(st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.booleans()),
    *(st.sampled_from([torch.float32, torch.bfloat16]), st.sampled_from([0.1, 1.0, 30.0]), SEEDS),
)
def test_the_exact_loss(
    num_rows, num_classes, dim, num_targets, has_bias, has_factor, kept, adds, is_softmax, dtype, scale, seed
):
    assume(is_multiplied(dtype))  # a skip would leave out the other dtype too
    dim += dim % 2 if dtype == torch.bfloat16 else 0
    generator = torch.Generator().manual_seed(seed)
    hidden, weight, bias = (
        torch.randn(shape, generator=generator)
        for shape in ((num_rows, dim), (num_classes, dim), num_classes)
    )
    hidden, weight = (hidden * scale).to(dtype), weight.to(dtype)
    factor = torch.rand(num_classes, generator=generator) if has_factor else None
    places = torch.randperm(num_rows * num_classes, generator=generator)[:num_targets].sort().values
    targets = places // num_classes, places % num_classes
    slope = torch.rand(num_rows, generator=generator)
    found = loss_and_gradients(
        *(hidden, weight, bias if has_bias else None, targets, slope),
        kept=kept,
        adds=adds,
        is_softmax=is_softmax,
        factor_C=factor,
    )
    factors = torch.ones(num_classes) if factor is None else factor
    logits = hidden.double() @ weight.double().T + (bias.double() if has_bias else 0)
    logits[targets] = -torch.inf
    hidden, weight = hidden.double(), weight.double()
    error = (dim + 8) * 2.0**-24 * (hidden.abs() @ weight.abs().T + bias.abs()).amax(1) + 3e-7
    near, places = (1e-6, 1e-5) if dtype == torch.float32 else (2e-5, 2.0**-7)
    if dtype == torch.bfloat16 and kept:  # logits are rounded too
        error += torch.where(logits.isfinite(), logits.abs() * 2.0**-8, 0).amax()
    largest, total = found[:2]
    some = logits.isfinite().any(1)
    if is_softmax:
        assert ((largest - logits.amax(1)).abs() <= error)[some].all()
        truth = (logits - largest.double()[:, None]).exp() @ factors.double()
        values = (logits - largest.double()[:, None] - 1).exp()
    else:
        assert (largest == 0).all()
        truth, values = torch.nn.functional.softplus(logits) @ factors.double(), logits.sigmoid()
    assert ((total - truth).abs() <= ((2 * error).expm1() + near) * truth + 1e-35)[some].all()
    grads = slope.double()[:, None] * values * factors
    truths = grads @ weight, grads.T @ hidden, grads.sum(0)
    sizes = grads @ weight.abs(), grads.T @ hidden.abs(), grads.sum(0)
    for one, truth, size, before in zip(found[2:], truths, sizes, (1, int(adds), int(adds)), strict=True):
        assert ((one - truth - before).abs() <= ((4 * error.max()).expm1() + places) * size + 1e-6).all()


@needs_kernels
@pytest.mark.parametrize("kept", [False, True])
def test_gradients_that_are_not_asked_for(kept):
    torch.manual_seed(0)
    hidden, weight, slope = torch.randn(70, 40), torch.randn(100, 40), torch.rand(70)
    targets = torch.tensor([3]), torch.tensor([99])
    truths = loss_and_gradients(hidden, weight, None, targets, slope, kept=kept)[2:]
    names = "hidden_grad_BD", "weight_grad_CD", "bias_grad_C"
    for name, truth in zip(names, truths, strict=True):
        room = torch.empty(128 * 100) if kept else None
        tiles = native.LossTiles(hidden, weight, None, targets, room)
        shift = tiles.log_sums()[0] + 1
        gradient = torch.ones_like(truth)
        asked = dict.fromkeys(names) | {name: gradient}
        tiles.add_gradients(slope, shift, **asked, adds=False)
        assert torch.equal(gradient, truth)


@needs_kernels
@pytest.mark.parametrize("kept", [False, True])
def test_both_passes_see_the_same_logits_of_bfloat16(kept):
    skip_unless_multiplied(torch.bfloat16)
    torch.manual_seed(0)
    hidden, weight = (100 * torch.randn(64, 128)).bfloat16(), torch.randn(300, 128).bfloat16()
    targets = tuple(torch.arange(64) for _ in range(2))
    slope = torch.rand(64)
    _, total, *_, grad_C = loss_and_gradients(hidden, weight, None, targets, slope, kept=kept)
    torch.testing.assert_close(grad_C.sum(), (slope * total / torch.e).sum().float(), rtol=1e-4, atol=0)


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dim", [64, 128], ids=["anew", "held"])
@pytest.mark.parametrize(
    "options",
    [
        *({}, {"label_smoothing": 0.2, "temperature": 0.5}),
        *({"z_loss": 0.1, "sample_weight": torch.rand(170)}, {"normalizer": "sigmoid", "temperature": 0.5}),
    ],
    ids=["plain", "smoothed", "weighted", "sigmoids"],
)
def test_the_fused_loss_is_the_plain_one(monkeypatch, dim, dtype, options):
    torch.manual_seed(0)
    monkeypatch.setattr(budget, "MOST_LOSS_ROWS", dim)
    monkeypatch.setattr(budget, "HELD_ELEMENTS", 1)
    monkeypatch.setattr(budget, "MOST_LOSS_ELEMENTS", 128 * 200)
    weight, bias, hidden = (
        x.to(dtype) for x in (torch.randn(200, dim) / dim**0.5, torch.randn(200), torch.randn(170, dim))
    )
    skip_unless_multiplied(dtype)
    targets = Pairs(torch.arange(170), torch.randint(200, (170,)))
    weights, shifts = torch.rand(170), torch.randn(170)

    def found(impl, dtype):
        leaves = [x.to(dtype).requires_grad_() for x in (hidden, weight, bias, shifts)]
        loss = linear_cross_entropy(
            *(*leaves[:3], targets, weights.to(dtype), leaves[3]), reduction="mean", impl=impl, **options
        )
        return [loss.detach(), *torch.autograd.grad(loss, leaves)]

    uses = []
    monkeypatch.setattr(native.LossTiles, "log_sums", spied(native.LossTiles.log_sums, uses))
    ours, truth = found("fused", dtype), found("plain", torch.float64)
    assert len(uses) == -(-170 // dim)
    for one, other in zip(ours, truth, strict=True):
        if dtype == torch.float32:
            torch.testing.assert_close(one.double(), other, rtol=2e-5, atol=2e-7)
        else:
            assert (one - other).norm() <= 2.0**-7 * other.norm()


@needs_kernels
@pytest.mark.parametrize(("num_rows", "num_classes"), [(0, 100), (64, 0)])
def test_a_loss_of_no_rows_or_of_another_s_classes(num_rows, num_classes):
    nothing = torch.arange(0)
    tensors = torch.ones(num_rows), torch.ones(num_rows, 64), torch.ones(num_classes, 64), None
    elsewhere = Elsewhere(100, 100, torch.ones(num_rows), lambda largest, total: (largest, total + 2))
    options = True, 1.0, 0.0, 0.0, 0.0
    sweep = Sweep((*tensors, nothing, nothing, torch.ones(0), None), options, [True] * 8, elsewhere)
    assert sweep.run() == 0
    assert sweep.gradients()[2].shape == (num_classes, 64)


def spied(function, calls):
    def noted(*arguments, **options):
        calls.append(arguments)
        return function(*arguments, **options)

    return noted


def answers(head, hidden, index, queries):
    best, nearest = head.topk(hidden, 7), index.topk(queries, 5)
    labels = torch.arange(len(hidden)), torch.arange(len(hidden))
    loss = loss_and_gradients(hidden, head.weight.detach(), None, labels, hidden[:, 0], kept=False)
    rows = csr_array(hidden.clamp(min=0).numpy())
    sums = native.sparse_product(rows, csr_array(head.weight.detach().T.clamp(min=0).numpy()))
    rng = np.random.default_rng(0)
    best_counted = counted(70, rng).topk(torch.from_numpy(some_features(99, rng)), 7)
    return torch.from_numpy(sums.data), *vars(best_counted).values(), *vars(best).values(), *nearest, *loss


def test_nothing_works_on_once_a_thread_was_interrupted(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    begun, goes_on, ended = Event(), Event(), []

    def work(_):
        if current_thread() is main_thread():
            begun.wait()
            Timer(0.1, goes_on.set).start()
            raise KeyboardInterrupt
        begun.set()
        goes_on.wait()
        ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        threads.share(work, 2 * threads.THREAD_ELEMENTS)
    assert ended


@needs_kernels
def test_threads_change_nothing(monkeypatch):
    monkeypatch.setattr(native, "PART_ELEMENTS", 1000)
    monkeypatch.setattr(threads, "THREAD_ELEMENTS", 10)
    torch.manual_seed(0)
    head, index = ExactHead(1000, 16), ExactIndex(torch.randn(70_000, 8))
    hidden, queries = torch.randn(5, 16), torch.randn(3, 8)
    alone = answers(head, hidden, index, queries)
    num_threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        together = answers(head, hidden, index, queries)
    finally:
        torch.set_num_threads(num_threads)
    assert all(map(torch.equal, alone, together))


@needs_kernels
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_a_forked_process_has_threads_of_its_own(monkeypatch):
    monkeypatch.setattr(native, "PART_ELEMENTS", 1000)
    monkeypatch.setattr(threads, "THREAD_ELEMENTS", 10)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    hidden, weight = torch.randn(2, 16), torch.randn(1000, 16)
    here, there = torch.empty(2, 1000), torch.zeros(2, 1000).share_memory_()
    native.products_into(hidden, weight, None, here)
    child = os.fork()
    if not child:
        signal.alarm(60)
        native.products_into(hidden, weight, None, there)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert torch.equal(here, there)

"""Questions about all classes against brute force, whatever the tiling."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from widemax.kernels import Added, Pairs, budget, stream, stream_classes

pytestmark = pytest.mark.usefixtures("kernels")

B, C, D = 37, 1300, 5

# Logits held, of a tile, and held where all do not fit: everything in one tile; several tiles, all held; one
# tile held at a time; two of three; rows one by one.
PLANS = {
    "one": (2**26, 2**21, 2**24),
    "held": (2**26, 1, 2**24),
    "a tile": (30_000, 1, 1),
    "two tiles": (30_000, 1, 37 * 600),
    "single rows": (20, 1, 1),
}


def set_plan(monkeypatch, name):
    for constant, value in zip(("MOST_ANSWER", "SMALL_TILE", "HELD"), PLANS[name], strict=True):
        monkeypatch.setattr(budget, f"{constant}_ELEMENTS", value)


@pytest.fixture(params=PLANS, ids=str)
def plan(request, monkeypatch):
    set_plan(monkeypatch, request.param)
    return request.param


def test_the_plans_differ(monkeypatch):
    plans = []
    for name in PLANS:
        set_plan(monkeypatch, name)
        plans.append(stream.plan(B, C, 10))
    assert plans == [(37, 1, 1344), (37, 3, 448), (37, 1, 448), (37, 2, 448), (1, 1, 448)]


def example(*, levels):
    """Small whole numbers, whose products are exact in float32: brute force sees the very same ties."""
    generator = np.random.default_rng(0)
    hidden, weight = (generator.integers(-levels, levels + 1, shape) for shape in ((B, D), (C, D)))
    return hidden, weight, generator.integers(-levels, levels + 1, C)


def random_pairs(num_pairs, *, seed):
    chosen = np.random.default_rng(seed).choice(B * C, num_pairs, replace=False)
    return Pairs(*(torch.from_numpy(part) for part in np.divmod(np.sort(chosen), C)))


def log_partition(found):
    return found.shift_B.double() + found.log_sum_B


def brute_force(logits_BC, labels, excluded, k):
    ranked_BC = logits_BC.astype(np.float64)
    ranked_BC[excluded.rows_P, excluded.ids_P] = -np.inf
    order_BC = np.argsort(-ranked_BC, axis=1, kind="stable")
    ranks = [
        0 if label < 0 else 1 + order_BC[row].tolist().index(label)
        for row, label in zip(labels.rows_P.tolist(), labels.ids_P.tolist(), strict=True)
    ]
    ids_BK = order_BC[:, :k]
    return np.take_along_axis(ranked_BC, ids_BK, 1), ids_BK, special.logsumexp(logits_BC, axis=1), ranks


def run(hidden, weight, bias, labels, excluded, k, added=None):
    tensors = [torch.from_numpy(x).float() for x in (hidden, weight, bias)]
    return stream_classes(*tensors, labels, excluded, k=k, added=added)


def test_what_some_logits_are_more_is_ranked_like_the_rest(plan):
    hidden, weight, bias = example(levels=1)
    labels, excluded, more = random_pairs(90, seed=1), random_pairs(0, seed=2), random_pairs(3000, seed=3)
    values_S = torch.from_numpy(np.random.default_rng(4).integers(-4, 5, 3000))
    logits_BC = hidden @ weight.T + bias
    logits_BC[tuple(more)] += values_S.numpy()
    order_S = more.ids_P.argsort()
    added = Added(more.rows_P[order_S], more.ids_P[order_S], values_S[order_S].float())
    found = run(hidden, weight, bias, labels, excluded, 10, added)
    values_BK, ids_BK, log_partition_B, ranks_P = brute_force(logits_BC, labels, excluded, 10)
    np.testing.assert_array_equal(found.topk_ids_BK, ids_BK)
    np.testing.assert_array_equal(found.topk_logits_BK, values_BK)
    np.testing.assert_array_equal(found.label_ranks_P, ranks_P)
    np.testing.assert_allclose(log_partition(found), log_partition_B, rtol=3e-7)


@pytest.mark.parametrize("levels", [0, 1, 50], ids=["all equal", "many ties", "few ties"])
@pytest.mark.parametrize("k", [0, 1, 10, 200, C])
def test_equals_brute_force(plan, levels, k):
    hidden, weight, bias = example(levels=levels)
    labels = random_pairs(90, seed=1)
    labels.ids_P[::11] = -1
    excluded = random_pairs(2000, seed=2)
    keep = ~np.isin(excluded.rows_P * C + excluded.ids_P, labels.rows_P * C + labels.ids_P)
    excluded = Pairs(excluded.rows_P[keep], excluded.ids_P[keep])
    logits_BC = hidden @ weight.T + bias
    found = run(hidden, weight, bias, labels, excluded, k)
    values_BK, ids_BK, log_partition_B, ranks_P = brute_force(logits_BC, labels, excluded, k)
    np.testing.assert_array_equal(found.topk_ids_BK, ids_BK)
    np.testing.assert_array_equal(found.topk_logits_BK, values_BK)
    np.testing.assert_allclose(log_partition(found), log_partition_B, rtol=3e-7)
    log_square_sum_B = special.logsumexp(2 * logits_BC.astype(np.float64), 1)
    np.testing.assert_allclose(
        2 * found.shift_B + found.log_square_sum_B, log_square_sum_B, rtol=1e-6, atol=1e-6
    )
    np.testing.assert_array_equal(found.label_ranks_P, ranks_P)
    known = labels.ids_P >= 0
    np.testing.assert_array_equal(
        found.label_logits_P[known], logits_BC[labels.rows_P[known], labels.ids_P[known]]
    )
    assert found.label_logits_P[~known].isnan().all()


def test_one_label_a_row_and_rounded_products(plan):
    generator = torch.Generator().manual_seed(3)
    hidden, weight = torch.randn(B, 64, generator=generator), torch.randn(C, 64, generator=generator)
    # Twins of equal weights far apart: only equal products let the smaller id win.
    weight[C - 200 :] = weight[:200]
    labels = Pairs(torch.arange(B), torch.randint(C - 200, C, (B,), generator=generator))
    nothing = Pairs(torch.arange(0), torch.arange(0))
    found = stream_classes(hidden, weight, None, labels, nothing, k=5)
    first = stream_classes(hidden, weight, None, Pairs(labels.rows_P, labels.ids_P - (C - 200)), nothing, k=0)
    assert torch.equal(found.label_ranks_P, first.label_ranks_P + 1)
    exact_BC = hidden.double() @ weight.double().T
    torch.testing.assert_close(log_partition(found).double(), exact_BC.logsumexp(1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("num_classes", [1, 2, 64, 65])
def test_few_classes(plan, num_classes):
    hidden, weight, bias = example(levels=2)
    labels = Pairs(torch.arange(B), torch.arange(B) % num_classes)
    nothing = Pairs(torch.arange(0), torch.arange(0))
    found = run(hidden, weight[:num_classes], bias[:num_classes], labels, nothing, num_classes)
    logits_BC = hidden @ weight[:num_classes].T + bias[:num_classes]
    _, ids_BK, _, ranks = brute_force(logits_BC, labels, nothing, num_classes)
    np.testing.assert_array_equal(found.topk_ids_BK, ids_BK)
    np.testing.assert_array_equal(found.label_ranks_P, ranks)


def test_empty_batch(plan):
    nothing = Pairs(torch.arange(0), torch.arange(0))
    found = stream_classes(torch.zeros(0, D), torch.zeros(C, D), None, nothing, nothing, k=3)
    assert [tuple(part.shape) for part in found] == [(0, 3), (0, 3), *[(0,)] * 5]


@given(
    st.sampled_from(sorted(PLANS)),
    st.sampled_from([torch.bfloat16, torch.float32]),
    st.integers(1, 60),
    st.integers(0, 1300),
    st.integers(1, 3),
    st.integers(0, 10**6),
)
def test_ranks_are_places_in_the_list_of_all(name, dtype, num_rows, num_extra, labels_a_row, seed):
    """Rounded products and twins of equal weights: only the same products for all answers give this."""
    generator = torch.Generator().manual_seed(seed)
    num_classes = 700 + num_extra
    hidden = torch.randn(num_rows, 64, generator=generator).to(dtype)
    weight = torch.randn(num_classes, 64, generator=generator).to(dtype)
    weight[num_classes - 300 :] = weight[:300]
    ids_P = torch.randint(-1, num_classes, (num_rows * labels_a_row,), generator=generator)
    labels = Pairs(torch.arange(num_rows).repeat_interleave(labels_a_row), ids_P)
    nothing = Pairs(torch.arange(0), torch.arange(0))
    with pytest.MonkeyPatch.context() as monkeypatch:
        set_plan(monkeypatch, name)
        found = stream_classes(hidden, weight, None, labels, nothing, k=num_classes)
    places_BC = found.topk_ids_BK.argsort(1)
    expected_P = torch.where(ids_P < 0, 0, places_BC[labels.rows_P, ids_P] + 1)
    assert torch.equal(found.label_ranks_P, expected_P)
    logits_P = found.topk_logits_BK[labels.rows_P, expected_P - 1]
    assert torch.equal(found.label_logits_P[ids_P >= 0], logits_P[ids_P >= 0])
    tied_B = found.topk_logits_BK[:, 1:] == found.topk_logits_BK[:, :-1]
    assert (found.topk_ids_BK[:, 1:] > found.topk_ids_BK[:, :-1])[tied_B].all()


def test_a_product_of_its_own_for_a_label_would_not_do(monkeypatch):
    set_plan(monkeypatch, "a tile")
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(B, 300, generator=generator), torch.randn(C, 300, generator=generator)
    labels = Pairs(torch.arange(B), torch.randint(0, C, (B,), generator=generator))
    nothing = Pairs(torch.arange(0), torch.arange(0))
    found = stream_classes(hidden, weight, None, labels, nothing, k=0)
    alone_B = torch.linalg.vecdot(hidden, weight[labels.ids_P])
    torch.testing.assert_close(found.label_logits_P, alone_B)
    assert not torch.equal(found.label_logits_P, alone_B)


def test_sums_can_be_left_out(plan):
    hidden, weight, bias = example(levels=1)
    labels, nothing = random_pairs(90, seed=1), Pairs(torch.arange(0), torch.arange(0))
    tensors = [torch.from_numpy(x).float() for x in (hidden, weight, bias)]
    whole = stream_classes(*tensors, labels, nothing, k=7)
    found = stream_classes(*tensors, labels, nothing, k=7, powers=0)
    assert found.log_sum_B.isnan().all()
    assert found.log_square_sum_B.isnan().all()
    log_z = stream_classes(*tensors, labels, nothing, k=7, powers=1)
    assert torch.equal(log_z.log_sum_B, whole.log_sum_B)
    assert log_z.log_square_sum_B.isnan().all()
    for name in ("topk_logits_BK", "topk_ids_BK", "label_logits_P", "label_ranks_P"):
        assert torch.equal(getattr(found, name), getattr(whole, name))


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 3e-7), (torch.float64, 1e-14)])
@pytest.mark.parametrize("shift", [-3000.0, 0.0, 3000.0])
def test_sums_of_far_apart_tiles(plan, dtype, rtol, shift):
    """A row whose largest logits come last, first, or beside classes without a chance."""
    slopes_C = torch.linspace(-600, 600, C, dtype=dtype)
    slopes_C[5] = -torch.inf
    hidden, weight = torch.tensor([[1.0], [-1.0], [0.0]], dtype=dtype), torch.ones(C, 1, dtype=dtype)
    bias_C = slopes_C + shift
    nothing = Pairs(torch.arange(0), torch.arange(0))
    found = stream_classes(hidden, weight, bias_C, nothing, nothing, k=0)
    logits_BC = (hidden @ weight.T + bias_C).double()
    torch.testing.assert_close(log_partition(found).double(), logits_BC.logsumexp(1), rtol=rtol, atol=rtol)
    log_square_sum_B = (2 * logits_BC).logsumexp(1)
    torch.testing.assert_close(
        2 * found.shift_B + found.log_square_sum_B.double(), log_square_sum_B, rtol=rtol, atol=rtol
    )


def test_bfloat16_weights(plan):
    hidden, weight, _ = example(levels=1)
    nothing = Pairs(torch.arange(0), torch.arange(0))
    tensors = [torch.from_numpy(x).bfloat16() for x in (hidden, weight)]
    found = stream_classes(*tensors, None, nothing, nothing, k=4)
    assert found.topk_logits_BK.dtype == torch.float32
    np.testing.assert_array_equal(
        found.topk_ids_BK, np.argsort(-(hidden @ weight.T), axis=1, kind="stable")[:, :4]
    )


@pytest.mark.parametrize("k", [0, 10, 10**5])
@pytest.mark.parametrize(("rows", "classes"), [(1, 10), (5000, 128_000), (5000, 10**7), (3, 10**8), (0, 5)])
def test_plans_bound_memory(rows, classes, k):
    rows_per_chunk, held_tiles, width = stream.plan(rows, classes, min(k, classes))
    assert width % stream.BLOCK == 0
    assert rows_per_chunk >= 1
    one_tile_more = budget.SMALL_TILE_ELEMENTS + 8 * stream.BLOCK * rows_per_chunk
    assert rows_per_chunk * held_tiles * width <= budget.MOST_ANSWER_ELEMENTS + one_tile_more
    assert held_tiles * width >= min(4 * k, classes)


def test_very_many_classes_are_passed_over_in_large_chunks():
    rows_per_chunk, held_tiles, width = stream.plan(1000, 10**8, 10)
    assert rows_per_chunk == 500
    assert rows_per_chunk * held_tiles * width < 2 * budget.HELD_ELEMENTS


def answers_of(seed):
    generator = torch.Generator().manual_seed(seed)
    hidden, weight = torch.randn(B, D, generator=generator), torch.randn(C, D, generator=generator)
    labels = Pairs(torch.arange(B), torch.randint(0, C, (B,), generator=generator))
    return stream_classes(hidden, weight, None, labels, Pairs(torch.arange(0), torch.arange(0)), k=70)


def equal(ours, theirs):
    return all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_the_next_call_leaves_the_answers_alone():
    first = answers_of(0)
    copies = [part.clone() for part in first]
    second = answers_of(1)
    assert equal(first, copies)
    assert not equal(first, second)


@pytest.mark.parametrize("kept", [0, 2**24], ids=["new", "kept"])
def test_threads_do_not_share_a_buffer(monkeypatch, kept):
    monkeypatch.setattr(budget, "HELD_ELEMENTS", kept)
    alone = [answers_of(seed) for seed in range(6)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(answers_of, [*range(6)] * 5))
    assert all(equal(found, alone[at % 6]) for at, found in enumerate(together))


def test_a_large_buffer_does_not_outlive_the_call(monkeypatch):
    answers_of(0)
    assert stream.kept.buffer is not None
    monkeypatch.setattr(budget, "HELD_ELEMENTS", 10)
    stream.kept.buffer = None
    answers_of(0)
    assert stream.kept.buffer is None


def test_inference_mode_does_not_stay(monkeypatch):
    monkeypatch.setattr(stream, "kept", stream.Kept())
    with torch.inference_mode():
        inside = answers_of(0)
    assert equal(inside, answers_of(0))

"""Hard negatives of a pool are drawn as often as declared; top-k without its correction is caught."""

import math

import pytest
import torch

from widemax.classes import Classes
from widemax.errors import ConfigError, UsageError
from widemax.samplers import Query, build_sampler, samplers

NUM_CLASSES, NUM_SAMPLED = 60, 12
ALL_IDS = torch.arange(NUM_CLASSES)
POOLS = ["uniform", {"kind": "uniform", "duplicates": "keep"}, {"kind": "uniform", "duplicates": "redraw"}]
POOLS += ["frequency", "poisson", {"kind": "quadratic_kernel", "duplicates": "redraw"}]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def model(seed=1, dim=5, num_classes=NUM_CLASSES):
    rng = generator(seed)
    weight = torch.randn(num_classes, dim, generator=rng)
    bias = torch.randn(num_classes, generator=rng)
    return Query(torch.randn(4, dim, generator=rng), lambda ids: (weight[ids], bias[ids]))


def by_id():
    """The score of a class is its id."""
    return Query(torch.ones(1, 1), lambda ids: (ids[:, None].float(), torch.zeros(len(ids))))


def build(of="uniform", num_classes=NUM_CLASSES, **options):
    counts = (200 / torch.arange(1, num_classes + 1)).long()
    return build_sampler({"kind": "hard_negatives", "of": of, **options}, Classes(num_classes, counts))


def ratios(sampler, query, wrong=None, num_draws=250):
    """[R, C] count / expected count in each of many draws."""
    rng = generator(2)
    ratios_RC = torch.zeros(num_draws, NUM_CLASSES, dtype=torch.float64)
    for ratios_C in ratios_RC:
        candidates = sampler.draw(ALL_IDS, NUM_SAMPLED, generator=rng, query=query)
        log_count_S = candidates.log_expected_count
        assert torch.equal(log_count_S, candidates.label_log_expected_count[candidates.class_ids])
        if wrong is not None:
            log_count_S = wrong.log_expected_count(candidates.class_ids)
        ratios_C.index_add_(0, candidates.class_ids, (-log_count_S).exp())
    return ratios_RC


def furthest(ratios_RC):
    """The distance of the mean from 1 in standard errors, in the column where it is largest."""
    # A spread below one event in all draws cannot be measured.
    variance = ratios_RC.var(0).clamp(min=1 / len(ratios_RC))
    return ((ratios_RC.mean(0) - 1).abs() / (variance / len(ratios_RC)).sqrt()).max().item()


@pytest.mark.parametrize(
    ("of", "hard_share"), [(of, share) for of in POOLS for share in (0.5, 0.9)] + [("uniform", 0.0)], ids=str
)
def test_counts_are_as_declared(of, hard_share):
    sampler = build(of, pool_factor=2, hard_share=hard_share)
    assert sampler.approximation is None
    assert furthest(ratios(sampler, model())) < 5


def pool_statement():
    """Expected counts in the pool, which leave out that only a part of it is kept."""
    return build().pool.propose(ALL_IDS, 2 * NUM_SAMPLED, generator=generator())


@pytest.mark.parametrize("hard_share", [0.5, 1.0])
def test_a_top_k_with_the_expected_counts_of_the_pool_is_caught(hard_share):
    sampler = build(pool_factor=2, hard_share=hard_share)
    assert furthest(ratios(sampler, model(), wrong=pool_statement())) > 8


def test_the_estimated_partition_is_unbiased():
    query, label = model(), 3
    weight, bias = query.rows(ALL_IDS)
    shares_BC = (query.hidden_BD @ weight.T + bias).double().softmax(1)

    def estimates(sampler, wrong=None):
        """[R, B] in units of the partition; the label is there in any case, its hits are removed."""
        ratios_RC = ratios(sampler, query, wrong)
        ratios_RC[:, label] = 1.0
        return ratios_RC @ shares_BC.T

    assert furthest(estimates(build(pool_factor=2))) < 5
    assert furthest(estimates(build(pool_factor=2), pool_statement())) > 8


def test_only_the_top_is_an_approximation_and_says_so():
    sampler = build(hard_share=1.0)
    assert "never drawn" in sampler.approximation
    candidates = sampler.draw(ALL_IDS, NUM_SAMPLED, generator=generator(), query=model())
    expected = sampler.pool.propose(ALL_IDS, 4 * NUM_SAMPLED, generator=generator()).log_expected_count(
        ALL_IDS
    )
    assert torch.equal(candidates.label_log_expected_count, expected)
    assert furthest(ratios(sampler, model())) > 8


def test_the_hardest_of_the_pool_are_kept_and_the_lower_id_of_equals():
    pool = {"kind": "uniform", "duplicates": "redraw"}
    sampler = build(pool, 10, pool_factor=5, hard_share=0.75)
    ids, log_expected_count = sampler.propose(ALL_IDS[:2], 4, generator=generator(), query=by_id())
    assert {7, 8, 9} < set(ids.tolist())
    # The pool holds all ten classes; one of the seven others is kept.
    expected = [math.log(1 / 7)] * 7 + [0.0] * 3
    assert log_expected_count(ALL_IDS[:10]).tolist() == pytest.approx(expected)
    even = Query(torch.ones(1, 1), lambda ids: (torch.zeros(len(ids), 1), torch.zeros(len(ids))))
    ids, _ = sampler.propose(ALL_IDS[:2], 4, generator=generator(), query=even)
    assert {0, 1, 2} < set(ids.tolist())


def test_the_largest_logit_of_any_row_counts_with_its_bias():
    weight, bias = torch.tensor([[3.0], [-4.0], [0.0], [0.0]]), torch.tensor([0.0, 0.0, 3.5, 0.0])
    query = Query(torch.tensor([[1.0], [-1.0]]), lambda ids: (weight[ids], bias[ids]))
    everything = {"kind": "uniform", "duplicates": "redraw"}
    sampler = build(everything, 4, pool_factor=2, hard_share=1.0)
    ids, _ = sampler.propose(ALL_IDS[:1], 2, generator=generator(), query=query)
    assert sorted(ids.tolist()) == [1, 2]


def test_a_label_outside_the_pool_is_measured_at_the_cut():
    sampler, query = build(pool_factor=2), by_id()
    ids, log_expected_count = sampler.propose(ALL_IDS, NUM_SAMPLED, generator=generator(3), query=query)
    in_pool = sampler.pool.propose(ALL_IDS, 2 * NUM_SAMPLED, generator=generator(3))
    factor_C = (log_expected_count(ALL_IDS) - in_pool.log_expected_count(ALL_IDS)).exp()
    cut = in_pool.ids_S[-NUM_SAMPLED // 2]
    outside = ~torch.isin(ALL_IDS, in_pool.ids_S)
    assert 0 < (outside & (cut < ALL_IDS)).sum() < outside.sum()
    chance = (NUM_SAMPLED / 2) / (len(in_pool.ids_S) - NUM_SAMPLED / 2)
    expected_C = torch.where(cut <= ALL_IDS, 1.0, chance).double()
    torch.testing.assert_close(factor_C, expected_C)
    assert len(ids) == NUM_SAMPLED


def test_the_same_seed_gives_the_same_draws():
    first, second = (build().draw(ALL_IDS, 8, generator=generator(5), query=model()) for _ in range(2))
    assert torch.equal(first.class_ids, second.class_ids)
    assert torch.equal(first.label_log_expected_count, second.label_log_expected_count)


def test_the_state_is_that_of_the_pool():
    sampler, rng = build("quadratic_kernel"), generator(6)
    sampler.draw(ALL_IDS, 8, generator=rng, query=model(1))
    restored, rng_again = build("quadratic_kernel"), torch.Generator()
    rng_again.set_state(rng.get_state())
    restored.load_state(sampler.state())
    one = sampler.draw(ALL_IDS, 8, generator=rng, query=model(2))
    other = restored.draw(ALL_IDS, 8, generator=rng_again, query=model(2))
    assert torch.equal(one.class_ids, other.class_ids)
    assert torch.equal(one.label_log_expected_count, other.label_log_expected_count)
    assert build().state() == {}


@pytest.mark.parametrize("of", POOLS, ids=str)
@pytest.mark.parametrize("num_classes", [1, 2])
@pytest.mark.parametrize("num_sampled", [1, 2, 5])
def test_one_or_two_classes(of, num_classes, num_sampled):
    for seed in range(5):
        candidates = build(of, num_classes).draw(
            torch.tensor([0]), num_sampled, generator=generator(seed), query=model(num_classes=num_classes)
        )
        assert len(candidates.class_ids) <= min(num_classes, num_sampled)
        assert candidates.log_expected_count.isfinite().all()
        assert candidates.label_log_expected_count.isfinite().all()


def test_an_empty_pool_gives_no_candidates():
    class Nothing:
        approximation, uses_labels = None, False

        def propose(self, labels, num_sampled, *, generator, query):
            return torch.empty(0, dtype=torch.int64), lambda ids: torch.zeros(ids.shape)

    sampler = build()
    sampler.pool = Nothing()
    assert len(sampler.draw(ALL_IDS, 8, generator=generator(), query=model()).class_ids) == 0


def test_draws_need_no_gradient():
    weight, hidden = torch.randn(60, 3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    query = Query(hidden, lambda ids: (weight[ids], weight[ids, 0]))
    candidates = build().draw(ALL_IDS, 8, generator=generator(), query=query)
    assert not candidates.label_log_expected_count.requires_grad


def test_what_is_missing_or_out_of_range_is_named():
    with pytest.raises(UsageError, match="'hard_negatives' follows the model"):
        build().draw(ALL_IDS, 5, generator=generator())
    with pytest.raises(ConfigError, match="hard_share"):
        samplers.options("hard_negatives").complete({"hard_share": 1.5})


def test_fifty_thousand_classes():
    query = model(num_classes=50_000, dim=16)
    candidates = build(num_classes=50_000).draw(ALL_IDS, 500, generator=generator(), query=query)
    assert len(candidates.class_ids) == 500
    assert candidates.log_expected_count.isfinite().all()

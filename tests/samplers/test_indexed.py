"""Samplers with an index of the weights draw what they declare; wrong twins are caught."""

import math

import pytest
import torch

from widemax.errors import DataError, UsageError
from widemax.samplers import Query, build_sampler

MEMBERS = ["midx", "quadratic_kernel"]
DUPLICATES = ["keep", "drop", "redraw"]
NUM_CLASSES, DIM, NUM_SAMPLED = 60, 5, 20
ALL_IDS = torch.arange(NUM_CLASSES)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def query_of(weight, bias, hidden):
    return Query(hidden, lambda ids: (weight[ids], bias[ids]))


def model(seed=1, num_classes=NUM_CLASSES, dim=DIM, num_rows=7):
    rng = generator(seed)
    weight = torch.randn(num_classes, dim, generator=rng)
    bias = torch.randn(num_classes, generator=rng)
    return query_of(weight, bias, 1.5 * torch.randn(num_rows, dim, generator=rng))


def build(name, duplicates="keep", num_classes=NUM_CLASSES, **options):
    codewords = {"num_codewords": 8} if name == "midx" else {}
    options = {"refresh_every": 10**6, **codewords, **options}
    return build_sampler({"kind": name, "duplicates": duplicates, **options}, num_classes)


def probs(sampler, query, rng=None):
    """q of every class: what a single draw is expected to count."""
    return statement(sampler, query, 1, rng)(torch.arange(sampler.num_classes)).exp()


def statement(sampler, query, num_sampled=NUM_SAMPLED, rng=None):
    labels = torch.tensor([0])
    return sampler.propose(labels, num_sampled, generator=rng or generator(), query=query).log_expected_count


def ratios(sampler, query, *wrong, num_draws=500):
    """[R, C] count / expected count in each of many draws: as declared, then as each wrong twin has it."""
    rng = generator(3)
    found = torch.zeros(1 + len(wrong), num_draws, NUM_CLASSES, dtype=torch.float64)
    for draw in range(num_draws):
        candidates = sampler.draw(ALL_IDS, NUM_SAMPLED, generator=rng, query=query)
        ids_S, log_count_S = candidates.class_ids, candidates.log_expected_count
        assert torch.equal(log_count_S, candidates.label_log_expected_count[ids_S])
        for ratios_RC, log_S in zip(found, [log_count_S, *(twin(ids_S) for twin in wrong)], strict=True):
            ratios_RC[draw].index_add_(0, ids_S, (-log_S).exp())
    return found


def furthest(ratios_RC):
    """The distance of the mean from 1 in standard errors, in the column where it is largest."""
    # A spread below one event in all draws cannot be measured.
    variance = ratios_RC.var(0).clamp(min=1 / len(ratios_RC))
    return ((ratios_RC.mean(0) - 1).abs() / (variance / len(ratios_RC)).sqrt()).max().item()


@pytest.mark.parametrize("duplicates", DUPLICATES)
@pytest.mark.parametrize("name", MEMBERS)
def test_counts_are_as_declared_and_the_estimated_partition_unbiased(name, duplicates):
    query, label = model(), 3
    weight, bias = query.rows(ALL_IDS)
    shares_BC = (query.hidden_BD @ weight.T + bias).double().softmax(1)
    log_uniform = torch.full((NUM_CLASSES,), NUM_SAMPLED / NUM_CLASSES, dtype=torch.float64).log()
    declared_RC, uniform_RC = ratios(build(name, duplicates), query, lambda ids: log_uniform[ids])
    assert furthest(declared_RC) < 5

    def partitions(ratios_RC):
        """[R, B] in units of the partition; the label is there in any case, its hits are removed."""
        ratios_RC[:, label] = 1.0
        return ratios_RC @ shares_BC.T

    assert furthest(partitions(declared_RC)) < 5
    assert furthest(partitions(uniform_RC)) > 8


@pytest.mark.parametrize("name", MEMBERS)
def test_the_distribution_of_the_first_row_alone_is_caught(name):
    query, sampler = model(), build(name)
    statement(sampler, query)
    twin = build(name)
    twin.load_state(sampler.state())
    first_row = statement(twin, Query(query.hidden_BD[:1], query.rows))
    declared, of_first_row = map(furthest, ratios(sampler, query, first_row))
    assert declared < 5
    assert of_first_row > 8


@pytest.mark.parametrize("name", MEMBERS)
def test_an_index_rebuilt_between_draw_and_statement_is_caught(name):
    query, sampler = model(), build(name)
    statement(sampler, query)
    moved = Query(query.hidden_BD, lambda ids: query.rows((ids + 7) % NUM_CLASSES))
    declared, of_rebuilt = map(furthest, ratios(sampler, moved, statement(build(name), moved)))
    assert declared < 5
    assert of_rebuilt > 8


@pytest.mark.parametrize("name", MEMBERS)
def test_a_statement_outlives_the_next_refresh(name):
    sampler = build(name, refresh_every=1)
    log_expected_count = statement(sampler, model())
    before = log_expected_count(ALL_IDS)
    statement(sampler, model(seed=2))
    assert torch.equal(log_expected_count(ALL_IDS), before)


@pytest.mark.parametrize("num_rows", [1, 9])
@pytest.mark.parametrize("name", MEMBERS)
def test_probabilities_sum_to_one_and_none_is_zero(name, num_rows):
    for query in (model(num_rows=num_rows), steep_model(num_rows)):
        probs_C = probs(build(name), query)
        assert probs_C.dtype == torch.float64
        assert (probs_C > 0).all()
        assert probs_C.sum().item() == pytest.approx(1, abs=1e-12)


def steep_model(num_rows):
    """Logits thousands of nats apart."""
    query = model(num_rows=num_rows)
    return Query(
        1e3 * query.hidden_BD, lambda ids: (5 * query.rows(ids)[0], torch.where(ids == 2, 500.0, -500.0))
    )


@pytest.mark.parametrize("num_classes", [1, 2])
@pytest.mark.parametrize("duplicates", DUPLICATES)
@pytest.mark.parametrize("name", MEMBERS)
def test_one_or_two_classes(name, duplicates, num_classes):
    query, sampler = model(num_classes=num_classes), build(name, duplicates, num_classes)
    candidates = sampler.draw(torch.tensor([0]), 3, generator=generator(), query=query)
    assert candidates.class_ids.max() < num_classes
    assert candidates.log_expected_count.isfinite().all()
    assert probs(build(name, "keep", num_classes), query).sum().item() == pytest.approx(1)


@pytest.mark.parametrize("name", MEMBERS)
def test_weights_of_zero_give_the_uniform_distribution(name):
    query = query_of(torch.zeros(NUM_CLASSES, DIM), torch.zeros(NUM_CLASSES), torch.ones(2, DIM))
    torch.testing.assert_close(
        probs(build(name), query), torch.full((NUM_CLASSES,), 1 / NUM_CLASSES, dtype=torch.float64)
    )


def clustered_model():
    rng = generator(4)
    centers = torch.randn(12, 8, generator=rng)
    weight = centers[torch.randint(12, (200,), generator=rng)] + 0.3 * torch.randn(200, 8, generator=rng)
    return query_of(weight, torch.zeros(200), weight[:3])


def divergences(query, sampler):
    """KL(p || q) and KL(p || uniform), where p is the mean softmax of the batch."""
    weight, bias = query.rows(torch.arange(200))
    softmax_C = (query.hidden_BD @ weight.T + bias).double().softmax(1).mean(0)
    to_sampler = (softmax_C * (softmax_C / probs(sampler, query)).log()).sum().item()
    return to_sampler, (softmax_C * (softmax_C * 200).log()).sum().item()


@pytest.mark.parametrize(("name", "most"), [("midx", 0.35), ("quadratic_kernel", 0.75)])
def test_a_draw_is_closer_to_the_softmax_than_a_uniform_one(name, most):
    query = clustered_model()
    to_sampler, to_uniform = divergences(query, build(name, num_classes=200))
    assert to_sampler < most * to_uniform
    constant = Query(query.hidden_BD, lambda ids: (torch.ones(len(ids), 8), torch.zeros(len(ids))))
    unaware = build(name, num_classes=200)
    probs(unaware, constant)
    assert divergences(query, unaware)[0] == pytest.approx(to_uniform, rel=1e-6)


@pytest.mark.parametrize("name", MEMBERS)
def test_the_same_seed_gives_the_same_draws(name):
    first, second = (
        build(name, "redraw").draw(ALL_IDS, 30, generator=generator(5), query=model()) for _ in range(2)
    )
    assert torch.equal(first.class_ids, second.class_ids)
    assert torch.equal(first.log_expected_count, second.log_expected_count)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_restored_run_goes_on_bit_by_bit(name):
    sampler, rng = build(name, refresh_every=4), generator(6)
    assert sampler.state() == {}
    models = [model(seed) for seed in range(9)]

    def draws(sampler, rng, queries):
        return [sampler.draw(ALL_IDS, NUM_SAMPLED, generator=rng, query=query) for query in queries]

    draws(sampler, rng, models[:3])
    state = {name: tensor.clone() for name, tensor in sampler.state().items()}
    assert all(tensor.is_contiguous() for tensor in state.values())
    restored, rng_again = build(name, refresh_every=4), torch.Generator()
    rng_again.set_state(rng.get_state())
    fresh, rng_fresh = build(name, refresh_every=4), torch.Generator()
    rng_fresh.set_state(rng.get_state())
    restored.load_state(state)
    fresh.load_state({})

    def same(others):
        return [
            torch.equal(one.class_ids, other.class_ids)
            and torch.equal(one.label_log_expected_count, other.label_log_expected_count)
            for one, other in zip(expected, others, strict=True)
        ]

    expected = draws(sampler, rng, models[3:])
    assert all(same(draws(restored, rng_again, models[3:])))
    assert not any(same(draws(fresh, rng_fresh, models[3:])))


@pytest.mark.parametrize("name", MEMBERS)
def test_the_index_is_rebuilt_when_due(name):
    asked = []
    query = model()

    def rows(ids):
        asked.append(len(ids))
        return query.rows(ids)

    sampler, rng = build(name, refresh_every=3), generator()
    built = []
    for _ in range(8):
        asked.clear()
        sampler.draw(ALL_IDS, 5, generator=rng, query=Query(query.hidden_BD, rows))
        built.append(bool(asked))
    assert built == [True, False, False, True, False, False, True, False]


@pytest.mark.parametrize("name", MEMBERS)
def test_what_is_missing_or_not_finite_is_named(name):
    with pytest.raises(UsageError, match=f"'{name}' follows the model"):
        build(name).draw(ALL_IDS, 5, generator=generator())
    query = model()
    for what, diverged in {
        "hidden": Query(query.hidden_BD * math.nan, query.rows),
        "weight": Query(query.hidden_BD, lambda ids: (query.rows(ids)[0] / 0, query.rows(ids)[1])),
        "bias": Query(query.hidden_BD, lambda ids: (query.rows(ids)[0], query.rows(ids)[1] / 0)),
    }.items():
        with pytest.raises(DataError, match=f"^{what} must be finite"):
            build(name).draw(ALL_IDS, 5, generator=generator(), query=diverged)


@pytest.mark.parametrize("name", MEMBERS)
def test_draws_need_no_gradient(name):
    weight = torch.randn(NUM_CLASSES, DIM, requires_grad=True)
    hidden = torch.ones(2, DIM, requires_grad=True)
    query = query_of(weight, torch.zeros(NUM_CLASSES, requires_grad=True), hidden)
    candidates = build(name).draw(ALL_IDS, 5, generator=generator(), query=query)
    assert not candidates.log_expected_count.requires_grad


@pytest.mark.parametrize("duplicates", DUPLICATES)
@pytest.mark.parametrize("name", MEMBERS)
def test_fifty_thousand_classes(name, duplicates):
    query = model(num_classes=50_000, dim=16, num_rows=32)
    sampler = build(name, duplicates, 50_000)
    for _ in range(2):
        candidates = sampler.draw(torch.arange(32), 500, generator=generator(), query=query)
    assert candidates.log_expected_count.isfinite().all()
    assert len(candidates.class_ids) == 500 or duplicates == "drop"

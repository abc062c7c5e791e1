"""The inverted multi-index: the softmax of quantized weights."""

import pytest
import torch

from widemax.errors import ConfigError
from widemax.samplers import Query, build_sampler, samplers

NUM_CLASSES, DIM = 200, 4
ALL_IDS = torch.arange(NUM_CLASSES)


def model(seed=0, num_rows=3):
    rng = torch.Generator().manual_seed(seed)
    weight, bias = torch.randn(NUM_CLASSES, DIM, generator=rng), torch.randn(NUM_CLASSES, generator=rng)
    return Query(torch.randn(num_rows, DIM, generator=rng), lambda ids: (weight[ids], bias[ids]))


def index_of(query, num_codewords, **options):
    sampler = build_sampler({"kind": "midx", "num_codewords": num_codewords, **options}, NUM_CLASSES)
    index = sampler.build_index(query, torch.Generator().manual_seed(1))
    return index, sampler.of_batch(query.hidden_BD.double(), index)


def softmax(query, weight, bias):
    return (query.hidden_BD @ weight.T + bias).double().softmax(1).mean(0)


def quantized(index):
    """Each class's row as its codewords give it."""
    code_C = index["cells_U"][index["cell_C"]]
    num_fine = len(index["fine_KD"])
    return index["coarse_KD"][code_C // num_fine] + index["fine_KD"][code_C % num_fine]


@pytest.mark.parametrize("uniform_share", [0.05, 0.5])
@pytest.mark.parametrize("num_codewords", [1, 4, 16, 1000])
def test_probabilities_are_the_softmax_of_quantized_weights(num_codewords, uniform_share):
    query = model()
    index, q = index_of(query, num_codewords, uniform_share=uniform_share)
    _, bias = query.rows(ALL_IDS)
    followed_C = softmax(query, quantized(index), bias)
    expected_C = (1 - uniform_share) * followed_C + uniform_share / NUM_CLASSES
    torch.testing.assert_close(q.probs(ALL_IDS), expected_C, rtol=1e-5, atol=0)
    assert (q.probs(ALL_IDS) / followed_C - 1).abs().max() > 0.01


def test_a_codeword_a_class_is_the_exact_softmax():
    query = model()
    _, q = index_of(query, NUM_CLASSES, uniform_share=1e-9)
    torch.testing.assert_close(q.probs(ALL_IDS), softmax(query, *query.rows(ALL_IDS)), rtol=1e-5, atol=0)


def test_more_codewords_are_nearer_to_the_weights():
    query = model()
    weight, _ = query.rows(ALL_IDS)
    errors = [
        (weight - quantized(index_of(query, num_codewords)[0])).square().mean().item()
        for num_codewords in (1, 2, 4, 8, 16)
    ]
    assert errors[0] == pytest.approx(weight.var(0, correction=0).mean().item(), rel=1e-4)
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1 * errors[0]


def test_codewords_come_from_a_part_of_many_classes():
    rng = torch.Generator().manual_seed(2)
    weight = torch.randn(5000, DIM, generator=rng)
    asked = []

    def rows(ids):
        asked.append(len(ids))
        return weight[ids], torch.zeros(len(ids))

    sampler = build_sampler({"kind": "midx", "num_codewords": 4}, 5000)
    sampler.draw(torch.tensor([0]), 5, generator=rng, query=Query(torch.ones(1, DIM), rows))
    assert asked == [4 * 256, 5000]


def test_draws_without_the_uniform_share_are_caught():
    query, num_draws = model(), 100_000
    _, q = index_of(query, 8, uniform_share=0.05)
    _, without = index_of(query, 8, uniform_share=1e-9)
    ids_S = q.draw_ids(num_draws, generator=torch.Generator().manual_seed(3))
    count_C = ids_S.bincount(minlength=NUM_CLASSES)

    def furthest(q):
        probs_C = q.probs(ALL_IDS)
        return ((count_C / num_draws - probs_C) / (probs_C / num_draws).sqrt()).abs().max()

    assert furthest(q) < 5
    assert furthest(without) > 8


def test_options_out_of_range_are_named():
    with pytest.raises(ConfigError, match="uniform_share"):
        samplers.options("midx").complete({"uniform_share": 0.0})
    with pytest.raises(ConfigError, match="num_codewords"):
        samplers.options("midx").complete({"num_codewords": 0})

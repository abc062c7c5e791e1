"""Queries, ranks and nearest vectors against their definitions."""

from functools import partial

import numpy as np
import torch
from torch import nn

from widemax.heads import SampledHead, SeveralLabels
from widemax.optim import RowwiseAdagrad
from widemax.recipes.everything_is_a_vector import ComplEx, Lookup, grouped, learn, nearest, paired, ranks

C, R, D = 12, 3, 8


def a_model():
    torch.manual_seed(0)
    queries = ComplEx(C, R, D, penalty=0.5)
    return queries, SampledHead(C, D, queries.entities, bias=False, num_sampled=4, sampler="uniform")


def as_complex(vectors):
    real, imaginary = vectors.detach().double().numpy().reshape(-1, 2, D // 2).swapaxes(0, 1)
    return real + 1j * imaginary


def test_a_query_is_the_complex_product_and_a_logit_the_score_of_complex():
    queries, head = a_model()
    contexts = torch.tensor([[1, 0], [5, 2], [5, 1]])
    found, penalty = queries(contexts)
    heads, relations = (
        as_complex(queries.entities)[contexts[:, 0]],
        as_complex(queries.relations)[contexts[:, 1]],
    )
    np.testing.assert_allclose(as_complex(found), heads * relations, rtol=1e-5, atol=1e-7)
    scores = (heads * relations @ as_complex(queries.entities).conj().T).real
    np.testing.assert_allclose(head.logits(found).detach(), scores, rtol=1e-5, atol=1e-6)
    of_heads, of_relations = ((np.abs(factor) ** 3).sum(1).mean() for factor in (heads, relations))
    np.testing.assert_allclose(penalty.item(), of_heads + 0.5 * of_relations, rtol=1e-5)


def test_ranks_leave_out_what_is_known_beside_the_label():
    queries, head = a_model()
    contexts = torch.tensor([[entity, entity % R] for entity in range(C)])
    rng = np.random.default_rng(0)
    known = [sorted(rng.choice(C, 4, replace=False).tolist()) for _ in range(C)]
    labels = torch.tensor([row[1] for row in known])
    found = ranks(
        queries,
        head,
        contexts,
        SeveralLabels(labels, torch.arange(C + 1)),
        SeveralLabels(torch.tensor(known).flatten(), 4 * torch.arange(C + 1)),
    )
    logits = head.logits(queries(contexts)[0]).detach()
    for row, label in enumerate(labels.tolist()):
        others = [c for c in range(C) if c not in known[row]]
        assert found[row] == 1 + (logits[row, others] > logits[row, label]).sum()


def test_facts_are_learned_and_both_sides_share_one_table():
    queries, head = a_model()
    contexts = torch.tensor([[entity, relation] for entity in range(C) for relation in range(R)])
    labels = (contexts[:, 0] + contexts[:, 1] + 1) % C  # the next ones, round and round
    queries.penalty = 0.0
    optimizer = partial(RowwiseAdagrad, lr=0.3)
    learn(queries, head, contexts, labels, epochs=150, optimizer=optimizer, seed=0)
    assert head.weight is queries.entities
    found = head.topk(queries(contexts)[0], 1).class_ids[:, 0]
    assert (found == labels).double().mean() > 0.9


def test_what_stands_together_has_near_vectors():
    rng = np.random.default_rng(0)
    group_N = rng.integers(3, size=3000)
    users, items = (torch.from_numpy(group_N * 5 + rng.integers(5, size=3000)) for _ in range(2))
    queries, head = paired(users, items, (15, 15), quick=True, seed=0)
    assert isinstance(queries, Lookup)
    best = head.topk(queries(torch.arange(15)[:, None])[0], 5).class_ids
    assert (best // 5 == torch.arange(15)[:, None] // 5).all()
    assert (nearest(queries.vectors, torch.arange(15), 4) // 5 == torch.arange(15)[:, None] // 5).all()


def test_the_nearest_vectors_by_cosine_without_the_one_asked():
    vectors = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    unit = nn.functional.normalize(vectors)
    cosines = (unit @ unit.T).fill_diagonal_(-2)
    found = nearest(nn.Parameter(vectors), torch.tensor([3, 0, 29]), 5)
    assert torch.equal(found, cosines[[3, 0, 29]].topk(5).indices)


def test_ids_are_grouped_by_their_keys():
    found = grouped(torch.tensor([2, 0, 2, 3]), torch.tensor([7, 8, 9, 1]), 5)
    assert [found.take(torch.tensor([key])).ids_P.tolist() for key in range(5)] == [[8], [], [7, 9], [1], []]

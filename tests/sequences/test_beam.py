"""Beam search beside a search of everything."""

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from widemax.sequences import beam_search
from widemax.sequences.beam import Hypotheses

V, LENGTH, END, START = 4, 4, 0, 1


class Chain:
    """Chances of the next token that follow from all tokens before it, for some sequences."""

    def __init__(self, seed: int, sequences: list[int]) -> None:
        self.seed = seed
        self.rows = [(sequence, ()) for sequence in sequences]

    def log_probs(self, row: tuple[int, tuple[int, ...]]) -> Tensor:
        generator = torch.Generator().manual_seed(hash((self.seed, *row)) % 2**31)
        return (2 * torch.randn(V, generator=generator)).log_softmax(0)

    def best(self, latest: Tensor, n: int) -> tuple[Tensor, Tensor]:
        self.rows = [
            (sequence, (*before, token))
            for (sequence, before), token in zip(self.rows, latest.tolist(), strict=True)
        ]
        found = torch.stack([self.log_probs(row) for row in self.rows]).topk(min(n, V))
        return found.indices, found.values

    def take(self, rows: Tensor) -> None:
        self.rows = [self.rows[row] for row in rows.tolist()]

    def everything(self, sequence: int, penalty: float) -> tuple[list[int], float]:
        """The best of all sequences that end."""
        scored = []
        for length in range(LENGTH):
            for tokens in product(range(1, V), repeat=length):
                path, total = (START,), 0.0
                for token in (*tokens, END):
                    total += float(self.log_probs((sequence, path))[token])
                    path = (*path, token)
                scored.append((total / ((6 + length) / 6) ** penalty, list(tokens)))
        score, tokens = max(scored)
        return tokens, score


def search(chain: Chain, **options: object) -> Hypotheses:
    sequences = len(chain.rows)
    return beam_search(
        *(chain.best, chain.take, sequences), start=START, end=END, max_length=LENGTH, **options
    )


@given(st.integers(0, 2**20), st.sampled_from([0.0, 0.6, 2.0]))
def test_a_wide_beam_finds_the_best_of_all(seed: int, penalty: float) -> None:
    tokens, scores, _ = search(Chain(seed, [0, 1]), beam=V**LENGTH, length_penalty=penalty)
    for sequence in (0, 1):
        best, score = Chain(seed, []).everything(sequence, penalty)
        assert tokens[sequence] == best
        assert scores[sequence] == pytest.approx(score, rel=1e-5)


@given(st.integers(0, 2**20), st.integers(1, 6))
def test_the_next_best_are_told_with_their_own_scores(seed: int, beam: int) -> None:
    alone = search(Chain(seed, [0, 1]), beam=beam)
    found = search(Chain(seed, [0, 1]), beam=beam, num_best=4)
    assert (found.tokens, found.scores) == (alone.tokens, alone.scores)
    assert alone.others == [[], []]
    for sequence in (0, 1):
        told = [(found.tokens[sequence], found.scores[sequence]), *found.others[sequence]]
        assert len(told) == len({tuple(tokens) for tokens, _ in told}) <= 4
        assert [score for _, score in told] == sorted((score for _, score in told), reverse=True)
        for tokens, score in told[1:]:
            path, total = (START,), 0.0
            for token in (*tokens, END):
                total += float(Chain(seed, []).log_probs((sequence, path))[token])
                path = (*path, token)
            assert score == pytest.approx(total / ((6 + len(tokens)) / 6) ** 0.6, rel=1e-5)


@given(st.integers(0, 2**20))
def test_a_beam_of_one_is_greedy(seed: int) -> None:
    chain, path = Chain(seed, [5]), (START,)
    for _ in range(LENGTH):
        path = (*path, int(chain.log_probs((5, path)).argmax()))
        if path[-1] == END:
            break
    greedy = [token for token in path[1:] if token != END]
    found = search(Chain(seed, [5]), beam=1, length_penalty=0.0).tokens[0]
    # A hypothesis that ended on the way may be better than the greedy one turns out.
    assert found == greedy[: len(found)]


@given(st.integers(0, 2**20), st.permutations(range(5)))
def test_the_order_of_sequences_changes_nothing(seed: int, order: list[int]) -> None:
    tokens, scores, _ = search(Chain(seed, list(range(5))), beam=2)
    again, their_scores, _ = search(Chain(seed, list(order)), beam=2)
    assert again == [tokens[sequence] for sequence in order]
    assert their_scores == [scores[sequence] for sequence in order]


def test_a_length_penalty_prefers_longer_ones_and_not_shorter() -> None:
    chances = torch.tensor([[0.0, 1.0, 0.0], [0.41, 0.0, 0.59], [1.0, 0.0, 0.0]]).log()

    def best(tokens: Tensor, n: int) -> tuple[Tensor, Tensor]:
        found = (chances[tokens] + torch.tensor([0.0, 0.0, -0.4])).topk(min(n, 3))
        return found.indices, found.values

    def length(penalty: float) -> int:
        found = beam_search(best, lambda rows: None, 1, start=1, end=0, length_penalty=penalty)
        return len(found.tokens[0])

    assert (length(0.0), length(2.0)) == (0, 1)


def test_what_never_ends_is_cut() -> None:
    def best(tokens: Tensor, n: int) -> tuple[Tensor, Tensor]:
        return torch.full((len(tokens), 1), 2), torch.full((len(tokens), 1), -0.5)

    found = beam_search(best, lambda rows: None, 1, start=1, end=0, max_length=3, length_penalty=0.0)
    assert found.tokens == [[2, 2, 2]]
    assert found.scores == [-1.5]

"""The best sequences, one token at a time.

Shapes: B sequences asked for, K hypotheses of each, R = B K rows, N next tokens that are looked at.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from widemax.options import AtLeast1, checked

Best = Callable[[Tensor, int], tuple[Tensor, Tensor]]
Take = Callable[[Tensor], None]


class Hypotheses(NamedTuple):
    """What was found for each sequence.

    Attributes:
        tokens: the token ids of the best hypothesis, without the end; those of one that did not end within
            the length allowed where none did.
        scores: its log-probability, divided by the length penalty.
        others: the next best that have ended, with their scores, where more than one was asked for.
    """

    tokens: list[list[int]]
    scores: list[float]
    others: list[list[tuple[list[int], float]]]


@checked
@torch.no_grad()
def beam_search(
    best: Best,
    take: Take,
    num_sequences: AtLeast1,
    *,
    start: int,
    end: int,
    beam: AtLeast1 = 5,
    max_length: int | Sequence[int] = 256,
    length_penalty: Annotated[float, Field(ge=0)] = 0.6,
    num_best: AtLeast1 = 1,
) -> Hypotheses:
    """Of each sequence the hypothesis of the best score among those that a beam of K finds.

    The score is Σ log p / lp with lp = ((5 + length) / 6)^penalty, where the end counts as a token. A
    hypothesis that has ended leaves the beam. A sequence is done once K hypotheses that were among its K best
    have ended, or none in its beam can become better than its best that have: a log-probability only falls,
    and no length penalty exceeds that of the longest sequence allowed. A beam of 1 is greedy search.

    Args:
        best: from the latest tokens [R] and a number N, the N best next tokens of each row with their
            log-probabilities, two tensors [R, N].
        take: goes on with these rows [R] of the state that ``best`` keeps.
        num_sequences: B.
        start: the token that every sequence begins with.
        end: the token that ends it.
        beam: K.
        max_length: the most tokens, the end included; of all sequences, or of each.
        length_penalty: 0 takes the most probable sequence, which tends to be short.
        num_best: how many hypotheses are given of each sequence; fewer where the beam finds fewer.

    Example:
        >>> chances = torch.tensor([[0.1, 0.6, 0.3], [0.8, 0.1, 0.1], [0.2, 0.7, 0.1]]).log()
        >>> def best(tokens, n):
        ...     found = chances[tokens].topk(n)
        ...     return found.indices, found.values
        >>> beam_search(best, lambda rows: None, 1, start=2, end=0, beam=2).tokens
        [[1]]

    Source: Wu et al., Google's neural machine translation system, 2016, section 7.
    """
    limits = torch.tensor([max_length] * num_sequences if isinstance(max_length, int) else max_length)
    longest = int(limits.max())
    penalty = ((5 + torch.arange(longest + 1)) / 6) ** length_penalty
    alive = torch.arange(num_sequences)  # the sequences that are not done
    latest_R = torch.full((num_sequences,), start)
    scores_BK = torch.zeros(num_sequences, 1)
    prefixes = torch.empty(num_sequences, 1, 0, dtype=torch.int64)
    found: list[list[tuple[list[int], float]]] = [[] for _ in range(num_sequences)]
    least = torch.full((num_sequences,), -torch.inf)  # the score that is worth noting
    num_ended = torch.zeros(num_sequences, dtype=torch.int64)
    for length in range(1, longest + 1):
        ids_RN, log_probs_RN = best(latest_R, beam + 1)  # of which one may be the end
        num_alive, width = scores_BK.shape
        num_next = ids_RN.shape[1]
        totals = (scores_BK[:, :, None] + log_probs_RN.view(num_alive, width, num_next)).flatten(1)
        ids = ids_RN.view(num_alive, width * num_next)
        is_end = ids == end
        first = totals.topk(min(beam, totals.shape[1]), dim=1).indices
        num_ended[alive] += is_end.gather(1, first).sum(1)
        ends = totals.masked_fill(~is_end, -torch.inf).topk(min(num_best, totals.shape[1]), dim=1)
        end_scores = ends.values / penalty[length]
        for row, place in (end_scores > least[alive, None]).nonzero().tolist():
            sequence = int(alive[row])
            prefix = prefixes[row, int(ends.indices[row, place]) // num_next].tolist()
            known = [*found[sequence], (prefix, float(end_scores[row, place]))]
            found[sequence] = sorted(known, key=lambda one: -one[1])[:num_best]
            if len(found[sequence]) == num_best:
                least[sequence] = found[sequence][-1][1]
        totals = totals.masked_fill(is_end, -torch.inf)
        scores_BK, at_BK = totals.topk(min(beam, totals.shape[1]), dim=1)
        parents_BK, chosen_BK = at_BK // num_next, ids.gather(1, at_BK)
        before = prefixes.gather(1, parents_BK[:, :, None].expand(-1, -1, length - 1))
        prefixes = torch.cat([before, chosen_BK[:, :, None]], 2)
        is_cut = length >= limits[alive]
        for row in is_cut.nonzero().flatten().tolist():
            scores = (scores_BK[row, :num_best] / penalty[length]).tolist()
            found[int(alive[row])] = found[int(alive[row])] or list(
                zip(prefixes[row, :num_best].tolist(), scores, strict=True)
            )
        is_better = least[alive] < scores_BK[:, 0] / penalty[limits[alive]]
        is_open = ~is_cut & is_better & (num_ended[alive] < beam)
        if not is_open.any():
            break
        rows_BK = torch.arange(num_alive)[:, None] * width + parents_BK
        alive, scores_BK, prefixes = alive[is_open], scores_BK[is_open], prefixes[is_open]
        latest_R = chosen_BK[is_open].flatten()
        take(rows_BK[is_open].flatten())
    best_tokens, best_scores = zip(*(each[0] for each in found), strict=True)
    return Hypotheses(list(best_tokens), list(best_scores), [each[1:] for each in found])

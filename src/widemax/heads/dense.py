"""Answers about all classes from all log-probabilities, and what searches for the best classes share.

Shapes: B rows, b rows of one chunk, C classes, D hidden, N values, K kept, P labels.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from widemax.heads.answers import Answers, TopK
from widemax.heads.labels import SeveralLabels, label_pairs, no_pairs
from widemax.kernels import Pairs, not_traced, num_true, topk_by_id
from widemax.losses import check_labels


@not_traced
@torch.no_grad()
def answer_rows(
    log_probs_of: Callable[[Tensor], Tensor],
    hidden: Tensor,
    labels: Pairs,
    excluded: Pairs,
    *,
    k: int,
    rows_at_once: int,
) -> Answers:
    """Top k, label log-probabilities and label ranks from all log-probabilities, some rows at a time.

    Logits are log-probabilities, and the log-partition is 0. ``log_probs_of`` maps [b, D] hidden vectors to
    [b, C] log-probabilities, which are altered; class −1 stands for an unknown label.

    Example:
        >>> label, nothing = Pairs(torch.tensor([0]), torch.tensor([0])), Pairs(*torch.arange(0).expand(2, 0))
        >>> log_probs = torch.tensor([[0.25, 0.75]]).log()
        >>> found = answer_rows(lambda h: log_probs, torch.ones(1, 1), label, nothing, k=1, rows_at_once=1)
        >>> found.topk.class_ids, found.label_ranks
        (tensor([[1]]), tensor([2]))
    """
    chunks = []
    # An empty batch still makes one (empty) chunk, which gives the answers their shapes.
    for start in range(0, max(len(hidden), 1), rows_at_once):
        stop = start + rows_at_once
        log_probs_bC = log_probs_of(hidden[start:stop])
        chunks.append(
            _answer_chunk(log_probs_bC, labels.of_rows(start, stop)[1], excluded.of_rows(start, stop)[1], k)
        )
    ids_BK, topk_BK, square_sum_B, label_log_probs_P, ranks_P = (
        torch.cat(parts) for parts in zip(*chunks, strict=True)
    )
    log_partition_B = topk_BK.new_zeros(len(hidden))
    return Answers(
        TopK(ids_BK, topk_BK, topk_BK),
        log_partition_B,
        square_sum_B,
        label_log_probs_P,
        label_log_probs_P,
        ranks_P,
    )


def excluded_pairs(exclude: SeveralLabels | None, hidden: Tensor, labels: Pairs, num_classes: int) -> Pairs:
    """The classes that may not be ranked: ids below 0 and labels of the row are passed over.

    Raises:
        LabelError: a class id of C or more.
    """
    if exclude is None:
        return no_pairs(hidden.device)
    rows_P, ids_P = label_pairs(exclude, hidden, name="exclude")
    check_labels(ids_P.clamp(min=0), num_classes, rows=rows_P)
    is_label_P = torch.isin(rows_P * num_classes + ids_P, labels.rows_P * num_classes + labels.ids_P)
    kept_P = (ids_P >= 0) & ~is_label_P
    return Pairs(rows_P[kept_P], ids_P[kept_P])


def best_by_id(values: Tensor, class_ids: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest values of each row and their class ids, equal values by ascending id.

    Example:
        >>> best_by_id(torch.tensor([[1.0, 2.0, 2.0]]), torch.tensor([[5, 9, 7]]), 1)
        (tensor([[2.]]), tensor([[7]]))
    """
    ids_BN, order_BN = class_ids.sort(1)
    values_BK, positions_BK = topk_by_id(values.gather(1, order_BN), k)
    return values_BK, ids_BN.gather(1, positions_BK)


def _answer_chunk(log_probs_bC: Tensor, labels: Pairs, excluded: Pairs, k: int) -> tuple[Tensor, ...]:
    square_sum_b = (2 * log_probs_bC).exp_().sum(1)
    label_log_probs_P = log_probs_bC[labels.rows_P, labels.ids_P.clamp(min=0)]
    label_log_probs_P = label_log_probs_P.masked_fill(labels.ids_P < 0, torch.nan)
    log_probs_bC[excluded.rows_P, excluded.ids_P] = -torch.inf
    topk_bK, ids_bK = topk_by_id(log_probs_bC, k)
    return ids_bK, topk_bK, square_sum_b, label_log_probs_P, _ranks(log_probs_bC, labels, label_log_probs_P)


def _ranks(log_probs_bC: Tensor, labels: Pairs, label_log_probs_P: Tensor) -> Tensor:
    """1 + #{larger} + #{equal of smaller id}; 0 for a label of −1."""
    class_ids_C = torch.arange(log_probs_bC.shape[1], device=log_probs_bC.device)
    ranks_P = torch.zeros_like(labels.ids_P)
    # As many labels at a time as there are rows, so that several labels a row take no more memory than one.
    at_once = max(1, len(log_probs_bC))
    for places in torch.split(torch.arange(len(ranks_P), device=ranks_P.device), at_once):
        of_rows_PC = log_probs_bC.index_select(0, labels.rows_P[places])
        label_P1 = label_log_probs_P[places, None]
        larger_P = num_true(of_rows_PC > label_P1)
        ranks_P[places] = larger_P + 1
        tied = (num_true(of_rows_PC >= label_P1) - larger_P > 1).nonzero().squeeze(1)
        is_smaller_id = class_ids_C < labels.ids_P[places[tied], None]
        ranks_P[places[tied]] += num_true((of_rows_PC[tied] == label_P1[tied]) & is_smaller_id)
    return ranks_P.masked_fill(labels.ids_P < 0, 0)

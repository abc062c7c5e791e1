"""Exact top k of a tree of decisions without visiting all of it.

Shapes: B rows, A rows still searched, C classes, N = C − 1 inner nodes, W nodes expanded together, F open
nodes, K kept.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from widemax.heads.dense import best_by_id
from widemax.heads.normalized import Searched
from widemax.kernels import Pairs

# Nodes of a row expanded together: the best ones, of which the first is always needed.
WIDTH = 16


@torch.no_grad()
def search_tree(
    decide: Callable[[Tensor, Tensor], Tensor],
    children: Tensor,
    excluded: Pairs,
    *,
    num_rows: int,
    k: int,
    limit: int,
    dtype: torch.dtype = torch.float32,
    width: int = WIDTH,
) -> Searched:
    """Best-first search from the root.

    A node's log-probability bounds those of all classes below it, since decisions have log-probabilities of
    at most 0, also in floating point. A row ends when no open node reaches its k-th best class: a node that
    equals it stays open, since it may lead to an equal class of smaller id.

    Args:
        decide: rows [A] and inner nodes [A, W] to the log-probabilities [A, W, 2] of the nodes' children.
        children: [N, 2] a tree as in ``widemax.heads.trees``, with at least two classes.
        limit: expansions of a row after which it is given up.

    Example:
        >>> children, nothing = torch.tensor([[2, 3], [0, 1]]), Pairs(torch.arange(0), torch.arange(0))
        >>> odds = torch.tensor([[0.75, 0.25], [0.5, 0.5]]).log()
        >>> found = search_tree(lambda rows, nodes: odds[nodes], children, nothing, num_rows=1, k=1, limit=9)
        >>> found.class_ids, found.num_expanded_B
        (tensor([[2]]), tensor([1]))
    """
    num_classes = len(children) + 1
    excluded_keys = excluded.rows_P * num_classes + excluded.ids_P
    rows_A = torch.arange(num_rows, device=children.device)
    # The root is open; a place of the list of open nodes without a node has node −1.
    nodes_AF = torch.zeros((num_rows, 1), dtype=torch.int64, device=children.device)
    bounds_AF = torch.zeros((num_rows, 1), dtype=dtype, device=children.device)
    found = Searched.nothing(bounds_AF, k, num_classes)
    ids_AK, best_AK = found.class_ids, found.log_probs
    while len(rows_A):
        nodes_AW, bounds_AW = nodes_AF[:, :width], bounds_AF[:, :width]
        is_node_AW1 = (nodes_AW >= 0)[..., None]
        reached_AW2 = bounds_AW[..., None] + decide(rows_A, nodes_AW.clamp(min=0))
        codes_AW2 = children[nodes_AW.clamp(min=0)]
        is_class_AW2 = is_node_AW1 & (codes_AW2 < num_classes)
        is_inner_AW2 = is_node_AW1 & (codes_AW2 >= num_classes)
        found.num_expanded_B[rows_A] += is_node_AW1.sum((1, 2))

        is_barred_AW2 = torch.isin(rows_A[:, None, None] * num_classes + codes_AW2, excluded_keys)
        class_log_probs_AW2 = reached_AW2.masked_fill(~is_class_AW2 | is_barred_AW2, -torch.inf)
        best_AK, ids_AK = best_by_id(
            torch.cat([best_AK, class_log_probs_AW2.flatten(1)], 1),
            torch.cat([ids_AK, torch.where(is_class_AW2, codes_AW2, num_classes).flatten(1)], 1),
            k,
        )

        bounds_AF = torch.cat([bounds_AF[:, width:], reached_AW2.flatten(1)], 1)
        inner_AW2 = torch.where(is_inner_AW2, codes_AW2 - num_classes, -1)
        nodes_AF = torch.cat([nodes_AF[:, width:], inner_AW2.flatten(1)], 1)
        is_open_AF = (nodes_AF >= 0) & (bounds_AF >= best_AK[:, -1:])
        # Even an open node that cannot be reached sorts before the closed ones.
        key_AF = bounds_AF.clamp(min=torch.finfo(dtype).min).masked_fill(~is_open_AF, -torch.inf)
        order_AF = key_AF.argsort(1, descending=True)
        bounds_AF = bounds_AF.gather(1, order_AF)
        nodes_AF = nodes_AF.masked_fill(~is_open_AF, -1).gather(1, order_AF)

        num_open_A = is_open_AF.sum(1)
        is_proven_A = num_open_A == 0
        goes_on_A = ~is_proven_A & (found.num_expanded_B[rows_A] < limit)
        found.class_ids[rows_A], found.log_probs[rows_A] = ids_AK, best_AK
        found.is_proven_B[rows_A] = is_proven_A
        width_open = int(num_open_A.max())
        rows_A, best_AK, ids_AK = rows_A[goes_on_A], best_AK[goes_on_A], ids_AK[goes_on_A]
        bounds_AF, nodes_AF = bounds_AF[goes_on_A, :width_open], nodes_AF[goes_on_A, :width_open]
    return found

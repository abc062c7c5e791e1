"""What stands beside the metrics of a run on events: item-kNN, and the metrics of groups.

Shapes: U users, B rows, C items, P items of all histories.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from widemax.artifact import Model
from widemax.classes import Classes
from widemax.data import HISTORY, plain, ragged
from widemax.evaluation import Groups, Measures, SeveralLabelRows
from widemax.heads import CountsHead, SeveralLabels
from widemax.heads.counts import best_of_rows

NUM_NEIGHBORS, LATEST_ITEMS = 100, 500
"""Of an item, and the items of a user that are compared."""


class Beside:
    """Takes each chunk once more that is evaluated of a run on events."""

    def __init__(self, model: Model) -> None:
        counts_C = model.vocabulary.counts
        self._groups = Groups(counts_C)
        self._measures = Measures(model.task, class_counts=counts_C, num_rows_train=model.num_train_rows)
        self._knn = item_knn(model) if model.excludes_seen else None
        self._k = model.task.k

    def update(self, rows: SeveralLabelRows, seen: SeveralLabels | None) -> None:
        """A chunk as it was answered, and what its rows have seen, where that is left out."""
        self._groups.update(rows, None if seen is None else seen.offsets_B1.diff().numpy())
        if self._knn is None or seen is None:
            return
        labels = SeveralLabels(torch.from_numpy(rows.label_ids_P), torch.from_numpy(rows.offsets_B1))
        hidden_BC = indicators(seen, self._knn.num_classes)
        answers = self._knn.answer(hidden_BC, labels, k=self._k, exclude=seen)
        ranks_P = np.where(rows.ranks_P > 0, answers.label_ranks.numpy(), 0)
        topk_ids_BK = answers.topk.class_ids.numpy()
        self._measures.update(SeveralLabelRows(rows.label_ids_P, rows.offsets_B1, ranks_P, topk_ids_BK))

    def compute(self) -> dict[str, Any]:
        """``item_knn``, where there is one, ``by_history`` and ``by_popularity``."""
        values = {} if self._knn is None else self._measures.compute()
        finite = {name: None if math.isnan(value) else value for name, value in values.items()}
        return ({"item_knn": finite} if finite else {}) | self._groups.compute()


def indicators(ids: SeveralLabels, num_classes: int) -> Tensor:
    """[B, C] sparse: 1 at each class of a row."""
    pairs = ids.pairs()
    ones_P = torch.ones(len(pairs.ids_P))
    places = torch.stack([pairs.rows_P, pairs.ids_P])
    shape = len(ids), num_classes
    return torch.sparse_coo_tensor(places, ones_P, shape, check_invariants=False)


def item_knn(model: Model) -> CountsHead:
    """A head that answers by Σ cosine(i, j) over the items i of a history, j one of the nearest of i.

    Cosines are of the users who have both, by their latest items; where none is near, popular items follow.
    """
    from scipy.sparse import csr_array

    lengths_U, items = ragged(plain(model.histories[HISTORY]))
    kept_P = np.repeat(np.cumsum(lengths_U), lengths_U) - np.arange(len(items)) <= LATEST_ITEMS
    users_P, ids_P = np.repeat(np.arange(len(lengths_U)), lengths_U)[kept_P], items.to_numpy()[kept_P]
    num_classes = len(model.vocabulary)
    users_UC = csr_array((np.ones(len(ids_P)), (users_P, ids_P)), shape=(len(lengths_U), num_classes))
    together = (users_UC.T.tocsr() @ users_UC).tocsr()
    together.setdiag(0)
    together.sort_indices()
    lengths_C = np.sqrt(np.maximum(users_UC.sum(axis=0), 1))
    of_P = np.repeat(np.arange(num_classes), np.diff(together.indptr))
    cosine_P = (together.data / (lengths_C[of_P] * lengths_C[together.indices])).astype(np.float32)
    cosines = csr_array((cosine_P, together.indices, together.indptr), shape=together.shape)
    cosines.eliminate_zeros()
    near = best_of_rows(cosines, NUM_NEIGHBORS)
    classes = Classes(num_classes, torch.from_numpy(model.vocabulary.counts))
    head = CountsHead(classes, num_classes, value_power=0.0)
    parts = {"offsets": near.indptr, "class_ids": near.indices, "weight": near.data}
    state = {name: torch.from_numpy(part).to(head.state_dict()[name].dtype) for name, part in parts.items()}
    head.load_state_dict(head.state_dict() | state)
    return head

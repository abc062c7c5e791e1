"""What is known of a candidate.

Shapes: B queries, K candidates, F features, C classes, G numbers of a table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from widemax.artifact import Model
from widemax.errors import UsageError
from widemax.heads import TopK
from widemax.ranking.base import Array
from widemax.ranking.columns import Columns
from widemax.recommender import names_of

OF_RETRIEVER = ("log probability", "log rank", "log count", "log length of the history")
RECENCY = "log age"
LEAST_LOG_PROB = -100.0


@dataclass(frozen=True, eq=False)
class Features:
    """The features of candidates: what the retriever says of them, and columns of items and users.

    The retriever's are its log-probability, the logarithms of the candidate's rank, of how many training rows
    it is the answer of, and of the number of items in the history, and, of a run with times, the logarithm
    of how long ago it was last taken when training ended, in units of the mean over all items.

    Args:
        has_times: whether the run has times.
        items, users: columns of them; of a stranger's nothing is known.
    """

    has_times: bool
    items: Columns | None = None
    users: Columns | None = None
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        columns = [name for table in (self.items, self.users) if table for name in table.names]
        own = [*OF_RETRIEVER, *[RECENCY] * self.has_times]
        object.__setattr__(self, "names", (*own, *columns))

    def of(
        self, model: Model, topk: TopK, histories: Sequence[Sequence[int]], users: Sequence[Any] | None
    ) -> Array:
        """[B, K, F] of candidates after histories of class ids, and of the users whose they are.

        Raises:
            UsageError: the features have an age, but the run has no times.
        """
        ids_BK, log_probs_BK = topk.class_ids.numpy(), topk.log_probs.double().numpy()
        num_queries, num_places = ids_BK.shape
        lengths_B = np.array([len(history) for history in histories], np.float64)
        last_times_C = model.vocabulary.last_times
        blocks = [
            np.maximum(log_probs_BK, LEAST_LOG_PROB),
            np.broadcast_to(np.log(np.arange(1, num_places + 1)), ids_BK.shape),
            np.log1p(model.vocabulary.counts[ids_BK]),
            np.broadcast_to(np.log1p(lengths_B)[:, None], ids_BK.shape),
        ]
        if self.has_times:
            if last_times_C is None:
                raise UsageError(
                    "the ranker asks how long ago items were taken, which the run does not know; train it "
                    "with times (--time)."
                )
            age_C = last_times_C.max() - last_times_C
            blocks.append(np.log1p(age_C / (age_C.mean() or 1.0))[ids_BK])
        parts = [np.stack(blocks, axis=2)]
        if self.items is not None:
            of_items = self.items.of(model.vocabulary.labels.take(pa.array(ids_BK.ravel())))
            parts.append(of_items.reshape(num_queries, num_places, -1))
        if self.users is not None:
            at_B = np.full(num_queries, -1) if users is None else names_of(self.users.keys, users)[1]
            of_users = np.where(at_B[:, None] >= 0, self.users.values_MG[at_B], np.float32(0))
            parts.append(np.broadcast_to(of_users[:, None], (num_queries, num_places, of_users.shape[1])))
        return np.concatenate(parts, axis=2)

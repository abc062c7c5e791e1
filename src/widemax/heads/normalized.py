"""What heads share whose probabilities sum to 1 by the way they are made.

Shapes: B rows, b rows of one chunk, C classes, D hidden, K kept, N asked, P labels, R rows given up.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple, TypeAlias

import torch
from pydantic import BeforeValidator
from torch import Tensor

from widemax.heads.answers import Answers, TopK
from widemax.heads.base import Head
from widemax.heads.dense import answer_rows, excluded_pairs
from widemax.heads.labels import Labels, SeveralLabels, no_pairs, target_shares, training_pairs
from widemax.kernels import Pairs, budget
from widemax.losses.base import loss_name
from widemax.numerics.arrays import widened_tensor
from widemax.numerics.ids import checked_ids

# Labels looked up at a time: a label may need many rows of weights.
PAIRS_AT_ONCE = 2**12
# Rows whose top k is searched together.
SEARCHED_ROWS = 256

SoftmaxLoss = Annotated[Literal["cross_entropy"], BeforeValidator(loss_name)]

Temperature: TypeAlias = Tensor | float
"""What divides the logits of every softmax inside, a tensor without axes or a number."""


class Searched(NamedTuple):
    """What a best-first search for the top k found.

    Attributes:
        class_ids: [B, K] the best classes, best first, equal ones by ascending id.
        log_probs: [B, K] their log-probabilities in nats; −inf for excluded classes.
        num_expanded_B: how many parts of the head a row has looked into.
        is_proven_B: whether the search ended before its limit; other rows hold the best classes seen.
    """

    class_ids: Tensor
    log_probs: Tensor
    num_expanded_B: Tensor
    is_proven_B: Tensor

    @staticmethod
    def nothing(like: Tensor, k: int, num_classes: int) -> "Searched":
        """Before a search over as many rows as ``like`` has, in its dtype; class id C stands for none."""
        ids_BK = torch.full((len(like), k), num_classes, device=like.device)
        numbers_B = torch.zeros(len(like), dtype=torch.int64, device=like.device)
        return Searched(ids_BK, like.new_full((len(like), k), -torch.inf), numbers_B, numbers_B.bool())


def law_of_places(place_of_class: Tensor, cluster_of_class: Tensor) -> tuple[bool, str]:
    """That classes have places of their own, those of a cluster by class id, as `Head.laws` yields it."""
    are_own = torch.equal(place_of_class.sort().values, torch.arange(len(place_of_class)))
    by_id = torch.equal(place_of_class.argsort(), cluster_of_class.argsort(stable=True))
    return are_own and by_id, "a place for each class, by class id within a cluster"


Search: TypeAlias = Callable[[Tensor, Pairs], Searched]
"""Hidden vectors [b, D] and the classes that may not be ranked, to the best classes of each row."""


class NormalizedHead(Head):
    """A head made of softmaxes whose product sums to 1 over the classes, so that log Z = 0.

    Logits are log-probabilities. ``calibration_temperature`` divides the logits of every softmax inside.
    A member states the log-probabilities of some labels and those of all classes; the rest follows.

    Args:
        num_classes: C, or ``Classes`` with their counts.
        dim: D, the length of a hidden vector.
        loss: "cross_entropy", the only one: exactly one class is right.
        classes_per_label: how many classes' worth of work the log-probability of one label takes; when all
            that are asked for take more than C, all classes are computed together.
    """

    def __init__(self, num_classes: int, dim: int, *, loss: SoftmaxLoss, classes_per_label: int) -> None:
        super().__init__(num_classes, dim)
        self.loss = loss
        self.normalizer = "softmax"
        self.classes_per_label = classes_per_label

    @abstractmethod
    def label_log_probs(self, hidden: Tensor, pairs: Pairs, temperature: Temperature) -> Tensor:
        """[P] log-probabilities of (row, class) pairs, in float32 at least, with gradients."""

    @abstractmethod
    def all_log_probs(self, hidden: Tensor, temperature: Temperature) -> Tensor:
        """[b, C] log-probabilities of all classes, in float32 at least, with gradients.

        Without a gradient the memory belongs to the caller.
        """

    def searcher(self, k: int) -> Search | None:
        """A search for the k best classes, at most C, where one is faster than computing all classes."""
        return None

    @property
    def rows_at_once(self) -> int:
        """Rows whose log-probabilities over all classes are held together."""
        return max(1, budget.HELD_ELEMENTS // self.num_classes)

    def row_losses(self, hidden: Tensor, labels: Labels) -> Tensor:
        """[B] cross-entropy with a target that is uniform over a row's labels; 0 without labels."""
        pairs = training_pairs(labels, hidden, self.num_classes)
        log_probs_P = self.label_log_probs(hidden, pairs, 1.0)
        shares_P = target_shares(pairs, len(hidden)).to(log_probs_P.dtype)
        loss_B = log_probs_P.new_zeros(len(hidden))
        return loss_B.index_add(0, pairs.rows_P, -shares_P * log_probs_P)

    def logits(self, hidden: Tensor, class_ids: Tensor | None = None) -> Tensor:
        temperature = self.calibration_temperature
        if class_ids is None:
            if torch.compiler.is_compiling():
                # How many parts there are would depend on the number of rows.
                return self.all_log_probs(hidden, temperature)
            rows = torch.split(hidden, self.rows_at_once)
            return torch.cat([self.all_log_probs(rows_bD, temperature) for rows_bD in rows])
        class_ids = checked_ids(class_ids, self.num_classes, "class_ids", hidden)
        ids_BN = class_ids.expand(len(hidden), class_ids.shape[-1])
        if ids_BN.shape[1] * self.classes_per_label >= self.num_classes or hidden.is_meta:
            chunks = zip(
                torch.split(hidden, self.rows_at_once), torch.split(ids_BN, self.rows_at_once), strict=True
            )
            parts = [self.all_log_probs(rows_bD, temperature).gather(1, ids_bN) for rows_bD, ids_bN in chunks]
            return torch.cat(parts)
        rows_BN = torch.arange(len(hidden), device=hidden.device)[:, None].expand_as(ids_BN)
        pairs = zip(
            torch.split(rows_BN.flatten(), PAIRS_AT_ONCE),
            torch.split(ids_BN.flatten(), PAIRS_AT_ONCE),
            strict=True,
        )
        parts = [self.label_log_probs(hidden, Pairs(*chunk), temperature) for chunk in pairs]
        return torch.cat(parts).view(ids_BN.shape)

    def log_partition(self, hidden: Tensor) -> Tensor:
        return widened_tensor(hidden.new_zeros(len(hidden)))

    @torch.no_grad()
    def log_probs(self, hidden: Tensor, class_ids: Tensor) -> Tensor:
        return self.logits(hidden, class_ids)

    def best_classes(self, hidden: Tensor, k: int, exclude: SeveralLabels | None) -> TopK:
        search = self.searcher(k)
        if search is None:
            return super().best_classes(hidden, k, exclude)
        excluded = excluded_pairs(exclude, hidden, no_pairs(hidden.device), self.num_classes)
        starts = range(0, max(len(hidden), 1), SEARCHED_ROWS)
        parts = [
            search(hidden[start : start + SEARCHED_ROWS], excluded.of_rows(start, start + SEARCHED_ROWS)[1])
            for start in starts
        ]
        found = Searched(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))
        # A row of NaN compares with nothing, and may end without a class.
        is_whole_B = found.is_proven_B & (found.class_ids < self.num_classes).all(1)
        rest_R = (~is_whole_B).nonzero().squeeze(1)
        if len(rest_R):
            exclude_R = None if exclude is None else exclude.take(rest_R)
            best = self.answers_about(hidden[rest_R], no_pairs(hidden.device), k, exclude_R).topk
            found.class_ids[rest_R], found.log_probs[rest_R] = best.class_ids, best.log_probs
        return TopK(found.class_ids, found.log_probs, found.log_probs)

    def answers_about(self, hidden: Tensor, labels: Pairs, k: int, exclude: SeveralLabels | None) -> Answers:
        return answer_rows(
            lambda hidden_bD: self.all_log_probs(hidden_bD, self.calibration_temperature),
            *(hidden, labels, excluded_pairs(exclude, hidden, labels, self.num_classes)),
            k=k,
            rows_at_once=self.rows_at_once,
        )

"""What users may like by their histories, and which items go together.

Shapes: B users, P items of all histories, N items that may be answered, K answers, C items.
"""

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from widemax.artifact import Model, Prediction
from widemax.data import HISTORY, USER, LabelVocabulary, array_of, convert, convert_labels, lists, plain
from widemax.errors import UnknownNameError, UsageError, nearest
from widemax.heads import LinearHead, SeveralLabels, TopK
from widemax.kernels import topk_by_id
from widemax.options import AtLeast1, checked

MOST_COMPARED = 100_000
"""Among so many names the nearest one is looked for where one is unknown."""


class Reranker(Protocol):
    """A second stage, such as :class:`widemax.ranking.Ranker`."""

    @property
    def num_candidates(self) -> int:
        """How many of the best items it is given."""

    def reordered(
        self, model: Model, topk: TopK, histories: Sequence[Sequence[int]], users: Sequence[Any] | None
    ) -> TopK:
        """These items after histories of class ids in its own order, with its own logits."""


class Recommender:
    """The best items for users of a run, or after histories, exact over all items that may be answered.

    Args:
        model: of a run on events, or on rows with one history of the items that are its classes.
        k: how many items.
        include_seen: whether items of the history may be answered; by default where ``data.repeat`` is true.
        only: the items that may be answered; all when None.
        exclude: items that may not be answered.
        ranker: what orders the best items of the run anew; probabilities and logits are its own then.

    Raises:
        UsageError: the model answers about something else, or does not know an item.

    Example:
        >>> recommender = Recommender(Model.load("run"), k=10)  # doctest: +SKIP
        >>> recommender.users([42])  # doctest: +SKIP
        [[Prediction(label='green tea', probability=0.1, logit=-2.3), ...]]
    """

    @partial(checked, of="Recommender")
    def __init__(
        self,
        model: Model,
        *,
        k: AtLeast1 = 20,
        include_seen: bool | None = None,
        only: Sequence[Any] | None = None,
        exclude: Sequence[Any] = (),
        ranker: Reranker | None = None,
    ) -> None:
        names = [column.name for column in model.schema.inputs]
        if [column.kind for column in model.schema.inputs] != ["ids"] and model.histories is None:
            raise UsageError(f"the run answers about the columns {names}, not about histories; use predict.")
        self.model = model
        self.k = k
        self.ranker = ranker
        self.include_seen = not model.excludes_seen if include_seen is None else include_seen
        excluded = self.item_ids(exclude)
        self._excluded_N = np.unique(excluded)
        self._only: Tensor | None = None
        if only is not None:
            self._only = torch.from_numpy(np.setdiff1d(self.item_ids(only), excluded))
            self._excluded_N = excluded[:0]

    def item_ids(self, items: Sequence[Any]) -> np.ndarray:
        """Class ids [N] of items.

        Raises:
            UsageError: one is unknown.
        """
        return ids_of(self.model.vocabulary, items, "item")

    @cached_property
    def known_users(self) -> LabelVocabulary:
        """The users of the run.

        Raises:
            UsageError: it knows none.
        """
        histories = self.model.histories
        if histories is None:
            raise UsageError("the run was not trained on events and knows no users; give a history.")
        return LabelVocabulary(plain(histories[USER]), np.ones(len(histories), np.int64))

    @partial(checked, of="recommender.users")
    def users(self, users: Sequence[Any]) -> list[list[Prediction]]:
        """The best items for each user, best first; strangers are given what is popular."""
        _, user_B = names_of(self.known_users, users)
        histories = plain(self.model.histories[HISTORY]).take(pa.array(user_B, mask=user_B < 0))
        return self._best([history or [] for history in histories.to_pylist()], users)

    @partial(checked, of="recommender.histories")
    def histories(self, histories: Sequence[Sequence[Any]]) -> list[list[Prediction]]:
        """The best items after each history, oldest item first.

        Raises:
            UsageError: an item is unknown.
        """
        return self._best([self.item_ids(history).tolist() for history in histories])

    def strangers(self, users: Sequence[Any]) -> dict[int, str]:
        """A sentence for each user whom the run does not know, by their positions."""
        _, ids_B = names_of(self.known_users, users)
        return {
            at: f"user {_stranger(self.known_users, users[at])} What is popular is answered."
            for at in np.flatnonzero(ids_B < 0).tolist()
        }

    def _best(
        self, histories: Sequence[Sequence[int]], users: Sequence[Any] | None = None
    ) -> list[list[Prediction]]:
        topk = self.candidates(histories, users)
        if self.ranker is not None:
            topk = self.ranker.reordered(self.model, topk, histories, users)
        answers = self.model.decode(topk)
        return [answer[: self.k] for answer in answers]

    def candidates(self, histories: Sequence[Sequence[int]], users: Sequence[Any] | None = None) -> TopK:
        """The run's best classes after histories of class ids: k, or as many as the ranker takes if more."""
        k = self.k if self.ranker is None else max(self.k, self.ranker.num_candidates)
        lengths_B = np.array([len(history) for history in histories], np.int64)
        ids_P = np.array([item for history in histories for item in history], np.int64)
        history, *about = self.model.schema.inputs
        items = lists(lengths_B, self.model.vocabulary.labels.take(pa.array(ids_P)))
        columns = {history.name: convert(items, **history.form)[0]}
        if about:
            user_B = np.full(len(histories), -1)
            if users is not None:
                user_B = names_of(self.known_users, users)[1]
            columns |= self.model.about_users(pa.array(user_B, mask=user_B < 0))
        hidden_BD = self.model.hidden(columns)
        barred = [[] if self.include_seen else history for history in histories]
        rows = [
            torch.from_numpy(np.union1d(history, self._excluded_N).astype(np.int64)) for history in barred
        ]
        offsets_B1 = torch.tensor([0, *np.cumsum([len(row) for row in rows])])
        exclude = SeveralLabels(torch.cat(rows), offsets_B1)
        if self._only is None:
            return self.model.head.topk(hidden_BD, k, exclude=exclude)
        return self._among(self._only, hidden_BD, k, exclude)

    @torch.no_grad()
    def _among(self, only_N: Tensor, hidden_BD: Tensor, k: int, exclude: SeveralLabels) -> TopK:
        """The best of some classes, which rise."""
        logits_BN = self.model.head.logits(hidden_BD, only_N)
        rows_Q, ids_Q = exclude.pairs()
        at_Q = torch.searchsorted(only_N, ids_Q).clamp(max=max(0, len(only_N) - 1))
        barred_Q = only_N[at_Q] == ids_Q if len(only_N) else torch.zeros(len(ids_Q), dtype=torch.bool)
        logits_BN[rows_Q[barred_Q], at_Q[barred_Q]] = -torch.inf
        logits_BK, at_BK = topk_by_id(logits_BN, min(k, len(only_N)))
        ids_BK = only_N[at_BK]
        return TopK(ids_BK, logits_BK, self.model.head.log_probs(hidden_BD, ids_BK))


@partial(checked, of="neighbors")
@torch.no_grad()
def neighbors(model: Model, item: Any, *, k: AtLeast1 = 10) -> list[tuple[Any, float]]:
    """The classes nearest to one of a model's, with the cosine of their weights, nearest first.

    Where hidden vectors are linear in the n-grams of a text, these are the weights of n-grams.

    Where the head has no weights for each class, as one that counts, these are the best items after a history
    of this one alone, with their probabilities: what is taken by those who took it.

    Raises:
        UsageError: the model does not know the item, or has neither weights for each class nor histories.
    """
    (class_id,) = ids_of(model.vocabulary, [item], "item")
    if not isinstance(model.head, LinearHead):
        answers = Recommender(model, k=k, include_seen=False).histories([[item]])
        return [(answer.label, answer.probability) for answer in answers[0]]
    weight_CD: Tensor = model.head.weight
    if (table_FD := model.encoder.table) is not None:
        # The table and the head are factors of the weights of n-grams, one of which may be the identity.
        squares_D, axes_DD = torch.linalg.eigh(table_FD.T @ table_FD)
        weight_CD = weight_CD @ (axes_DD * squares_D.clamp(min=0).sqrt())
    weight_CD = nn.functional.normalize(weight_CD)
    cosines_C = weight_CD @ weight_CD[class_id]
    cosines_C[class_id] = -torch.inf
    found_K, ids_K = topk_by_id(cosines_C[None], min(k + 1, len(cosines_C)))
    labels = model.vocabulary.decode(ids_K[0].numpy())
    pairs = zip(labels, found_K[0].tolist(), strict=True)
    return [(label, cosine) for label, cosine in pairs if cosine > -2][:k]


def names_of(known: LabelVocabulary, names: Sequence[Any]) -> tuple[list[Any], np.ndarray]:
    """Names in the type of those known, texts of numbers among them, and their ids, −1 where unknown."""
    if not len(names):
        return [], np.empty(0, np.int64)
    arrow, _ = convert_labels(array_of(names), type_name=str(known.labels.type), several=False)
    typed = [name if own is None else own for name, own in zip(names, arrow.to_pylist(), strict=True)]
    return typed, known.encode(arrow)


def ids_of(known: LabelVocabulary, names: Sequence[Any], noun: str) -> np.ndarray:
    """The ids of names.

    Raises:
        UnknownNameError: one is not known; the noun says what it should be.
    """
    _, ids_N = names_of(known, names)
    for at in np.flatnonzero(ids_N < 0).tolist():
        raise UnknownNameError(f"{noun} {_stranger(known, names[at])}")
    return ids_N


def _stranger(known: LabelVocabulary, name: Any) -> str:
    """Which name is not among those known, and the nearest that is."""
    shown = list(map(str, known.labels[:MOST_COMPARED].to_pylist()))
    near = nearest(str(name), shown)
    hint = f"did you mean {near!r}?" if near else f"such as {shown[0]!r}."
    return f"{name!r} is not among the {len(known):,} of the run; {hint}"

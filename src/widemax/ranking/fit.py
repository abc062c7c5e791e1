"""From clicks to a ranker.

Shapes: Q queries, K candidates, F features, N clicks, P pairs of query and item.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import Field
from scipy.sparse import csr_array

from widemax.artifact import Model
from widemax.data import (
    HISTORY,
    USER,
    Data,
    EventColumns,
    Events,
    Reading,
    convert_labels,
    plain,
    ragged,
    read_events,
    resolve,
)
from widemax.errors import DataError, UsageError, counted
from widemax.options import checked
from widemax.ranking.base import Array, Objective, Queries, dcg, objectives, ranks_of
from widemax.ranking.columns import Columns
from widemax.ranking.features import Features
from widemax.ranking.ranker import Ranker
from widemax.recommender import Recommender
from widemax.registry import Spec

MOST_ROWS = 400_000
"""So many candidates are learned from; with 30 features they take 100 MB."""
HELD_OUT, PLACES = 5, 20
"""Of so many queries one is held out, and how many places count."""
QUERIES_AT_ONCE = 512


@dataclass(frozen=True, eq=False)
class Clicks:
    """What users took, and how much of each, after what the retriever was trained on.

    Args:
        users: [Q] Python values.
        histories: [Q] class ids that the retriever knows of them; nothing of strangers.
        query_P, item_P, value_P: what a user took, each item once: its class id (−1: unknown to the
            retriever), and the value of all its clicks together, which may be 0.
    """

    users: list[Any]
    histories: list[list[int]]
    query_P: Array
    item_P: Array
    value_P: Array

    def take(self, chosen_Q: Array) -> "Clicks":
        """Some of the queries, by positions that rise."""
        new_Q = np.full(len(self.users), -1)
        new_Q[chosen_Q] = np.arange(len(chosen_Q))
        kept_P = new_Q[self.query_P] >= 0
        users, histories = ([values[at] for at in chosen_Q] for values in (self.users, self.histories))
        return Clicks(
            users, histories, new_Q[self.query_P[kept_P]], self.item_P[kept_P], self.value_P[kept_P]
        )


@partial(checked, of="rank")
def rank(
    model: Model,
    clicks: Data | Iterable[Data],
    *,
    watch_time: str | None = None,
    objective: Spec | type[Objective] = "weighted_logistic",
    candidates: Annotated[int, Field(ge=2)] = 200,
    items: Data | Iterable[Data] | None = None,
    users: Data | Iterable[Data] | None = None,
    drop_bad: bool = False,
    delimiter: str | None = None,
    encoding: str | None = None,
    seed: int = 0,
    say: Callable[[str], None] | None = None,
) -> Ranker:
    """A ranker of a run's candidates, learned from what users took after its training.

    A query is a user with a click. Its candidates are the best items of the run for that user, and the value
    of each is the sum of the user's watch times of it, or whether the user clicked it. A fifth of the queries
    is held out for ``metrics``; then the ranker learns from all of them.

    Args:
        model: of a run on events, the retriever.
        clicks: files or frames of events, with the columns of the run.
        watch_time: the column that says how much each click was worth, in seconds or anything else from 0 on.
        objective: what the score is fitted to.
        candidates: how many of the retriever's best are ordered anew.
        items, users: files or frames with a row for each item, or user, whose columns are features.
        drop_bad: count and drop bad clicks instead of raising at the first.
        delimiter, encoding: of the files, where they differ from those in training.
        seed: of the queries that are held out.
        say: called with sentences about what was read.

    Raises:
        UsageError: the run was not trained on events, or a column does not exist.
        DataError: clicks cannot be used, or all lie in the time that the retriever was trained on.

    Example:
        >>> ranker = rank(Model.load("run"), "clicks.csv", watch_time="seconds")  # doctest: +SKIP
        >>> ranker.metrics["ndcg@20"], ranker.metrics["ceiling_ndcg@20"]  # doctest: +SKIP
        (0.31, 0.52)
    """
    section, say = model.config.data, say or ignore
    member: Objective = objectives.build(objective)
    if model.histories is None or section.user is None or section.item is None:
        raise UsageError("the run was not trained on events, so it has no candidates to rank for users.")
    reading = Reading.of(section, delimiter=delimiter, encoding=encoding)
    has_times = model.vocabulary.last_times is not None
    named = EventColumns(section.user, section.item, section.time if has_times else None, watch_time)
    events, num_bad = read_events(resolve(clicks), named, format=reading, drop_bad=drop_bad)
    if num_bad:
        say(f"{counted(num_bad, 'bad click')} dropped")
    if (events.weight_N < 0).any():
        raise DataError(
            f"column {watch_time!r} must hold numbers from 0 on; got {float(events.weight_N.min())}."
        )
    tables = {}
    for name, source, key in (("items", items, section.item), ("users", users, section.user)):
        if source is not None:
            tables[name] = Columns.read(resolve(source), key, format=reading)
            for sentence in tables[name].told:
                say(sentence)
    found = clicks_of(model, later(model, events, say), summed=watch_time is not None, say=say)
    generator = np.random.default_rng(seed)
    most = max(2, MOST_ROWS // candidates)
    if len(found.users) > most:
        say(f"{most:,} of {len(found.users):,} users are learned from, drawn at random")
        found = found.take(np.sort(generator.choice(len(found.users), most, replace=False)))
    features = Features(has_times, **tables)
    queries = queries_of(model, found, features, candidates)
    held_out_Q = np.zeros(len(found.users), bool)
    held_out_Q[generator.permutation(len(found.users))[: max(1, len(found.users) // HELD_OUT)]] = True
    for part, noun in ((queries.take(~held_out_Q), "the others"), (queries.take(held_out_Q), "the held-out")):
        if not (part.value_QK > 0).any():
            raise DataError(
                f"nothing that {noun} of {counted(len(found.users), 'user')} took is among their "
                f"{candidates} candidates. Give more clicks, or rank more candidates."
            )
    mean_F, scale_F = scaling(queries.take(~held_out_Q))
    weight_F1 = member.fit(scaled(queries.take(~held_out_Q), mean_F, scale_F))
    tests = found.take(np.flatnonzero(held_out_Q))
    metrics = measured(member, weight_F1, scaled(queries.take(held_out_Q), mean_F, scale_F), tests)
    mean_F, scale_F = scaling(queries)
    weight_F1 = member.fit(scaled(queries, mean_F, scale_F))
    return Ranker(member, candidates, features, weight_F1, mean_F, scale_F, metrics)


def later(model: Model, events: Events, say: Callable[[str], None]) -> Events:
    """The events after what the retriever was trained on.

    Raises:
        DataError: there is none.
    """
    last_times_C = model.vocabulary.last_times
    if last_times_C is None or events.time_N is None:
        say(
            "warning: the run has no times, so nobody can tell whether the clicks are later than its training"
        )
        return events
    until = float(last_times_C.max())
    later_N = events.time_N > until
    if not later_N.any():
        raise DataError(
            f"every click lies in the time that the retriever was trained on, up to {moment(until)}: it "
            "knows what it would be asked. Give later clicks, or train it on less (--split time:0.8)."
        )
    if not later_N.all():
        say(
            f"{counted(int((~later_N).sum()), 'click')} in the time that the retriever was trained on, up to "
            f"{moment(until)}, {'is' if (~later_N).sum() == 1 else 'are'} left out"
        )
    return events.take(later_N)


def moment(time: float) -> str:
    """A time as it stands in data: a date where it can be one in seconds.

    Example:
        >>> moment(1_700_000_000), moment(12.0)
        ('1700000000 (2023-11-14 22:13:20)', '12')
    """
    shown = f"{time:.15g}"
    if 10**8 <= time < 10**10:
        return f"{shown} ({datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S})"
    return shown


def clicks_of(model: Model, events: Events, *, summed: bool, say: Callable[[str], None]) -> Clicks:
    """Events by users, in the class ids of the retriever; what it has had for an answer already is left out.

    Raises:
        DataError: nothing is left.
    """
    known = plain(model.histories[USER])
    users, _ = convert_labels(events.users, type_name=str(known.type), several=False)
    # By name, so that the order of the clicks does not matter.
    order_U = pc.array_sort_indices(events.users).to_numpy()
    items, _ = convert_labels(events.items, type_name=str(model.vocabulary.labels.type), several=False)
    item_I = model.vocabulary.encode(items)
    pairs_P, pair_N = np.unique(events.pairs_N, return_inverse=True)
    value_P = np.bincount(pair_N, events.weight_N)
    user_P, item_P = pairs_P // len(items), item_I[pairs_P % len(items)]
    at_U = pc.fill_null(pc.index_in(users, known), -1).to_numpy()
    lengths_U, ids = ragged(plain(model.histories[HISTORY]))
    ends_U, ids_H = np.cumsum(lengths_U), ids.to_numpy()
    histories = [ids_H[ends_U[at] - lengths_U[at] : ends_U[at]] if at >= 0 else ids_H[:0] for at in at_U]
    if model.excludes_seen:
        had = [set(history.tolist()) for history in histories]
        seen_P = np.array([item in had[user] for user, item in zip(user_P, item_P, strict=True)], bool)
        if seen_P.any():
            say(f"{counted(int(seen_P.sum()), 'pair')} of user and item in training, which are no candidates")
        user_P, item_P, value_P = user_P[~seen_P], item_P[~seen_P], value_P[~seen_P]
    if not len(user_P):
        raise DataError("every pair of user and item stands in training; give clicks on other items.")
    asked_Q = order_U[np.isin(order_U, user_P)]
    query_U = np.full(len(order_U), -1)
    query_U[asked_Q] = np.arange(len(asked_Q))
    by_query_P = np.argsort(query_U[user_P], kind="stable")
    query_P, item_P, value_P = query_U[user_P][by_query_P], item_P[by_query_P], value_P[by_query_P]
    return Clicks(
        events.users.take(pa.array(asked_Q)).to_pylist(),
        [histories[user].tolist() for user in asked_Q],
        query_P,
        item_P,
        value_P if summed else np.ones(len(value_P)),
    )


def queries_of(model: Model, clicks: Clicks, features: Features, num_candidates: int) -> Queries:
    """The candidates of each query with their features and values."""
    recommender = Recommender(model, k=num_candidates)
    num_queries = len(clicks.users)
    value_QK: list[Array] = []
    valid_QK: list[Array] = []
    parts: list[Array] = []
    ends_Q1 = np.append(0, np.cumsum(np.bincount(clicks.query_P, minlength=num_queries)))
    for start in range(0, num_queries, QUERIES_AT_ONCE):
        some = slice(start, start + QUERIES_AT_ONCE)
        histories, users = clicks.histories[some], clicks.users[some]
        topk = recommender.candidates(histories, users)
        parts.append(features.of(model, topk, histories, users))
        valid_QK.append((topk.logits > -torch.inf).numpy())
        pairs = slice(ends_Q1[start], ends_Q1[start + len(users)])
        taken_QC = csr_array(
            (clicks.value_P[pairs], (clicks.query_P[pairs] - start, clicks.item_P[pairs] + 1)),
            shape=(len(users), len(model.vocabulary) + 1),
        )
        ids_QK = topk.class_ids.numpy() + 1
        value_QK.append(taken_QC[np.arange(len(users))[:, None], ids_QK].toarray() * valid_QK[-1])
    return Queries(np.concatenate(parts), np.concatenate(value_QK), np.concatenate(valid_QK))


def scaling(queries: Queries) -> tuple[Array, Array]:
    """The mean and the deviation of each feature over all candidates; 1 where all are the same."""
    features_NF = queries.features_QKF[queries.valid_QK]
    scale_F = features_NF.std(axis=0)
    return features_NF.mean(axis=0), np.where(scale_F > 1e-9, scale_F, 1.0)


def scaled(queries: Queries, mean_F: Array, scale_F: Array) -> Queries:
    """The queries with features of mean 0 and deviation 1."""
    return Queries((queries.features_QKF - mean_F) / scale_F, queries.value_QK, queries.valid_QK)


def measured(member: Objective, weight_F1: Array, queries: Queries, clicks: Clicks) -> dict[str, float]:
    """What held-out queries give: the order of the retriever, the ranker's, and the best of any order.

    The gains are the values, and the ideal has all that the user took, candidates or not. nDCG is the mean of
    DCG / ideal DCG, where each user counts alike; value is Σ DCG / Σ ideal DCG, where each second does.
    """
    score_QK = queries.features_QKF @ weight_F1[:-1] + weight_F1[-1]
    counts_Q = np.bincount(clicks.query_P, minlength=len(score_QK))
    place_P = np.arange(len(clicks.query_P)) - np.repeat(np.cumsum(counts_Q) - counts_Q, counts_Q)
    taken_QP = np.zeros((len(score_QK), counts_Q.max()))
    taken_QP[clicks.query_P, place_P] = clicks.value_P
    asked_Q = taken_QP.max(1) > 0
    asked, taken_QP = queries.take(asked_Q), taken_QP[asked_Q]
    ideal_Q = dcg(taken_QP, ranks_of(taken_QP, taken_QP > 0), k=PLACES)
    found_Q, all_Q = ((value_QK > 0).sum(1) for value_QK in (asked.value_QK, taken_QP))
    as_retrieved_QK = np.zeros(asked.value_QK.shape)
    orders = {"": score_QK[asked_Q], "retriever_": as_retrieved_QK, "ceiling_": asked.value_QK}
    reached = {}
    for name, order_QK in orders.items():
        dcg_Q = dcg(asked.value_QK, ranks_of(order_QK, asked.valid_QK), k=PLACES)
        reached[f"{name}ndcg@{PLACES}"] = float(np.mean(dcg_Q / ideal_Q))
        reached[f"{name}value@{PLACES}"] = float(dcg_Q.sum() / ideal_Q.sum())
    metrics = {"queries": float(len(ideal_Q)), "ceiling_recall": float(np.mean(found_Q / all_Q)), **reached}
    if member.estimates_value:
        metrics["expected"] = float(np.exp(score_QK[queries.valid_QK]).mean())
        metrics["observed"] = float(queries.value_QK[queries.valid_QK].mean())
    return metrics


def ignore(sentence: str) -> None:
    """Nobody is told."""

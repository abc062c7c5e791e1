"""Events of users and items as histories, and what came next in them.

Letters: N events, U users, I items, P items of all histories, B rows.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from widemax.data.convert import lists, plain, ragged
from widemax.data.dataset import Dataset
from widemax.data.descriptions import described, most_alike
from widemax.data.event_columns import EventColumns
from widemax.data.formats import Chunk, Frame, Reading, Source
from widemax.data.formats.base import slices
from widemax.data.schema import infer_schema
from widemax.data.target import convert_labels
from widemax.errors import DataError, UsageError, counted

HISTORY, NEXT, USER = "history", "next", "user"
"""The columns of the rows that are made: the items before, those that came next, and whose they are."""
GIVEN = "given"
"""The split of events that are all trained on, as those of the test stand in files of their own."""
LATEST_ITEMS = 50
"""So many items before the next one are kept in a training row; the weight of older ones is near 0."""
FOLDS, MOST_HIDDEN, MOST_KNOWN = 10, 200, 1000
"""Without an order a user's items are hidden by tenths, at most so many beside so many others."""
ROWS_AT_ONCE = 8192
_SPLIT = re.compile(r"(time|random):(0?\.[0-9]+)|last-one")


@dataclass(frozen=True, eq=False)
class Events:
    """Events by user, then by time, then as they came.

    Args:
        users, items: the distinct ids, Arrow arrays.
        user_N, item_N: their positions in these.
        time_N: seconds, or other numbers that rise; None where nothing tells.
        weight_N: 1 where nothing tells.
    """

    users: Any
    items: Any
    user_N: np.ndarray
    item_N: np.ndarray
    time_N: np.ndarray | None
    weight_N: np.ndarray

    def __len__(self) -> int:
        return len(self.user_N)

    def take(self, where_N: np.ndarray) -> "Events":
        """Some of the events, by a mask or by positions that rise."""
        return replace(
            self,
            user_N=self.user_N[where_N],
            item_N=self.item_N[where_N],
            time_N=None if self.time_N is None else self.time_N[where_N],
            weight_N=self.weight_N[where_N],
        )

    @property
    def pairs_N(self) -> np.ndarray:  # noqa: N802 - its shape
        """A number for each pair of user and item."""
        return np.asarray(self.user_N * len(self.items) + self.item_N)

    @property
    def amounts(self) -> tuple[np.ndarray, np.ndarray]:
        """How many events each user has, and each item."""
        users, items = len(self.users), len(self.items)
        return np.bincount(self.user_N, minlength=users), np.bincount(self.item_N, minlength=items)

    def interactions(self, *, repeat: bool) -> "Events":
        """Each pair of user and item once, where it first occurs, unless items may repeat."""
        if repeat:
            return self.take(self.weight_N > 0)
        _, first_P, pair_N = np.unique(self.pairs_N, return_index=True, return_inverse=True)
        return self.take(np.sort(first_P[np.bincount(pair_N, self.weight_N) > 0]))

    def last_times(self) -> tuple[Any, np.ndarray] | None:
        """The items that have events, with the times of their last ones; None without times."""
        if self.time_N is None:
            return None
        last_I = np.full(len(self.items), -np.inf)
        np.maximum.at(last_I, self.item_N, self.time_N)
        known_I = last_I > -np.inf
        return self.items.filter(pa.array(known_I)), last_I[known_I]

    def histories(self) -> Any:
        """A table of the users that have events, with their items in order."""
        num_U, _ = self.amounts
        items = lists(num_U[num_U > 0], self.items.take(pa.array(self.item_N)))
        return pa.table({USER: self.users.filter(pa.array(num_U > 0)), HISTORY: items})

    def held_out(self, split: str, *, seed: int) -> np.ndarray:
        """[N] which events a split holds out for the test.

        Raises:
            UsageError: there is no such split, or it needs times.
        """
        rule = _SPLIT.fullmatch(split)
        if not rule:
            raise UsageError(
                "a split is time:0.9 or random:0.9, with the part that is trained on, last-one or given; "
                f"got {split!r}."
            )
        if rule[1] == "random":
            return np.random.default_rng(seed).random(len(self)) >= float(rule[2])
        if rule[1] == "time":
            if self.time_N is None:
                raise UsageError(f"split {split} needs times; name their column (--time), or take last-one.")
            # Events of one moment stay together, so that none is trained on that is as late as a test.
            first = np.sort(self.time_N)[int(float(rule[2]) * len(self))]
            return np.asarray(self.time_N >= first)
        # From where each user's last new item first occurs; who has one item keeps it.
        new_P = np.sort(np.unique(self.pairs_N, return_index=True)[1])
        last_P = np.append(self.user_N[new_P][1:] != self.user_N[new_P][:-1], True)
        later_P = np.append(False, ~last_P[:-1])
        begin_U = np.full(len(self.users), len(self))
        begin_U[self.user_N[new_P[last_P & later_P]]] = new_P[last_P & later_P]
        return np.asarray(np.arange(len(self)) >= begin_U[self.user_N])


def read_events(
    sources: Sequence[Source],
    columns: EventColumns,
    *,
    format: Reading | str | None = None,  # noqa: A002 - the name of the config key
    drop_bad: bool = False,
) -> tuple[Events, int]:
    """All events of some files or frames, and how many bad ones were dropped.

    Raises:
        UsageError: a column does not exist, or two are the same.
        DataError: a time that is none, an event without a user, an item or a time unless ``drop_bad``, or no
            event at all.
    """
    named = {meaning: name for meaning, name in vars(columns).items() if name}
    if len(set(named.values())) < len(named):
        raise UsageError(f"user, item, time and weight must be columns of their own; got {named}.")
    inputs = [name for meaning, name in named.items() if meaning != "item"]
    kinds = {columns.user: "category"} | ({columns.weight: "number"} if columns.weight else {})
    schema = infer_schema(sources, inputs=inputs, target=columns.item, kinds=kinds, format=format)
    of_users = infer_schema(
        sources, inputs=[columns.item], target=columns.user, kinds={columns.item: "category"}, format=format
    )
    if schema.several or of_users.several:
        raise DataError(
            f"an event has one user and one item, but {columns.item if schema.several else columns.user!r} "
            "holds lists; for lists of items name them as input and target (--input, --target)."
        )
    for column in schema.inputs:
        if column.name == columns.time and column.kind not in ("number", "date"):
            raise DataError(
                f"column {column.name!r} must hold times, as numbers or as dates such as 2024-01-31 12:30."
            )
    dataset = Dataset(sources, schema, format=format, drop_bad=drop_bad)
    batches = list(dataset.batches(1 << 20))
    if not batches:
        raise dataset.without_rows()
    read = {name: pa.chunked_array([batch.columns[name] for batch in batches]) for name in inputs}
    num_bad = dataset.num_bad_rows
    whole_N = np.ones(sum(map(len, batches)), bool)
    for name, values in read.items():
        missing_N = values.is_null().to_numpy()
        if missing_N.any() and not drop_bad:
            row = int(np.concatenate([batch.rows_B for batch in batches])[missing_N.argmax()])
            raise DataError(
                f"{counted(int(missing_N.sum()), 'event')} without a value in column {name!r}, the first in "
                f"row {row} from 0. Correct them, or drop such rows (--drop-bad)."
            )
        whole_N &= ~missing_N
    if not whole_N.any():
        raise DataError(f"{', '.join(map(str, sources))}: every event lacks a user or a time.")
    whole = pa.array(whole_N)
    items = plain(pa.chunked_array([batch.labels for batch in batches]).filter(whole))
    texts = plain(read[columns.user].filter(whole))
    users, _ = convert_labels(texts, type_name=of_users.target_type, several=False)
    item_codes, user_codes = items.dictionary_encode(), users.dictionary_encode()
    user_N, item_N = (codes.indices.to_numpy().astype(np.int64) for codes in (user_codes, item_codes))
    time_N, weight_N = (
        read[name].filter(whole).to_numpy() if name else None for name in (columns.time, columns.weight)
    )
    events = Events(
        *(user_codes.dictionary, item_codes.dictionary, user_N, item_N, time_N),
        np.ones(len(user_N)) if weight_N is None else weight_N,
    )
    order_N = np.lexsort([*([] if time_N is None else [time_N]), user_N])
    return events.take(order_N), num_bad + int((~whole_N).sum())


@dataclass(frozen=True, eq=False)
class HistoryRows(Frame):
    """Rows of the items before and of those that came next, made of users' histories as they are read.

    In order, each item of a user is next once, after the latest ``LATEST_ITEMS`` before it; the first one
    after none, which teaches what strangers like. Without an order, each of ten random parts of a user's
    items is next once, beside the others. Whole histories, of which each item is next after those before it,
    stand in both columns; those longer than a window in several rows.

    The last rows of some users are held out, as a model will be asked: what is next in them stands in no
    other row of theirs. Where there is no order, further rows, the others after these, make up for that.

    Args:
        table: users with their histories, and lists of tokens that a table says of them, if any.
        ordered: whether the order of a history means something.
        seed: of the random parts.
        sentences: about what was read.
        last_times: the items with the times of their last events; None where nothing tells.
        fraction: of all rows, how many are held out, of half of the users at most.
        most: the most rows that are held out.
        window: the most items of a whole history; None where each item has a row.
        more: a table of further rows, of items without events; None where there are none.
    """

    ordered: bool
    seed: int
    sentences: tuple[str, ...]
    last_times: tuple[Any, np.ndarray] | None
    fraction: float
    most: int
    window: int | None = None
    more: Any = None
    name: ClassVar[str] = "the histories"
    _folds_U: np.ndarray = field(init=False, repr=False)
    _held_out_V: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        lengths_U, _ = ragged(plain(self.table[HISTORY]))
        folds_U = np.minimum(lengths_U, np.maximum(FOLDS, -(-lengths_U // MOST_HIDDEN)))
        if self.ordered:
            folds_U = lengths_U if self.window is None else -(-lengths_U // self.window)
        object.__setattr__(self, "_folds_U", folds_U)
        user_V = np.random.default_rng(self.seed).permutation(np.flatnonzero(folds_U > 1))
        most = min(self.most, round(self.fraction * int(folds_U.sum())), len(folds_U) // 2)
        object.__setattr__(self, "_held_out_V", np.sort(user_V[:most]))

    @property
    def held_out(self) -> np.ndarray:
        """The numbers of the rows held out."""
        return np.asarray(np.cumsum(self._folds_U)[self._held_out_V] - 1)

    @property
    def leaking(self) -> np.ndarray:
        """The numbers of the rows that know what is held out."""
        return np.arange(0 if self.ordered else len(self._held_out_V)) + self.num_rows

    @property
    def num_rows(self) -> int:
        """How many rows are of events."""
        return int(self._folds_U.sum())

    @property
    def num_events(self) -> int:
        """How many items stand in histories."""
        return len(ragged(plain(self.table[HISTORY]))[1])

    def columns(self, path: Any) -> list[str]:
        return [*self.table.column_names[1:], NEXT]

    def told(self, path: Any) -> list[str]:
        return list(self.sentences)

    def fingerprint(self, path: Any) -> Iterator[bytes]:
        yield f"{self.ordered} {self.seed}{f' {self.window}' if self.window else ''}".encode()
        yield self._held_out_V.tobytes()
        yield from Frame(self.table).fingerprint(path)
        if self.more is not None:
            yield from Frame(self.more).fingerprint(path)

    def chunks(self, path: Any, columns: Sequence[str]) -> Iterator[Chunk]:
        lengths_U, items = ragged(plain(self.table[HISTORY]))
        place_P = np.arange(len(items))
        if not self.ordered:
            shuffled_P = np.random.default_rng(self.seed).random(len(items))
            place_P = np.lexsort((shuffled_P, np.repeat(np.arange(len(lengths_U)), lengths_U)))
        start_U = np.cumsum(lengths_U) - lengths_U
        described = {name: plain(self.table[name]) for name in self.table.column_names[2:]}

        def rows_of(user_B: np.ndarray, size_B: np.ndarray, *parts: tuple[np.ndarray, np.ndarray]) -> Any:
            """Rows of users, by where their histories and what came next begin, and how long these are."""
            made = {name: values.take(pa.array(user_B)) for name, values in described.items()}
            for name, (from_B, count_B) in zip((HISTORY, NEXT), parts, strict=True):
                positions_P = _positions(start_U[user_B], size_B, from_B, count_B)
                made[name] = lists(count_B, items.take(pa.array(place_P[positions_P])))
            return {name: made[name] for name in columns}

        ends_U = np.cumsum(self._folds_U)
        for first in range(0, int(ends_U[-1]), ROWS_AT_ONCE):
            row_B = np.arange(first, min(first + ROWS_AT_ONCE, int(ends_U[-1])))
            user_B = np.searchsorted(ends_U, row_B, side="right")
            folds_B, size_B = self._folds_U[user_B], lengths_U[user_B]
            fold_B = row_B - ends_U[user_B] + folds_B
            at_B, stop_B = size_B * fold_B // folds_B, size_B * (fold_B + 1) // folds_B
            if not self.ordered:  # what is held out is hidden in the other rows too
                hides_B = np.isin(user_B, self._held_out_V) & (fold_B < folds_B - 1)
                size_B = np.where(hides_B, size_B * (folds_B - 1) // folds_B, size_B)
            from_B = at_B
            if self.window is not None:
                known_B = stop_B - at_B
            elif self.ordered:
                known_B = np.minimum(at_B, LATEST_ITEMS)
            else:
                known_B = np.minimum(size_B - (stop_B - at_B), MOST_KNOWN)
            if self.window is None:
                from_B = at_B - known_B
            parts = (from_B, known_B), (at_B, stop_B - at_B)
            yield from slices(rows_of(user_B, size_B, *parts), len(row_B), first=first)
        if len(self.leaking):
            user_V = self._held_out_V
            size_V, folds_V = lengths_U[user_V], self._folds_U[user_V]
            at_V = size_V * (folds_V - 1) // folds_V
            parts = (at_V, size_V - at_V), (np.zeros_like(at_V), np.minimum(at_V, MOST_KNOWN))
            yield from slices(rows_of(user_V, size_V, *parts), len(user_V), first=self.num_rows)
        if self.more is not None:
            more = {name: plain(self.more[name]) for name in columns}
            yield from slices(more, len(self.more), first=self.num_rows + len(self.leaking))


def _positions(
    start_B: np.ndarray, size_B: np.ndarray, from_B: np.ndarray, count_B: np.ndarray
) -> np.ndarray:
    """Positions [P] of ``count_B`` items of each row from ``from_B`` on, round and round its user's items."""
    step_P = np.arange(count_B.sum()) - np.repeat(np.cumsum(count_B) - count_B, count_B)
    place_P = (np.repeat(from_B, count_B) + step_P) % np.repeat(size_B, count_B)
    return np.asarray(np.repeat(start_B, count_B) + place_P)


def history_rows(
    sources: Sequence[Source],
    section: Any,
    *,
    seed: int,
    items: Sequence[Source] = (),
    users: Sequence[Source] = (),
) -> HistoryRows:
    """The training rows of event files, as ``[data]`` of a config names them.

    Args:
        sources: the events.
        section: names their columns and the split.
        seed: of the split and the rows.
        items, users: tables of these.

    Raises:
        UsageError, DataError: as of ``read_events``; or the split leaves nothing to train on.
    """
    events, num_bad = _events_of(sources, section, time=section.time)
    split, repeat = None if section.split == GIVEN else section.split, section.repeat
    amounts = (int((amount > 0).sum()) for amount in events.amounts)
    of_whom = " and ".join(map(counted, amounts, ("user", "item")))
    bad = f", {num_bad:,} bad ones dropped" * bool(num_bad)
    part, told = events, [f"{counted(len(events), 'event')} of {of_whom}{bad}"]
    if split is not None:
        held_out_N = events.held_out(split, seed=seed)
        part = events.take(~held_out_N)
        if not len(part):
            raise DataError(f"split {split} leaves no event to train on; choose another split.")
        told += _told_of_split(split, part, events.take(held_out_N), repeat=repeat)
    if section.split == GIVEN:
        told.append("split given: nothing is held out; give the events of the test to `widemax evaluate`")
    kept = part.interactions(repeat=repeat)
    if not len(kept):
        raise DataError(f"no weight in column {section.weight!r} is above 0; name another column (--weight).")
    if not repeat:
        num_pairs = 1 + int((np.diff(np.sort(part.pairs_N)) > 0).sum())
        if num_pairs < len(part):
            told.append(f"{counted(len(part) - num_pairs, 'event')} of an item that the user has already had")
        if len(kept) < num_pairs:
            told.append(f"{counted(num_pairs - len(kept), 'pair')} of user and item without a weight above 0")
    elif len(kept) < len(part):
        told.append(f"{counted(len(part) - len(kept), 'event')} without a weight above 0")
    histories = kept.histories()
    if len(histories) == len(kept):
        raise DataError(
            "no user has two items, so there is nothing to learn about what goes together; "
            "name other columns (--user, --item), or give more events."
        )
    by_time = section.time is not None
    if by_time and split and split.startswith("random"):
        told.append(
            f"warning: split {split} shows the model what came after its tests, which time:0.9 does not"
        )
    if not by_time and split == "last-one":
        told.append("no column of times is named: events are taken in their order in the data")
    more = None
    if users:
        histories, of_users = _with_users(histories, users, section)
        told += of_users
    if items:
        more, of_items = _rows_of_items(histories, kept, items, section)
        told += of_items
    ordered = split == "last-one" or (by_time and not (split or "").startswith("random"))
    last_times, held_out = part.last_times(), (section.valid_fraction, section.max_valid_rows)
    return HistoryRows(histories, ordered, seed, tuple(told), last_times, *held_out, more=more)


def _with_users(histories: Any, sources: Sequence[Source], section: Any) -> tuple[Any, list[str]]:
    """Histories with what a table says of their users, and the other users of the table, who have none."""
    users = histories[USER]
    reading = Reading.of(section)
    table, _, told = described(sources, section.user, key_type=str(users.type), reading=reading)
    taken = {HISTORY, NEXT, USER} & table.columns.keys()
    if taken:
        names = ", ".join(map(str, sources))
        raise UsageError(f"rename the columns {sorted(taken)} of {names}: rows have such.")
    new = table.labels.filter(pc.invert(pc.is_in(table.labels, value_set=plain(users))))
    told.append(
        f"{counted(len(table.labels), 'user')} described by {', '.join(table.columns)}, "
        f"{len(new):,} of them without events"
    )
    everyone = pa.concat_arrays([plain(users), new])
    lengths_U, items = ragged(plain(histories[HISTORY]))
    lengths_U = np.append(lengths_U, np.zeros(len(new), np.int64))
    return pa.table({USER: everyone, HISTORY: lists(lengths_U, items), **table.of(everyone)}), told


def _rows_of_items(
    histories: Any, kept: Events, sources: Sequence[Source], section: Any
) -> tuple[Any, list[str]]:
    """Rows by which items without events are learned, as if each had followed the items most like it."""
    reading = Reading.of(section)
    known = kept.items.filter(pa.array(kept.amounts[1] > 0))
    table, numbers, told = described(sources, section.item, key_type=str(known.type), reading=reading)
    new, alike = most_alike(table, numbers, known)
    num_new = len(table.labels) - int(pc.sum(pc.is_in(table.labels, value_set=known)).as_py() or 0)
    told.append(
        f"{counted(len(table.labels), 'item')} described by {', '.join(table.columns)}; {len(new):,} without "
        "events learned from those most like them"
        + f", {num_new - len(new):,} like none and left out"
        * (num_new > len(new))
    )
    each = lists(np.ones(len(new), np.int64), new)
    rows = {HISTORY: pa.concat_arrays([alike, each]), NEXT: pa.concat_arrays([each, alike])}
    nothing = lists(np.zeros(2 * len(new), np.int64), pa.array([], pa.large_string()))
    others = dict.fromkeys(histories.column_names[2:], nothing)
    return (pa.table({**rows, **others}) if len(new) else None), told


def held_out_rows(sources: Sequence[Source], section: Any, known: Any, *, seed: int, same: bool) -> Frame:
    """What the users of a run did beside what it was trained on: their histories, and what came next.

    Args:
        known: users with their histories, as the run keeps them.
        same: whether these are the events that the run was trained on; others need no times.

    Raises:
        UsageError, DataError: as of ``read_events``; or there is nothing but what was trained on.
    """
    same = same and section.split is not None
    events, _ = _events_of(sources, section, time=section.time if same else None)
    if same:
        events = events.take(events.held_out(section.split, seed=seed))
    events = events.interactions(repeat=section.repeat)
    users, items = (
        convert_labels(ids, type_name=str(of.type), several=False)[0]
        for ids, of in ((events.users, known[USER]), (events.items, known[HISTORY].type.value_field))
    )
    of_U = pc.index_in(users, plain(known[USER]))
    histories = plain(known[HISTORY]).take(of_U)
    if not section.repeat:
        lengths_U, flat = ragged(histories)
        item_P = pc.fill_null(pc.index_in(flat, items), -1).to_numpy()
        known_P = np.repeat(np.arange(len(users)), lengths_U) * len(items) + item_P
        events = events.take(~_among(events.pairs_N, known_P[item_P >= 0]))
    if not len(events):
        raise DataError(
            f"{', '.join(map(str, sources))}: every pair of user and item stands in training. "
            "Give later events, or train with a split (--split time:0.9)."
        )
    nexts = events.histories()
    return Frame(
        pa.table(
            {
                USER: nexts[USER],
                HISTORY: histories.take(at_U := pa.array(np.flatnonzero(events.amounts[0]))),
                **{name: plain(known[name]).take(pc.take(of_U, at_U)) for name in known.column_names[2:]},
                NEXT: nexts[HISTORY],
            }
        )
    )


def _events_of(sources: Sequence[Source], section: Any, *, time: str | None) -> tuple[Events, int]:
    columns = EventColumns(section.user, section.item, time, section.weight)
    return read_events(sources, columns, format=Reading.of(section), drop_bad=section.drop_bad)


def _told_of_split(split: str, part: Events, held_out: Events, *, repeat: bool) -> Iterator[str]:
    """Sentences about what is held out, and what of it training knows."""
    yield f"split {split}: {counted(len(held_out), 'event')} held out for `widemax evaluate`"
    num_known = int(_among(held_out.pairs_N, part.pairs_N).sum())
    if num_known and not repeat:
        yield f"{counted(num_known, 'held-out event')} of pairs in training, which no test asks for"
    for asked, trained, noun in zip(held_out.amounts, part.amounts, ("user", "item"), strict=True):
        if strangers := int(((asked > 0) & (trained == 0)).sum()):
            yield f"{counted(strangers, noun)} only among the held-out events"


def _among(keys_N: np.ndarray, known_P: np.ndarray) -> np.ndarray:
    """[N] which keys are among those known. NumPy's isin hashes, and such keys collide."""
    known_P = np.append(np.sort(known_P), -1)
    return np.asarray(known_P[np.searchsorted(known_P[:-1], keys_N)] == keys_N)

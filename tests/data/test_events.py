"""Events become histories and what came next; a split holds out what its name says, and nothing leaks."""

import random
from collections import defaultdict
from dataclasses import replace
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from widemax.config import DataConfig
from widemax.data import (
    HISTORY,
    NEXT,
    USER,
    Dataset,
    EventColumns,
    held_out_rows,
    history_rows,
    infer_schema,
    resolve,
)
from widemax.errors import DataError, UsageError


def section(**given: Any) -> DataConfig:
    """[data] of a config."""
    return DataConfig(**{"user": "u", "item": "i", "valid_fraction": 0.0, **given})


def read(events: Any, **given: Any) -> Any:
    columns = dict(zip(("u", "i", "t", "w"), map(list, zip(*events, strict=True)), strict=False))
    return history_rows(resolve(pa.table(columns)), section(**given), seed=3)


def rows_of(rows: Any) -> list[tuple[list[Any], list[Any]]]:
    """(history, next) as a run reads them."""
    schema = infer_schema([rows], inputs=[HISTORY], target=NEXT, kinds={HISTORY: "ids"})
    batches = list(Dataset([rows], schema).batches())
    known, after = ([item for b in batches for item in column(b).to_pylist()] for column in COLUMNS)
    return list(zip(known, after, strict=True))


def histories_of(rows: Any) -> dict[Any, list[Any]]:
    return {row[USER]: row[HISTORY] for row in rows.table.to_pylist()}


COLUMNS = (lambda batch: batch.columns[HISTORY]), (lambda batch: batch.labels)


def made_events(num: int = 400, *, seed: int = 0) -> list[tuple[int, int, int]]:
    rng = random.Random(seed)
    return [(rng.randrange(12), rng.randrange(40), rng.randrange(1000)) for _ in range(num)]


def by_user(events: list[tuple[int, int, int]]) -> dict[int, list[int]]:
    """Each user's items by time, then as they came, each once."""
    found: dict[int, list[int]] = defaultdict(list)
    for user, item, _ in sorted(events, key=lambda event: event[2]):
        if item not in found[user]:
            found[user].append(item)
    return found


def test_each_item_is_next_after_those_before_it() -> None:
    events = made_events()
    wanted = [(items[:at], [items[at]]) for items in by_user(events).values() for at in range(len(items))]
    assert sorted(rows_of(read(events, time="t"))) == sorted(wanted)


@pytest.mark.parametrize("window", [100, 7])
def test_whole_histories_are_cut_into_windows_of_like_length(window: int) -> None:
    events = made_events()
    rows = rows_of(replace(read(events, time="t"), window=window))
    assert all(history == after for history, after in rows)
    wanted = []
    for items in by_user(events).values():
        num_parts = -(-len(items) // window)
        cuts = [len(items) * part // num_parts for part in range(num_parts + 1)]
        wanted += [items[start:stop] for start, stop in pairwise(cuts)]
    assert sorted(history for history, _ in rows) == sorted(wanted)


def test_without_times_each_item_is_hidden_once_beside_the_others() -> None:
    events = made_events()
    rows = rows_of(read(events))
    for items in by_user(events).values():
        own = [row for row in rows if sorted(row[0] + row[1]) == sorted(items)]
        assert sorted(item for _, hidden in own for item in hidden) == sorted(items)
        assert len(own) == 10
    assert rows == rows_of(read(events))
    assert rows != rows_of(history_rows(resolve(pa.table({"u": [1] * 9, "i": range(9)})), section(), seed=4))


@pytest.mark.parametrize("split", [None, "last-one"])
def test_what_is_held_out_stands_in_no_other_row_of_its_user(split: str | None) -> None:
    """A user without an order has it in no history either; the one of a single item is never asked."""
    events = [(user, 100 * user + item) for user in range(12) for item in range(2 + 2 * user)]
    rows = read([*events, (99, 9907)], split=split, valid_fraction=0.1)
    made, asked = rows_of(rows), rows.held_out.tolist()
    read_rows, leaking = made[: rows.num_rows], [made[at] for at in rows.leaking]
    assert len(made) == len(read_rows) + len(leaking)
    assert leaking == ([] if split else [(after, known) for known, after in (read_rows[at] for at in asked)])
    assert len(asked) == min(round(0.1 * len(read_rows)), 13 // 2) > 4
    for known, after in (read_rows[at] for at in asked):
        user = after[0] // 100
        others = [row for at, row in enumerate(read_rows) if at not in asked and row[1][0] // 100 == user]
        assert known
        assert not set(after) & {item for row in others for part in row for item in part}
        assert set(known) == {item for _, others_after in others for item in others_after}
    assert not len(read(events, split=split).held_out)
    few = read(events, split=split, valid_fraction=0.1, max_valid_rows=3)
    assert len(few.held_out) == 3
    assert read(events, split=split).fingerprint(None) != few.fingerprint(None)


def test_a_user_of_ten_thousand_items_makes_rows_of_bounded_size() -> None:
    many = [(1, item, item) for item in range(10_000)]
    in_order = rows_of(read(many, time="t"))
    assert len(in_order) == 10_000
    assert max(len(known) for known, _ in in_order) == 50
    assert in_order[9_999] == (list(range(9_949, 9_999)), [9_999])
    parts = rows_of(read(many))
    assert sorted(item for _, hidden in parts for item in hidden) == list(range(10_000))
    assert {(len(known), len(hidden)) for known, hidden in parts} == {(1000, 200)}
    assert all(not set(known) & set(hidden) for known, hidden in parts)


def test_nothing_of_a_time_split_leaks() -> None:
    # From time 900 on everybody takes the item 77, which nobody has had before.
    events = [event for event in made_events() if event[2] < 900]
    leak = [(user, 77, 900) for user in range(12)] + [(user, 5, 950) for user in range(12)]
    part = len(events) / (len(events) + len(leak))
    rows = read(leak + events, time="t", split=f"time:{part - 1e-9:.12f}")
    assert by_user(events) == dict(
        zip(rows.table[USER].to_pylist(), rows.table[HISTORY].to_pylist(), strict=True)
    )
    # Events of one moment stay on one side.
    assert len(rows_of(read([(1, item, item // 3) for item in range(9)], time="t", split="time:0.5"))) == 3


def test_last_one_holds_out_the_last_new_item_of_each_user() -> None:
    events = made_events()
    rows = read(events, time="t", split="last-one")
    known = histories_of(rows)
    assert known == {user: items[:-1] for user, items in by_user(events).items()}
    test = asked(events, known, time="t", split="last-one")
    assert test == {user: (items[:-1], items[-1:]) for user, items in by_user(events).items()}
    few = read([(1, 5, 0), (2, 6, 0), (2, 7, 1), (2, 8, 2)], time="t", split="last-one")
    assert histories_of(few) == {1: [5], 2: [6, 7]}


def asked(events: Any, known: dict[Any, list[Any]], *, same: bool = False, **given: Any) -> dict[Any, Any]:
    """User → (history, next) that a run with these histories is asked."""
    columns = dict(zip(("u", "i", "t", "w"), map(list, zip(*events, strict=True)), strict=False))
    table = pa.table({USER: list(known), HISTORY: list(known.values())})
    frame = held_out_rows(resolve(pa.table(columns)), section(**given), table, seed=3, same=same)
    return {row[USER]: (row[HISTORY] or [], row[NEXT]) for row in frame.table.to_pylist()}


def test_pairs_in_training_are_counted_and_no_test_asks_for_them() -> None:
    events = [(1, 5, 0), (1, 6, 1), (2, 6, 2), (1, 5, 8), (1, 7, 9), (3, 9, 9)]
    rows = read(events, time="t", split="time:0.5")
    assert "1 held-out event of pairs in training, which no test asks for" in rows.sentences
    assert "1 user only among the held-out events" in rows.sentences
    assert "2 items only among the held-out events" in rows.sentences
    known = {1: [5, 6], 2: [6]}
    assert asked(events, known) == {1: ([5, 6], [7]), 3: ([], [9])}
    again = {"repeat": True, "split": "time:0.5", "time": "t"}
    assert asked(events, known, same=True, **again) == {1: ([5, 6], [5, 7]), 3: ([], [9])}
    with pytest.raises(DataError, match="every pair of user and item stands in training"):
        asked(events[:3], known)


def test_a_random_split_with_times_is_warned_of() -> None:
    rows = read(made_events(), time="t", split="random:0.9")
    assert any(sentence.startswith("warning: split random:0.9 shows") for sentence in rows.sentences)
    assert not any("warning" in sentence for sentence in read(made_events(), split="random:0.9").sentences)
    assert any("in their order" in s for s in read(made_events(), split="last-one").sentences)


def test_repeated_events_and_weights_that_add_up_to_nothing() -> None:
    events = [(1, 5, 0, 1.0), (1, 5, 1, -1.0), (1, 6, 2, 0.0), (1, 7, 3, 2.0), (1, 7, 4, -1.0)]
    events.append((1, 8, 5, 0.5))
    rows = read(events, time="t", weight="w")
    assert rows.table[HISTORY].to_pylist() == [[7, 8]]
    assert {"2 events of an item that the user has already had"} < set(rows.sentences)
    assert "2 pairs of user and item without a weight above 0" in rows.sentences
    repeated = read(events, time="t", weight="w", repeat=True)
    assert repeated.table[HISTORY].to_pylist() == [[5, 7, 8]]
    with pytest.raises(DataError, match="no weight in column 'w' is above 0"):
        read(events[:3], weight="w")


@pytest.mark.parametrize(
    ("users", "items"),
    [
        (["a", "b"], ["x", "tea, green"]),
        ([1, 2], ["007", "7"]),
        ([2**62, -1], [2**40, 3]),
        ([1.5, 2.0], [0.25, 7.0]),
        ([True, False], [date(2024, 2, 29), date(1970, 1, 1)]),
    ],
)
def test_ids_of_any_type_come_back_as_they_were(users: list[Any], items: list[Any]) -> None:
    rows = read([(user, item) for user in users for item in items])
    assert histories_of(rows) == dict.fromkeys(users, items)
    assert asked([(users[0], items[1])], dict(zip(users, [[item] for item in items], strict=True))) == {
        users[0]: ([items[0]], [items[1]])
    }


def test_ids_of_another_type_than_in_training_are_strangers() -> None:
    assert asked([("a", 7), ("2", 8)], {1: [5], 2: [6]}) == {"a": ([], [7]), "2": ([6], [8])}


def test_files_of_any_format_with_times_as_dates(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("u,i,t\n1,b,2024-01-02\n1,a,2024-01-01 23:00\n", encoding="utf-8")
    rows = history_rows([path], section(time="t"), seed=0)
    assert rows.table.to_pylist() == [{USER: 1, HISTORY: ["a", "b"]}]


MISTAKES = {
    "no column 'uu'; did you mean 'u'": ({"u": [1], "i": [2]}, {"user": "uu"}),
    "choose one of \\['u', 'i'\\]": ({"u": [1], "i": [2]}, {"user": "customer"}),
    "columns of their own": ({"u": [1], "i": [2]}, {"item": "u"}),
    "'i' holds lists": ({"u": [1], "i": [[2]]}, {}),
    "'u' holds lists": ({"u": [[1]], "i": [2]}, {}),
    "'t' must hold times": ({"u": [1], "i": [2], "t": ["soon"]}, {"time": "t"}),
    "1 event without a value in column 'u', the first in row 1": ({"u": ["a", None], "i": [2, 3]}, {}),
    "the label is missing": ({"u": ["a", "b"], "i": [2, None]}, {}),
    "needs times": ({"u": [1], "i": [2]}, {"split": "time:0.9"}),
    "a split is": ({"u": [1], "i": [2]}, {"split": "time:1.5"}),
    "no user has two items": ({"u": [1, 2, 2], "i": [3, 3, 3]}, {}),
    "leaves no event": ({"u": [1], "i": [2], "t": [3]}, {"split": "time:0.5", "time": "t"}),
}


@pytest.mark.parametrize("sentence", MISTAKES)
def test_a_mistake_is_told_in_a_sentence(sentence: str) -> None:
    columns, given = MISTAKES[sentence]
    with pytest.raises((DataError, UsageError), match=sentence):
        history_rows(resolve(pa.table(columns)), section(**given), seed=0)


def test_bad_events_can_be_dropped() -> None:
    table = pa.table({"u": ["a", None, "b"], "i": [2, 3, None]})
    table = pa.concat_tables([table, pa.table({"u": ["a"], "i": [4]})])
    rows = history_rows(resolve(table), section(drop_bad=True), seed=0)
    assert histories_of(rows) == {"a": [2, 4]}
    assert rows.sentences[0] == "2 events of 1 user and 2 items, 2 bad ones dropped"


def test_the_fingerprint_changes_with_the_events() -> None:
    prints = {
        b"".join(rows.fingerprint(rows))
        for rows in (read(made_events(), time="t"), read(made_events()), read(made_events(seed=1)))
    }
    assert len(prints) == 3
    assert b"".join(read(made_events()).fingerprint(None)) in prints


def test_usual_names_are_recognized() -> None:
    assert EventColumns.recognized(["text", "label"]) is None
    assert EventColumns.recognized(["user_id", "parent_asin", "stars"]) is None
    found = EventColumns.recognized(["Customer ID", "product_id", "quantity", "Date"])
    assert found == EventColumns("Customer ID", "product_id", "Date")
    assert found.options == "--user 'Customer ID' --item product_id --time Date --split time:0.9"

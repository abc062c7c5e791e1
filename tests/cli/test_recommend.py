"""From a file of events to recommendations on the command line."""

import csv
import io
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from widemax import Config, Model, train


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 users who take the items of one of two groups, in no order."""
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("events") / "events.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "product_id", "timestamp"])
        for _ in range(700):
            user = rng.randrange(40)
            item = f"{'tea, green' if user % 2 else 'ink'} {rng.randrange(15)}"
            rows.writerow([user, item, rng.randrange(10**6)])
    return path


COLUMNS = ("--user", "user_id", "--item", "product_id", "--time", "timestamp")


@pytest.fixture(scope="module")
def run(events: Path) -> Path:
    run = events.parent / "run"
    named = dict(zip(("user", "item", "time"), COLUMNS[1::2], strict=True))
    train(Config(data={"train": events, **named, "split": "time:0.9"}, output={"dir": run}))
    return run


def test_events_are_recognized(widemax, events: Path, tmp_path: Path) -> None:
    command = f"widemax train {events} {' '.join(COLUMNS)} --split time:0.9 --out run"
    checked = widemax("check", events)
    assert (checked.code, command in checked.out) == (0, True)
    assert "700 events of 40 users and 30 items" in checked.out
    assert command in "".join(json.loads(widemax("check", events, "--json").out)["notes"])
    config = tmp_path / "events.toml"
    assert command in widemax("init", events, "-o", config).out
    trained = widemax("train", config, "--out", tmp_path / "run")
    assert trained.code == 0, trained.err
    assert f"next: widemax recommend {tmp_path / 'run'} --user" in trained.out
    failed = widemax("train", events, "--out", tmp_path / "other")
    assert failed.code == 2
    assert "--user user_id --item product_id --time timestamp" in failed.err
    # With a target, they are rows as any others.
    assert "events of" not in widemax("check", events, "--target", "product_id").out


def test_tables_say_what_items_and_users_are(widemax, events: Path, tmp_path: Path) -> None:
    items, users, run = tmp_path / "items.csv", tmp_path / "users.csv", tmp_path / "run"
    rows = [f'"tea, green {n}",leaf\nink {n},bottle\n' for n in range(15)]
    new = 'brick,stone\n"tea, green new",leaf\nink new,bottle\n'
    items.write_text("product_id,kind\n" + "".join(rows) + new, encoding="utf-8")
    users.write_text("user_id,likes\n" + "".join(f"{u},{'tea' if u % 2 else 'ink'}\n" for u in range(44)))
    tables = ("--items", items, "--users", users)
    told = widemax("check", events, *tables).out
    assert f"--items {items} --users {users} --out run" in told
    assert "44 users described by likes, 4 of them without events" in told
    assert (
        "33 items described by kind; 2 without events learned from those most like them, 1 like none" in told
    )
    config = tmp_path / "events.toml"
    assert widemax("init", events, *tables, "-o", config).code == 0
    assert widemax("train", config, "--out", run).code == 0
    assert "likes (ids)" in repr(Model.load(run))

    def best(*options: Any) -> list[str]:
        lines = widemax("recommend", run, *options).out.splitlines()
        return [json.loads(line)["predictions"][0]["label"] for line in lines]

    both = tmp_path / "new.csv"
    both.write_text('product_id\n"tea, green new"\nink new\n', encoding="utf-8")
    # Items and users without events, by their columns alone.
    assert best("--user", "1,2", "--only", both) == ["tea, green new", "ink new"]
    assert [label[:3] for label in best("--user", "41,42")] == ["tea", "ink"]
    assert best("--history", "tea, green new")[0].startswith("tea")
    values = json.loads(widemax("evaluate", run, events, "--json").out)
    assert values["ndcg@20"] > values["baseline"]["ndcg@20"]
    refused = widemax("train", events, *COLUMNS, "--users", items, "--out", tmp_path / "other")
    assert refused.code == 2
    assert "'user_id'" in refused.err
    refused = widemax("train", events, "--target", "product_id", "--users", users)
    assert "data.users is of events, which need data.user and data.item" in refused.err


def test_the_split_is_evaluated(widemax, run: Path, events: Path) -> None:
    values = json.loads(widemax("evaluate", run, events, "--json").out)
    assert values["mrr"] > 1.5 * values["baseline"]["mrr"]
    assert (run / "report-events.csv.html").is_file()


def test_users_strangers_and_files_of_users(widemax, run: Path, events: Path, tmp_path: Path) -> None:
    two = widemax("recommend", run, "--user", "3,1000", "-k", 4)
    lines = [json.loads(line) for line in two.out.splitlines()]
    assert [(line["row"], line["user"], line["known"]) for line in lines] == [(0, 3, True), (1, 1000, False)]
    assert all(len(line["predictions"]) == 4 for line in lines)
    assert {p["label"][:3] for p in lines[0]["predictions"]} == {"tea"}
    assert "user 1000 is not among the 40 of the run" in two.err
    assert "What is popular is answered." in two.err
    users = tmp_path / "users.csv"
    users.write_text("user_id\n3\nnobody\n" + "x\n" * 9, encoding="utf-8")
    many = widemax("recommend", run, users, "-k", 4)
    answers = [json.loads(line) for line in many.out.splitlines()]
    assert answers[0] == lines[0]
    assert [answer["known"] for answer in answers] == [True] + [False] * 10
    assert many.err.count("is not among") == 5
    assert "10 of 11 users are not of the run" in many.err
    assert json.loads(widemax("recommend", run, users, "-k", 4, "--json").out)["rows"] == answers
    table = widemax("recommend", run, events, "-k", 1, "--format", "csv").out.splitlines()
    assert table[0] == "row,user,label,probability,logit"
    assert len(table) == 701


def test_histories_and_filters(widemax, run: Path, tmp_path: Path) -> None:
    def items(*arguments: object) -> list[str]:
        result = widemax("recommend", run, *arguments)
        assert result.code == 0, result.err
        return [p["label"] for p in json.loads(result.out)["predictions"]]

    history = ("--history", "ink 1,ink 2", "-k", 5)
    best = items(*history)
    assert not {"ink 1", "ink 2"} & set(best)
    assert items("--history", "ink 1", "--history", "ink 2", "-k", 5) == best
    assert items(*history, "--exclude", best[0]) != best
    assert items(*history, "--only", f"{best[3]},{best[1]}") == [best[1], best[3]]
    assert items("--history", "ink 1", "--include-seen", "--only", "ink 1") == ["ink 1"]
    # An item whose name has a comma stands alone.
    assert items("--history", "ink 1", "--only", "tea, green 3") == ["tea, green 3"]
    sold_out = tmp_path / "sold-out.csv"
    sold_out.write_text(f"product_id,left\n{best[0]},0\nnew,0\n", encoding="utf-8")
    assert best[0] not in items(*history, "--exclude", sold_out)
    told = widemax("recommend", run, *history, "--exclude", sold_out).err
    assert "the run does not know 1 of 2 items" in told
    assert '"history": ["ink 1", "ink 2"]' in widemax("recommend", run, *history).out
    table = widemax("recommend", run, *history, "--format", "table").out
    assert len(table.splitlines()) == 5


MISTAKES = {
    "one of them": (),
    "one of them.": ("--user", "3", "--history", "ink 1"),
    "item 'inc 1' is not among the 30 of the run; did you mean 'ink 1'?": ("--history", "inc 1"),
    "item 'bread' is not among": ("--user", "3", "--only", "bread"),
    "does not know 1 of 1 items; name items that it was trained on": ("--user", "3", "--only", "NEW"),
    "has no column 'user_id'; choose one of ['who', 'when']": ("USERS",),
}


@pytest.mark.parametrize("sentence", MISTAKES)
def test_a_mistake_is_told_in_a_sentence(widemax, run: Path, tmp_path: Path, sentence: str) -> None:
    files = {"NEW": tmp_path / "new.csv", "USERS": tmp_path / "users.csv"}
    files["NEW"].write_text("product_id\nbread\n", encoding="utf-8")
    files["USERS"].write_text("who,when\na,b\n", encoding="utf-8")
    result = widemax("recommend", run, *(files.get(word, word) for word in MISTAKES[sentence]))
    assert (result.code in (2, 3), result.out) == (True, "")
    assert sentence in result.err


def test_other_verbs_take_a_run_on_events(widemax, run: Path, events: Path, tmp_path: Path) -> None:
    small = widemax("export", run, "--out", tmp_path / "small")
    assert "on what its split held out" in small.out
    assert (
        widemax("recommend", tmp_path / "small", "--user", 3).out
        == widemax("recommend", run, "--user", 3).out
    )
    assert widemax("verify", run).code == 0
    named = ("--set", "data.user=user_id", "--set", "data.item=product_id")
    planned = json.loads(widemax("plan", events, *named, "--json").out)
    assert planned["named"] == "blend"
    predicted = widemax("predict", run, events)
    assert (predicted.code, predicted.out) == (2, "")
    assert f"{events} holds events; `widemax recommend {run} DATA` answers" in predicted.err
    whole = tmp_path / "whole"
    assert widemax("train", events, *COLUMNS, "--out", whole).code == 0
    assert "give --data EVENTS" in widemax("export", whole, "--out", tmp_path / "other").err
    later = tmp_path / "later.csv"
    later.write_text("user_id,product_id\n3,ink 3\n", encoding="utf-8")
    assert json.loads(widemax("evaluate", whole, later, "--json").out)["rows"] == 1


def test_neighbors(widemax, run: Path) -> None:
    result = json.loads(widemax("neighbors", run, "--item", "ink 3", "-k", 3, "--json").out)
    assert result["label"] == "ink 3"
    assert [near["label"][:3] for near in result["neighbors"]] == ["ink"] * 3
    assert widemax("neighbors", run, "ink 3", "-k", 3).out.count("\n") == 3
    for wrong in ((), ("ink 3", "--item", "ink 4")):
        assert widemax("neighbors", run, *wrong).code == 2
    assert "did you mean 'ink 3'" in widemax("neighbors", run, "inkk 3").err


@pytest.fixture(scope="module")
def clicks(events: Path) -> Path:
    """Later events of the same users, with the seconds that they stayed: more for higher numbers."""
    rng = random.Random(1)
    path = events.parent / "clicks.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["user_id", "product_id", "timestamp", "seconds"])
        for _ in range(400):
            user, number = rng.randrange(40), rng.randrange(15)
            item = f"{'tea, green' if user % 2 else 'ink'} {number}"
            rows.writerow([user, item, 10**6 + rng.randrange(10**6), 10 * number])
    return path


def test_a_catalogue_of_one_item(widemax, tmp_path: Path) -> None:
    events, run = tmp_path / "events.csv", tmp_path / "run"
    events.write_text("user,item\n" + "".join(f"{user % 9},tea\n" for user in range(30)), encoding="utf-8")
    asked = ("train", events, "--user", "user", "--item", "item", "--out", run)
    assert "no user has two items" in widemax(*asked).err
    assert widemax(*asked, "--set", "data.repeat=true").code == 0
    assert json.loads(widemax("recommend", run, "--user", 3).out)["predictions"][0]["label"] == "tea"
    alone = widemax("neighbors", run, "--item", "tea")
    assert (alone.code, alone.out, alone.err) == (0, "", "the run knows nothing beside 'tea'.\n")


def test_a_second_stage(widemax, run: Path, events: Path, clicks: Path, tmp_path: Path) -> None:
    columns = tmp_path / "items.csv"
    names = [f"{kind} {number}" for kind in ("tea, green", "ink") for number in range(15)]
    columns.write_text("product_id,number\n" + "".join(f'"{name}",{name.split()[-1]}\n' for name in names))
    ranker = tmp_path / "ranker"
    options = ("--watch-time", "seconds", "--items", columns, "--out", ranker)
    ranked = widemax("rank", run, clicks, *options)
    assert ranked.code == 0, ranked.err
    assert f"next: widemax recommend {run} --ranker {ranker} --user USER" in ranked.out
    assert "best possible order" in ranked.out
    answer = json.loads(widemax("recommend", run, "--ranker", ranker, "--user", 3, "-k", 4).out)
    assert all(p["probability"] > 0.5 for p in answer["predictions"])
    history = ("--history", "ink 1,ink 2", "-k", 5)
    assert json.loads(widemax("recommend", run, "--ranker", ranker, *history).out)["predictions"]
    verified = widemax("verify", ranker)
    assert verified.out.startswith(f"{ranker} is whole: 2 files")
    assert json.loads(widemax("verify", ranker, "--json").out)["files"] == 2
    again = widemax("rank", run, clicks, *options)
    assert (again.code, "is not empty" in again.err) == (2, True)
    assert "metrics" in json.loads(widemax("rank", run, clicks, *options, "--overwrite", "--json").out)
    leak = widemax("rank", run, events, "--out", tmp_path / "leak")
    assert "clicks in the time that the retriever was trained on" in leak.err
    no_ranker = widemax("recommend", run, "--ranker", run, "--user", 3)
    assert (no_ranker.code, "holds no ranker" in no_ranker.err) == (2, True)


def test_users_on_stdin(widemax, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(text: bytes, *options: object) -> tuple[int, list[dict[str, object]], str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        result = widemax("recommend", run, "-", "-k", 2, *options)
        return result.code, [json.loads(line) for line in result.out.splitlines()], result.err

    code, lines, _ = answers(b'3\n{"user_id": 3}\r\n\nnobody\n{"user_id": "5", "more": 1}')
    assert code == 0
    assert [(line["user"], line["known"]) for line in lines] == [
        (3, True),
        (3, True),
        ("nobody", False),
        (5, True),
    ]
    assert lines[0] | {"row": 1} == lines[1]
    bad = b'{"user_id": [3]}\n{"user": 3}\n{"user_id": NaN}\n{\ncaf\xe9\n3\n'
    code, lines, err = answers(bad)
    assert code == 3
    assert [line["row"] for line in lines] == list(range(6))
    assert all(str(line["error"]).startswith(f"stdin:{line['row'] + 1}: ") for line in lines[:5])
    assert lines[0]["error"] == "stdin:1: give one user as 'user_id'."
    assert lines[5]["user"] == 3
    assert "5 rows could not be read" in err
    code, lines, err = answers(bad, "--drop-bad")
    assert (code, len(lines), "dropped 5 bad rows" in err) == (0, 1, True)

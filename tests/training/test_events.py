"""A run on events: trained, evaluated on what a split held out, saved with the histories of its users."""

import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.damage import altered

from widemax import Config, Model, evaluate, train
from widemax.data import HISTORY, USER, resolve
from widemax.errors import ConfigError, CorruptError, DataError, UsageError
from widemax.storage import MANIFEST, sha256, signed
from widemax.training import prepare
from widemax.training.loop import resume
from widemax.training.prepare import of_events

COLUMNS = {"user": "who", "item": "what", "time": "when"}


def made_events(num: int = 1500) -> pa.Table:
    """60 users who take the items of their own group, at times in no order."""
    rng = random.Random(0)
    users = [rng.randrange(60) for _ in range(num)]
    items = [f"{['tea', 'ink', 'oil'][user % 3]} {rng.randrange(20)}" for user in users]
    return pa.table({"who": users, "what": items, "when": [rng.randrange(10**6) for _ in range(num)]})


def config(run: Path, events: Any = (), **data: Any) -> Config:
    return Config(data={"train": events, **COLUMNS, **data}, output={"dir": run})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("events")
    pq.write_table(made_events(), folder / "events.parquet")
    train(config(folder / "run", folder / "events.parquet", split="time:0.9"))
    return folder / "run"


def test_it_is_evaluated_on_what_the_split_held_out(run: Path) -> None:
    events = made_events().sort_by("when").to_pylist()
    first = events[1350]["when"]
    known: dict[int, set[str]] = {}
    for event in events:
        if event["when"] < first:
            known.setdefault(event["who"], set()).add(event["what"])
    pairs = {(e["who"], e["what"]) for e in events if e["when"] >= first}
    asked = {(who, what) for who, what in pairs if what not in known[who]}
    model = Model.load(run)
    found = dict(zip(*(model.user_histories[name].to_pylist() for name in (USER, HISTORY)), strict=True))
    assert {who: set(items) for who, items in found.items()} == known
    values = evaluate(model, run.parent / "events.parquet")
    assert values["rows"] == len({who for who, _ in asked})
    assert values["excluded_labels"] == values["unseen_labels"] == 0
    assert values["hr@10"] > 2 * values["baseline"]["hr@10"]
    later = pa.table({"who": [1, 10**6], "what": ["oil 3", "tea 1"], "when": [1, 2]})
    assert evaluate(model, later)["rows"] == 2
    with pytest.raises(DataError, match="every pair of user and item stands in training"):
        evaluate(
            model,
            made_events().filter(pa.array([when < first for when in made_events()["when"].to_pylist()])),
        )


def test_a_given_split_trains_on_all_events(tmp_path: Path) -> None:
    """So the run is one without a split, and any events may be those of the test."""
    path = tmp_path / "events.parquet"
    pq.write_table(made_events(), path)
    found = {}
    for split in ("given", None):
        settings = config(tmp_path / "run", path, split=split)
        found[split] = of_events(settings, [path], [])
    (given, (rows,), _), (without, (same,), _) = found.values()
    assert given == without
    assert given.data.split is None
    assert rows.table.equals(same.table)
    told = set(rows.sentences) - set(same.sentences)
    assert told == {"split given: nothing is held out; give the events of the test to `widemax evaluate`"}


def test_saved_and_loaded_it_keeps_its_histories(run: Path, tmp_path: Path) -> None:
    model = Model.load(run)
    model.save(tmp_path / "copy", precision="float16")
    assert Model.load(tmp_path / "copy").histories.equals(model.histories)
    assert "users    60 with their histories" in repr(model)
    assert not (run / "rows.parquet").exists()


ANOTHER = re.compile("bit flipped|reversed|user of (int64|double)")
"""What nobody can tell from histories of others."""


def loaded(run: Path) -> tuple[str | None, Any]:
    try:
        return None, Model.load(run).histories
    except CorruptError as error:
        return str(error), None


def test_damaged_histories_are_refused_by_name(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    path, manifest = tmp_path / "run" / "histories.parquet", tmp_path / "run" / MANIFEST
    facts, refused, right = json.loads(manifest.read_text()), 0, Model.load(run).histories
    for name, content in altered(path):
        path.write_bytes(content)
        facts["files"][path.name] = {"sha256": sha256(path), "bytes": path.stat().st_size}
        manifest.write_text(json.dumps(signed(facts)))
        error, histories = loaded(tmp_path / "run")
        refused += error is not None
        assert path.name in error if error else histories.equals(right) or ANOTHER.match(name), name
    assert refused > 10
    path.unlink()
    del facts["files"][path.name]
    manifest.write_text(json.dumps(signed(facts)))
    with pytest.raises(CorruptError, match=r"histories\.parquet"):
        Model.load(tmp_path / "run")


@pytest.mark.parametrize("split", [None, "last-one", "random:0.8"])
def test_events_in_memory_train_the_same_twice(split: str | None, tmp_path: Path) -> None:
    models = []
    for name in ("a", "b"):
        outcome = train(config(tmp_path / name, split=split), data=made_events(300).to_pandas())
        models.append(outcome.model.head.state_dict()["weight"])
    assert models[0].equal(models[1])
    assert resume(tmp_path / "b").metrics == outcome.metrics


def test_tables_in_memory_are_those_of_files(tmp_path: Path) -> None:
    """Also where the run goes on, for which they are given again."""
    items = pa.table({"what": ["tea 1", "tea 99"], "kind": ["tea", "tea"]})
    users = pa.table({"who": [1, 99], "likes": ["tea", "ink"]})
    found = {}
    for name in ("frames", "files"):
        pq.write_table(items, tmp_path / "items.parquet")
        pq.write_table(users, tmp_path / "users.parquet")
        tables: dict[str, Any] = {"items": items.to_pandas(), "users": users.to_pandas()}
        named = {} if name == "frames" else {key: [tmp_path / f"{key}.parquet"] for key in tables}
        given = tables if name == "frames" else {}
        outcome = train(config(tmp_path / name, **named), data=made_events(300), **given)
        assert "tea 99" in outcome.model.vocabulary.labels.to_pylist()
        assert 99 in outcome.model.histories[USER].to_pylist()
        found[name] = outcome.model.head.counts.weight
    assert found["frames"].equal(found["files"])
    assert resume(tmp_path / "frames").metrics
    with pytest.raises(ConfigError, match=r"data\.items is of events"):
        train(Config(data={"target": "what"}, output={"dir": tmp_path / "no"}), data=items, items=items)
    with pytest.raises(UsageError, match=r"data\.users in the config already names"):
        train(config(tmp_path / "twice", users=[tmp_path / "users.parquet"]), data=items, users=users)


def test_a_trained_head_and_items_that_return(tmp_path: Path) -> None:
    named = config(tmp_path / "run", repeat=True, split="time:0.8").model_dump()
    named |= {"head": {"kind": "sampled", "num_sampled": 16}, "train": {"epochs": 2}}
    outcome = train(Config(**named), data=made_events())
    assert not outcome.model.excludes_seen
    # Events in memory have no name by which they are known to be those of training.
    assert evaluate(outcome.model, made_events())["rows"] == 60


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"item": None}, "data.user is of events, which need data.user and data.item"),
        ({"user": None, "item": None}, "data.time is of events"),
        ({"target": "what"}, "leave input, target, task and valid out"),
        ({"task": "one"}, "leave input, target, task and valid out"),
        ({"valid": "events.csv"}, "there is no file events.csv"),
    ],
)
def test_what_does_not_go_with_events(data: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, DataError), match=sentence):
        train(config(tmp_path / "run", **data), data=made_events())


def in_turn(num_users: int = 200) -> pa.Table:
    """Users who take ten items in turn, each from another one on."""
    rows = [(user, (user + at) % 10, at) for user in range(num_users) for at in range(3 + user % 4)]
    return pa.table(dict(zip(COLUMNS.values(), map(list, zip(*rows, strict=True)), strict=True)))


def sequence_config(run: Path, events: Any = (), **train_options: Any) -> Config:
    return Config(
        data={"train": events, **COLUMNS, "split": "last-one"},
        encoder={"kind": "sequence", "dim": 8, "max_length": 4},
        train={"batch_size": 16, "learning_rate": 0.02, **train_options},
        output={"dir": run},
    )


def test_a_sequence_is_learned_at_every_position(tmp_path: Path) -> None:
    pq.write_table(in_turn(), tmp_path / "events.parquet")
    outcome = train(sequence_config(tmp_path / "run", tmp_path / "events.parquet", epochs=20))
    assert outcome.model.config.head.kind == "exact"
    values = evaluate(Model.load(tmp_path / "run"), tmp_path / "events.parquet")
    assert values["rows"] == 200
    assert values["mrr"] > 0.9  # what comes next follows from the last item alone
    assert outcome.model.vocabulary.counts.sum() == sum(2 + user % 4 for user in range(200))


def test_a_sequence_needs_an_order(tmp_path: Path) -> None:
    events = in_turn().drop_columns(["when"])
    with pytest.raises(ConfigError, match="order of events"):
        train(
            Config(
                data={"user": "who", "item": "what"},
                encoder={"kind": "sequence"},
                output={"dir": tmp_path / "run"},
            ),
            data=events,
        )


def test_how_much_is_trained_where_no_head_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    events = resolve(made_events())

    def chosen(**sections: Any) -> tuple[str, int]:
        section = {"data": COLUMNS, "output": {"dir": "run"}, **sections}
        completed, _, _ = of_events(Config(**section), events, [])
        return completed.head.kind, completed.train.epochs

    assert chosen() == ("blend", 4)
    assert chosen(train={"epochs": 5}) == ("blend", 5)
    assert chosen(head={"kind": "counts"}) == ("counts", 8)
    assert chosen(data={"user": "who", "item": "what"}) == ("blend", 4)
    monkeypatch.setattr(prepare, "TRAINED_EVENTS", 100)
    assert chosen() == ("blend", 1)
    monkeypatch.setattr(prepare, "BLENDED_EVENTS", 200)
    assert chosen() == ("counts", 1)

"""From made events with a planted taste and planted watch times to a ranker, saved, loaded and used."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from widemax import Config, Model, train
from widemax.errors import CorruptError, DataError, UsageError
from widemax.ranking import ListwiseSoftmax, Queries, Ranker, objectives, rank
from widemax.ranking.fit import Clicks, measured
from widemax.recommender import Recommender
from widemax.storage import MANIFEST

NUM_USERS, NUM_ITEMS, SPLIT = 150, 60, 10_000
MINUTES = {"short": 1.0, "song": 4.0, "film": 90.0}


def kind_of(item: int) -> str:
    return list(MINUTES)[item % 3]


def item_name(item: int) -> str:
    return f"video {item:02}"


def made_events(*, later: bool) -> pa.Table:
    """What users of two groups took before ``SPLIT`` or after, for about the minutes of its kind."""
    rng = random.Random(int(later))
    rows = []
    for _ in range(3000 if later else 1800):
        user = rng.randrange(NUM_USERS)
        item = 2 * rng.randrange(NUM_ITEMS // 2) + user % 2
        time = rng.randrange(1, SPLIT) + SPLIT * later
        rows.append((1000 + user, item_name(item), time, MINUTES[kind_of(item)] * rng.uniform(0.5, 1.5)))
    return pa.table(dict(zip(("who", "what", "when", "minutes"), zip(*rows, strict=True), strict=True)))


ITEMS = pa.table(
    {
        "what": [item_name(item) for item in range(NUM_ITEMS)],
        "kind": [kind_of(item) for item in range(NUM_ITEMS)],
    }
)
DATA = {"user": "who", "item": "what", "time": "when"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    run = tmp_path_factory.mktemp("run") / "run"
    train(Config(data=DATA, output={"dir": run}), data=made_events(later=False))
    return Model.load(run)


@pytest.fixture(scope="module")
def clicks() -> pa.Table:
    return made_events(later=True)


@pytest.fixture(scope="module")
def ranker(model: Model, clicks: pa.Table) -> Ranker:
    return rank(model, clicks, watch_time="minutes", candidates=40, items=ITEMS)


def test_the_odds_are_the_planted_watch_times(model: Model, ranker: Ranker, clicks: pa.Table) -> None:
    """Of each kind the mean odds of its candidates are the mean minutes that followed."""
    users = sorted(set(clicks["who"].to_pylist()))
    minutes: dict[tuple[int, str], float] = {}
    for click in clicks.to_pylist():
        minutes[click["who"], click["what"]] = (
            minutes.get((click["who"], click["what"]), 0) + click["minutes"]
        )
    odds: dict[str, list[float]] = {kind: [] for kind in MINUTES}
    watched: dict[str, list[float]] = {kind: [] for kind in MINUTES}
    answers = Recommender(model, k=40, ranker=ranker).users(users)
    for user, answer in zip(users, answers, strict=True):
        for prediction in answer:
            kind = kind_of(int(prediction.label[-2:]))
            odds[kind].append(prediction.probability / (1 - prediction.probability))
            watched[kind].append(minutes.get((user, prediction.label), 0.0))
    for kind in MINUTES:
        assert np.mean(odds[kind]) == pytest.approx(np.mean(watched[kind]), rel=0.03)
    assert np.mean(odds["film"]) > 10 * np.mean(odds["short"])
    assert ranker.metrics["expected"] == pytest.approx(ranker.metrics["observed"], rel=0.15)


@pytest.mark.parametrize("objective", objectives.names())
def test_the_order_gains_and_the_ceiling_stays_above(model: Model, clicks: pa.Table, objective: str) -> None:
    metrics = rank(
        model, clicks, watch_time="minutes", objective=objective, candidates=40, items=ITEMS
    ).metrics
    assert 1.2 * metrics["retriever_ndcg@20"] < metrics["ndcg@20"] < metrics["ceiling_ndcg@20"] <= 1
    assert 1.2 * metrics["retriever_value@20"] < metrics["value@20"] < metrics["ceiling_value@20"] <= 1
    assert metrics["queries"] == NUM_USERS // 5
    assert 0.9 < metrics["ceiling_recall"] <= 1


def test_fewer_candidates_lower_the_ceiling(model: Model, clicks: pa.Table) -> None:
    few = rank(model, clicks, candidates=8).metrics
    assert few["ceiling_recall"] < 0.5
    assert few["ndcg@20"] <= few["ceiling_ndcg@20"] < 0.9


def test_saved_and_loaded_it_answers_the_same(model: Model, ranker: Ranker, tmp_path: Path) -> None:
    ranker.save(tmp_path / "ranker")
    loaded = Ranker.load(tmp_path / "ranker")
    users = [1000, 1003, "nobody"]
    answers = Recommender(model, k=5, ranker=ranker).users(users)
    assert Recommender(model, k=5, ranker=loaded).users(users) == answers
    assert [len(answer) for answer in answers] == [5, 5, 5]
    assert loaded.metrics == ranker.metrics
    assert loaded.weights == ranker.weights
    assert "weighted_logistic" in repr(loaded)
    with pytest.raises(UsageError, match="is not empty"):
        ranker.save(tmp_path / "ranker")
    ranker.save(tmp_path / "ranker", overwrite=True)


def test_it_orders_the_candidates_and_no_others(model: Model, ranker: Ranker) -> None:
    before = Recommender(model, k=40).users([1000])[0]
    after = Recommender(model, k=40, ranker=ranker).users([1000])[0]
    assert {p.label for p in before} == {p.label for p in after}
    assert [p.logit for p in after] == sorted((p.logit for p in after), reverse=True)
    only = {p.label for p in before[10:14]}
    chosen = Recommender(model, k=9, only=[*only], ranker=ranker).users([1000])[0]
    assert {p.label for p in chosen} == only
    assert [p.logit for p in chosen] == sorted((p.logit for p in chosen), reverse=True)


@pytest.mark.parametrize("name", ["weights.safetensors", "items.parquet", MANIFEST])
def test_damage_is_refused(ranker: Ranker, tmp_path: Path, name: str) -> None:
    ranker.save(tmp_path / "ranker")
    content = bytearray((tmp_path / "ranker" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "ranker" / name).write_bytes(content)
    with pytest.raises(CorruptError, match=name):
        Ranker.load(tmp_path / "ranker")


def test_a_run_is_no_ranker_and_a_ranker_is_no_run(model: Model, ranker: Ranker, tmp_path: Path) -> None:
    ranker.save(tmp_path / "ranker")
    with pytest.raises(UsageError, match="holds a ranker; give a run"):
        Model.load(tmp_path / "ranker")
    model.save(tmp_path / "run")
    with pytest.raises(UsageError, match="holds no ranker"):
        Ranker.load(tmp_path / "run")
    with pytest.raises(UsageError, match="no folder"):
        Ranker.load(tmp_path / "absent")


def test_a_planted_leak_is_caught(model: Model, clicks: pa.Table) -> None:
    """Clicks that the retriever was trained on are refused, or left out and counted beside later ones."""
    early = made_events(later=False)
    until = max(early["when"].to_pylist())
    with pytest.raises(DataError, match=f"every click lies in the time .* up to {until}"):
        rank(model, early)
    told: list[str] = []
    mixed = rank(model, pa.concat_tables([clicks, early]), candidates=40, say=told.append)
    assert f"1,800 clicks in the time that the retriever was trained on, up to {until}, are left out" in told
    assert mixed.metrics == rank(model, clicks, candidates=40).metrics


@pytest.fixture(scope="module")
def timeless(tmp_path_factory: pytest.TempPathFactory) -> Model:
    config = Config(
        data={"user": "who", "item": "what"}, output={"dir": tmp_path_factory.mktemp("run") / "run"}
    )
    return train(config, data=made_events(later=False)).model


def test_without_times_pairs_are_left_out(timeless: Model, clicks: pa.Table) -> None:
    early = made_events(later=False)
    told: list[str] = []
    rank(timeless, pa.concat_tables([clicks, early]), candidates=40, say=told.append)
    num_pairs = len({*zip(early["who"].to_pylist(), early["what"].to_pylist(), strict=True)})
    assert f"{num_pairs:,} pairs of user and item in training, which are no candidates" in told
    assert "nobody can tell whether the clicks are later" in " ".join(told)
    with pytest.raises(DataError, match="every pair of user and item stands in training"):
        rank(timeless, early)


def test_order_duplicates_and_types_of_ids_do_not_matter(model: Model, clicks: pa.Table) -> None:
    """Clicks in any order, one cut into two halves, users as texts: the same ranker."""
    wanted = rank(model, clicks, watch_time="minutes", candidates=40)
    halves = clicks.set_column(3, "minutes", pa.compute.multiply(clicks["minutes"], 0.5))
    twice = pa.concat_tables([halves, halves]).take(np.random.default_rng(0).permutation(2 * len(clicks)))
    texts = twice.set_column(0, "who", twice["who"].cast(pa.string()))
    found = rank(model, texts, watch_time="minutes", candidates=40)
    assert found.metrics == pytest.approx(wanted.metrics)
    np.testing.assert_allclose(found.weight_F1, wanted.weight_F1, atol=1e-6)


def test_cold_users_and_items_are_counted_against_the_ceiling(model: Model, clicks: pa.Table) -> None:
    cold = pa.table({"who": range(90), "what": ["new"] * 90, "when": [3 * SPLIT] * 90, "minutes": [9.0] * 90})
    metrics = rank(model, pa.concat_tables([clicks, cold]), candidates=40, seed=1).metrics
    alone = rank(model, clicks, candidates=40, seed=1).metrics
    assert metrics["ceiling_recall"] < alone["ceiling_recall"]
    with pytest.raises(DataError, match="is among their 40 candidates"):
        rank(model, cold, candidates=40)


def test_columns_of_users(model: Model, clicks: pa.Table) -> None:
    """Who watches long is known by a column of users, of whom one is missing."""
    ages = {user: 20 + user % 50 for user in range(1000, 1000 + NUM_USERS - 1)}
    users = pa.table(
        {"who": list(ages), "age": list(ages.values()), "name": [f"n {user} x y" for user in ages]}
    )
    minutes = [100.0 if ages.get(user, 0) > 45 else 1.0 for user in clicks["who"].to_pylist()]
    told: list[str] = []
    ranker = rank(
        model,
        clicks.set_column(3, "minutes", [minutes]),
        watch_time="minutes",
        candidates=40,
        users=users,
        say=told.append,
    )
    assert ranker.weights["age"] + ranker.weights["log age"] > 0.5
    assert any("'name' is left out: text is no number and no category" in sentence for sentence in told)
    old, young = (Recommender(model, ranker=ranker).users([user])[0] for user in (1049, 1000))
    assert old[0].probability > young[0].probability


MISTAKES: dict[str, tuple[type[Exception], dict[str, Any]]] = {
    "has no column 'minuts'; did you mean 'minutes'": (UsageError, {"watch_time": "minuts"}),
    "unknown ranking objective 'lambdamart'": (UsageError, {"objective": "lambdamart"}),
    "option 'candidates' of rank must be a whole number of at least 2; got 1": (
        UsageError,
        {"candidates": 1},
    ),
    "no column 'what'": (UsageError, {"items": ITEMS.rename_columns(["item", "kind"])}),
    "a column of numbers, dates or categories": (UsageError, {"items": ITEMS.select(["what"])}),
    "what 'video 00' stands in 2 rows": (DataError, {"items": pa.concat_tables([ITEMS, ITEMS])}),
}


@pytest.mark.parametrize("sentence", MISTAKES)
def test_mistakes_are_told(model: Model, clicks: pa.Table, sentence: str) -> None:
    error, options = MISTAKES[sentence]
    with pytest.raises(error, match=sentence):
        rank(model, clicks, **options)


def test_watch_times_below_0_are_refused(model: Model, clicks: pa.Table) -> None:
    minutes = [-2.5, *clicks["minutes"].to_pylist()[1:]]
    with pytest.raises(DataError, match=r"'minutes' must hold numbers from 0 on; got -2\.5"):
        rank(model, clicks.set_column(3, "minutes", [minutes]), watch_time="minutes")


def test_what_has_no_users_or_no_times_is_not_ranked(timeless: Model, ranker: Ranker, tmp_path: Path) -> None:
    rows = pa.table({"past": [[1, 2], [2, 3]] * 40, "label": [3, 1] * 40})
    other = train(Config(train={"epochs": 1}, output={"dir": tmp_path / "run"}), data=rows).model
    with pytest.raises(UsageError, match="not trained on events"):
        rank(other, made_events(later=True))
    with pytest.raises(UsageError, match="asks how long ago items were taken"):
        Recommender(timeless, ranker=ranker).users([1000])


def test_its_files_are_named_by_the_manifest(ranker: Ranker, tmp_path: Path) -> None:
    ranker.save(tmp_path / "ranker")
    manifest = json.loads((tmp_path / "ranker" / MANIFEST).read_text())
    assert set(manifest["files"]) == {"weights.safetensors", "items.parquet"}
    shutil.rmtree(tmp_path / "ranker")


def test_what_is_measured_is_the_definition() -> None:
    """One user took the second candidate, worth 4, the other the first, worth 1, and a stranger, worth 3."""
    values, valid = np.array([[0.0, 4], [1, 0]]), np.ones((2, 2), bool)
    queries = Queries(np.array([[[1.0], [0.0]], [[1.0], [0.0]]]), values, valid)
    clicks = Clicks([1, 2], [[], []], np.array([0, 1, 1]), np.array([1, 0, -1]), np.array([4.0, 1, 3]))
    metrics = measured(ListwiseSoftmax(), np.array([-1.0, 0.0]), queries, clicks)
    second = 1 / np.log2(3)
    assert metrics == pytest.approx(
        {
            "queries": 2,
            "ceiling_recall": (1 + 1 / 2) / 2,
            "ndcg@20": (1 + second / (3 + second)) / 2,
            "value@20": (4 + second) / (4 + 3 + second),
            "retriever_ndcg@20": (second + 1 / (3 + second)) / 2,
            "retriever_value@20": (4 * second + 1) / (4 + 3 + second),
            "ceiling_ndcg@20": (1 + 1 / (3 + second)) / 2,
            "ceiling_value@20": (4 + 1) / (4 + 3 + second),
        }
    )

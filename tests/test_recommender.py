"""What is recommended is what a sort of all items would give, filters applied."""

import random
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from widemax import Config, Model, Prediction, train
from widemax.data import HISTORY, USER
from widemax.errors import UsageError
from widemax.recommender import Recommender, neighbors

NUM_USERS, NUM_ITEMS = 50, 24
HEADS = {"counts": {"kind": "counts"}, "sampled": {"kind": "sampled", "num_sampled": 8}}


def made_events() -> pa.Table:
    rng = random.Random(0)
    users = [rng.randrange(NUM_USERS) for _ in range(600)]
    items = [user % 2 + 2 * rng.randrange(NUM_ITEMS // 2) for user in users]
    return pa.table({"who": [f"u{user}" for user in users], "what": items})


@pytest.fixture(scope="module", params=HEADS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    run = tmp_path_factory.mktemp("run") / "run"
    data = {"user": "who", "item": "what", "split": "random:0.9"}
    config = Config(data=data, head=HEADS[request.param], train={"epochs": 3}, output={"dir": run})
    train(config, data=made_events())
    return Model.load(run)


def by_sorting(
    model: Model, history: list[int], *, seen: bool, only: list[int] | None, exclude: list[int]
) -> list[tuple[int, float]]:
    """All items that may be answered, by their logits, then by popularity."""
    hidden = model.hidden({HISTORY: pa.array([history], pa.large_list(pa.int64()))})
    with torch.no_grad():
        logits = model.head.logits(hidden)[0].tolist()
    labels = model.vocabulary.labels.to_pylist()
    allowed = [
        (-logit, class_id)
        for class_id, logit in enumerate(logits)
        if (seen or labels[class_id] not in history)
        and (only is None or labels[class_id] in only)
        and labels[class_id] not in exclude
    ]
    return [(labels[class_id], -logit) for logit, class_id in sorted(allowed)]


def labels_of(answers: list[list[Prediction]]) -> list[list[Any]]:
    return [[prediction.label for prediction in answer] for answer in answers]


ONLY, EXCLUDE = [3, 4, 5, 8, 11, 12, 20], [0, 4, 5, 9]


@pytest.mark.parametrize(
    ("seen", "only", "exclude"), list(product([False, True], [None, ONLY], [[], EXCLUDE]))
)
def test_the_best_items_are_those_of_a_sort(
    model: Model, seen: bool, only: list[int] | None, exclude: list[int]
) -> None:
    recommender = Recommender(model, k=6, include_seen=seen, only=only, exclude=exclude)
    known = {row[USER]: row[HISTORY] for row in model.user_histories.to_pylist()}
    users = [*sorted(known), "somebody else"]
    answers = recommender.users(users)
    assert labels_of(answers[-3:]) == labels_of([recommender.users([user])[0] for user in users[-3:]])
    histories = recommender.histories([known[user] for user in users[:-1]])
    assert labels_of(histories) == labels_of(answers[:-1])
    for user, answer in zip(users, answers, strict=True):
        wanted = by_sorting(model, known.get(user, []), seen=seen, only=only, exclude=exclude)[:6]
        assert [p.label for p in answer] == [label for label, _ in wanted]
        assert [p.logit for p in answer] == pytest.approx([logit for _, logit in wanted], abs=1e-4)
    whole = Recommender(model, k=NUM_ITEMS, include_seen=True).users(["u1"])[0]
    assert sum(p.probability for p in whole) == pytest.approx(1, abs=1e-3)


def test_strangers_are_given_what_is_popular(model: Model) -> None:
    recommender = Recommender(model, k=NUM_ITEMS)
    (answer,) = recommender.users(["nobody"])
    labels = model.vocabulary.decode(range(len(model.vocabulary)))
    if model.config.head.kind == "counts":
        assert [p.label for p in answer] == labels
    assert recommender.strangers(["u1", "u1x"]) == {
        1: f"user 'u1x' is not among the {len(model.histories)} of the run; did you mean 'u1'? "
        "What is popular is answered."
    }


def test_texts_stand_for_numbers(model: Model) -> None:
    recommender = Recommender(model, k=3, exclude=["4"])
    assert recommender.histories([["3", "5"]]) == recommender.histories([[3, 5]])
    with pytest.raises(UsageError, match=r"item '3\.5' is not among the 24 of the run"):
        recommender.histories([["3.5"]])
    with pytest.raises(UsageError, match="item 'tea' is not among the 24 of the run; such as"):
        Recommender(model, only=["tea"])


def test_neighbors_are_of_the_same_group(model: Model) -> None:
    found = neighbors(model, 4, k=5)
    assert len(found) == 5
    assert all(label % 2 == 0 and label != 4 for label, _ in found)
    assert [value for _, value in found] == sorted((value for _, value in found), reverse=True)
    assert len(neighbors(model, "4", k=10 * NUM_ITEMS)) == NUM_ITEMS - 1
    if model.config.head.kind == "counts":
        answers = Recommender(model, k=5).histories([[4]])[0]
        assert found == [(p.label, p.probability) for p in answers]
    else:
        weights = model.head.state_dict()["weight"]
        at = model.vocabulary.encode(pa.array([4, found[0][0]]))
        cosine = torch.cosine_similarity(weights[at[0]], weights[at[1]], dim=0)
        assert found[0][1] == pytest.approx(float(cosine), abs=1e-5)


def test_items_return_where_the_run_says_so(tmp_path: Path) -> None:
    data: dict[str, Any] = {"user": "who", "item": "what", "repeat": True}
    model = train(Config(data=data, output={"dir": tmp_path / "run"}), data=made_events()).model
    assert {p.label for p in Recommender(model, k=3).histories([[2, 4]])[0]} & {2, 4}
    assert not {p.label for p in Recommender(model, include_seen=False).histories([[2, 4]])[0]} & {2, 4}


def test_what_a_run_cannot_answer(tmp_path: Path) -> None:
    table = pa.table({"text": ["a b", "c d"] * 40, "label": ["x", "y"] * 40})
    rows = pa.table({"past": [[1, 2], [2, 3]] * 40, "label": [3, 1] * 40})
    text, past = (
        train(Config(train={"epochs": 1}, output={"dir": tmp_path / name}), data=data).model
        for name, data in (("text", table), ("past", rows))
    )
    with pytest.raises(UsageError, match=r"about the columns \['text'\], not about histories"):
        Recommender(text)
    with pytest.raises(UsageError, match="knows no users; give a history"):
        Recommender(past).users([1])
    assert labels_of(Recommender(past).histories([[1]])) == [[3]]
    assert {label for label, _ in neighbors(text, "x")} == {"y"}


@pytest.mark.parametrize("dim", [4, "classes"])
def test_classes_of_texts_are_near_by_their_weights_of_ngrams(tmp_path: Path, dim: int | str) -> None:
    """Also where the head is the identity, in whose rows nothing is near."""
    words = ["tea cup", "tea pot", "red ink", "blue ink"]
    table = pa.table(
        {"text": [f"{word} {n}" for word in words for n in range(20)], "label": np.repeat(words, 20)}
    )
    encoder = {} if dim == "classes" else {"encoder": {"kind": "text", "dim": dim}}
    model = train(Config(train={"epochs": 3}, output={"dir": tmp_path / "run"}, **encoder), data=table).model
    weight_FC = model.encoder.table @ model.head.weight.T
    own = model.vocabulary.encode(pa.array(["tea cup"]))[0]
    cosines = torch.nn.functional.cosine_similarity(weight_FC[:, [own]], weight_FC, dim=0)
    found = dict(neighbors(model, "tea cup", k=3))
    expected = dict(zip(model.vocabulary.decode(np.arange(4)), cosines.tolist(), strict=True))
    assert found == pytest.approx({label: expected[label] for label in words[1:]}, abs=1e-4)
    assert max(map(abs, found.values())) > 0.01

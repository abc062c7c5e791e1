"""What stands beside the metrics of a run on events."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from widemax import Config, Model, evaluate, train
from widemax.data import HISTORY
from widemax.heads import SeveralLabels
from widemax.training.beside import indicators, item_knn


def made_events(num: int, *, seed: int) -> pa.Table:
    rng = random.Random(seed)
    users = [rng.randrange(40) for _ in range(num)]
    items = [user % 3 + 3 * min(int(rng.expovariate(0.2)), 14) for user in users]
    return pa.table({"who": users, "what": items})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    config = Config(
        data={"user": "who", "item": "what"}, output={"dir": tmp_path_factory.mktemp("a") / "run"}
    )
    return train(config, data=made_events(500, seed=0)).model


def test_item_knn_ranks_by_the_sum_of_cosines(model: Model) -> None:
    histories, num_items = model.histories[HISTORY].to_pylist(), len(model.vocabulary)
    users_UC = np.zeros((len(histories), num_items))
    for user, ids in enumerate(histories):
        users_UC[user, ids] = 1
    lengths_C = np.sqrt(users_UC.sum(0))
    cosine_CC = users_UC.T @ users_UC / np.outer(lengths_C, lengths_C)
    np.fill_diagonal(cosine_CC, 0)
    scores_UC = users_UC @ cosine_CC
    offsets = torch.tensor([0, *np.cumsum(list(map(len, histories)))])
    seen = SeveralLabels(torch.tensor([i for ids in histories for i in ids]), offsets)
    topk = item_knn(model).topk(indicators(seen, num_items), 5, exclude=seen)
    for user, ids in enumerate(histories):
        scores_UC[user, ids] = -1
        best = np.sort(scores_UC[user])[::-1][:5]
        assert scores_UC[user, topk.class_ids[user].numpy()] == pytest.approx(best, rel=1e-4)


def test_evaluation_tells_of_item_knn_and_of_groups(model: Model, tmp_path: Path) -> None:
    values = evaluate(model, made_events(300, seed=1))
    assert values["item_knn"].keys() == values["baseline"].keys() | {"unseen_labels", "excluded_labels"}
    assert values["item_knn"]["mrr"] > values["baseline"]["mrr"]
    labels = {by: sum(group["labels"] for group in values[f"by_{by}"]) for by in ("history", "popularity")}
    assert labels["history"] == labels["popularity"] + values["unseen_labels"] > 50
    config = Config(data={"user": "who", "item": "what", "repeat": True}, output={"dir": tmp_path / "run"})
    again = evaluate(train(config, data=made_events(500, seed=0)).model, made_events(300, seed=1))
    assert "item_knn" not in again
    assert again["by_history"] == []

"""Batches of each kind are answered in their kind, with what the model answers."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from widemax import Config, Model, Predictor, train
from widemax.errors import ArgumentError, ConfigError, DataError, UsageError

TEXTS = ["a cup of tea", "a pot of ink", "iced tea", "red ink", "hot coffee"]
USES = ["drink", "write", "drink", "write", "drink"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predictor") / "run"
    config = Config(data={"target": "use"}, encoder={"dim": 8}, train={"epochs": 2}, output={"dir": folder})
    train(config, data=pa.table({"text": TEXTS * 20, "use": USES * 20}))
    return folder


@pytest.mark.parametrize(
    "batch",
    [
        {"text": np.array(TEXTS), "row": np.arange(5)},
        {"text": TEXTS, "row": list(range(5))},
        pd.DataFrame({"text": TEXTS, "row": range(5)}, index=[7, 3, 5, 1, 2]),
        pa.table({"text": TEXTS, "row": range(5)}),
    ],
    ids=["arrays", "lists", "pandas", "arrow"],
)
def test_every_kind_of_batch_comes_back_with_its_answers(run: Path, batch: Any) -> None:
    answered = Predictor(run, device="cpu")(batch)
    assert type(answered) is type(batch)
    assert list(answered["row"]) == list(batch["row"])
    expected = [row[0] for row in Model.load(run).predict(TEXTS, k=1)]
    labels, probabilities = (
        column.to_pylist() if hasattr(column, "to_pylist") else list(column)
        for column in (answered["predicted_label"], answered["predicted_probability"])
    )
    assert labels == [answer.label for answer in expected] == USES
    np.testing.assert_allclose(probabilities, [answer.probability for answer in expected], rtol=1e-6)


def test_several_labels_are_lists(run: Path) -> None:
    answered = Predictor(run, k=2)({"text": np.array(TEXTS)})
    assert [len(row) for row in answered["predicted_labels"]] == [2] * 5
    assert answered["predicted_labels"][1] == ["write", "drink"]
    assert sum(answered["predicted_probabilities"][0]) == pytest.approx(1, abs=1e-5)


def test_frames_of_a_partition_are_answered_one_by_one(run: Path) -> None:
    """As in Spark's mapInPandas; an empty partition has the columns too."""
    frames = (pd.DataFrame({"text": texts}, dtype=object) for texts in (TEXTS[:2], [], TEXTS[2:]))
    first, empty, last = map(Predictor(run), frames)
    assert [*first["predicted_label"], *last["predicted_label"]] == USES
    assert list(empty.columns) == ["text", "predicted_label", "predicted_probability"]


def test_vectors_are_rows_of_a_matrix(tmp_path: Path) -> None:
    vectors = np.repeat(np.eye(4, dtype=np.float32), 20, axis=0)
    rows = pa.table(
        {
            "x": pa.FixedSizeListArray.from_arrays(vectors.ravel(), 4),
            "y": ["abcd"[i // 20] for i in range(80)],
        }
    )
    train(Config(data={"target": "y"}, train={"epochs": 4}, output={"dir": tmp_path / "run"}), data=rows)
    answered = Predictor(tmp_path / "run")({"x": vectors[::20]})
    assert list(answered["predicted_label"]) == list("abcd")


def test_what_is_wrong_is_said(run: Path, tmp_path: Path) -> None:
    answer = Predictor(run)
    with pytest.raises(
        ArgumentError, match="a batch must be a mapping of columns, a frame of pandas or a pya"
    ):
        answer(TEXTS)
    with pytest.raises(ArgumentError, match="equally long columns"):
        answer({"text": TEXTS, "row": [1]})
    with pytest.raises(DataError, match="no column 'text'; did you mean 'txt'"):
        answer({"txt": TEXTS})
    with pytest.raises(UsageError, match=r"the batch has columns \['predicted_label'\] already"):
        answer({"text": TEXTS, "predicted_label": TEXTS})
    with pytest.raises(UsageError, match="there is no folder"):
        Predictor(tmp_path / "nothing")
    with pytest.raises(UsageError, match="a threshold is fitted for rows with several labels"):
        Predictor(run, threshold="auto")


def test_a_worker_without_the_device_says_so(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match="device is 'cuda', but torch"):
        Predictor(run, device="cuda")


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("ray"), reason="no Ray: pip install 'widemax[ray]'")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning")
def test_ray_data_answers_over_actors(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # it would leave a token in the home folder
    monkeypatch.setenv("RAY_worker_niceness", "0")  # a busy machine would hardly run its workers
    import ray

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        rows = ray.data.from_arrow(pa.table({"text": TEXTS * 4, "row": range(20)}))
        workers = ray.data.ActorPoolStrategy(size=1)
        answered = rows.map_batches(
            Predictor, fn_constructor_args=(str(run),), batch_size=5, compute=workers
        ).to_pandas()
    finally:
        ray.shutdown()
    assert answered.sort_values("row")["predicted_label"].tolist() == USES * 4

"""Class weights made of a table of classes, from training to more classes, by the names alone."""

import random
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pytest
import torch

from widemax import Config, Model, evaluate
from widemax.encoders import to_tensors
from widemax.errors import ConfigError, CorruptError, DataError, UsageError
from widemax.heads import LinearHead
from widemax.training import runs
from widemax.training.loop import resume, train
from widemax.training.runs import Outcome

COLORS, THINGS = ("red", "blue", "green", "black", "white"), ("tea", "ink", "car", "hat", "dog", "cup")
NAMES = {f"{n}{c}{t}": f"{c} {t}" for n, (c, t) in enumerate((c, t) for c in COLORS for t in THINGS)}
UNSEEN = list(NAMES)[::7]
"""Classes that no training row has."""
COUNTS = {"kind": "counts"}
SAMPLED = {"kind": "sampled", "num_sampled": 12, "sampler": "uniform"}


def rows(labels: list[str], each: int) -> pa.Table:
    """Texts with the names of their labels' classes in them."""
    pairs = [(f"there is a {NAMES[label]} there", label) for label in labels for _ in range(each)]
    random.Random(0).shuffle(pairs)
    texts, ids = zip(*pairs, strict=True)
    return pa.table({"text": texts, "label": ids})


SEEN = rows([label for label in NAMES if label not in UNSEEN], 16)
TABLE = pa.table({"label": list(NAMES), "name": list(NAMES.values())})


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., Outcome]:
    def run(name: str = "run", rows: Any = SEEN, table: Any = TABLE, **sections: Any) -> Outcome:
        sections = {"head": {"kind": "exact"}, "train": {"epochs": 4}, **sections}
        config = Config(
            data={"target": "label", **sections.pop("data", {})},
            encoder={
                "char_ngrams": (),
                **({} if sections["head"].get("kind") == "counts" else {"dim": 32, "dropout": 0.2}),
            },
            output={"dir": tmp_path / name},
            **sections,
        )
        return train(config, data=rows, classes=table)

    return run


def weights(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "weights").iterdir()}


@pytest.mark.parametrize("head", [{"kind": "exact"}, SAMPLED], ids=["exact", "sampled"])
def test_classes_without_rows_are_found_by_their_names(
    trained: Callable[..., Outcome], head: dict[str, Any]
) -> None:
    outcome = trained(head=head)
    model = Model.load(outcome.run)
    assert len(model.vocabulary) == len(NAMES)
    assert "tower" in repr(model)
    found = evaluate(model, rows(UNSEEN, 1))
    assert found["unseen_labels"] == 0
    assert found["top5"] == 1.0
    assert found["accuracy"] > 0.5
    assert evaluate(model, SEEN)["accuracy"] > 0.95
    assert model.predict(SEEN) == outcome.model.predict(SEEN)
    # What is saved is an ordinary head.
    assert isinstance(model.head, LinearHead)
    assert model.head.tower is None
    assert set(model.head.state_dict()) == {"weight", "bias", "calibration_temperature"}


def test_extending_by_name_is_encoding_it_and_what_training_does(trained: Callable[..., Outcome]) -> None:
    known = TABLE.filter(pa.array([label not in UNSEEN for label in NAMES]))
    smaller = trained("smaller", table=known).model
    whole = trained("whole").model
    larger = smaller.extend(TABLE)
    assert len(smaller.vocabulary) == len(known)
    assert larger.vocabulary.labels.to_pylist() == whole.vocabulary.labels.to_pylist()
    for name, tensor in whole.head.state_dict().items():
        assert torch.equal(larger.head.state_dict()[name], tensor)
    names = pa.array([NAMES[label] for label in UNSEEN], pa.large_string())
    encoder = smaller.tower.encoder
    expected = encoder(to_tensors(encoder.encode({"name": names})))
    assert torch.equal(larger.head.weight[len(known) :], expected)
    with pytest.raises(UsageError, match="all 30 labels of the table are classes of the model already"):
        larger.extend(TABLE)
    with pytest.raises(DataError, match="no column 'name'"):
        smaller.extend(TABLE.rename_columns(["label", "title"]))


def test_labels_are_their_own_names_where_there_is_no_table(
    trained: Callable[..., Outcome], tmp_path: Path
) -> None:
    named = SEEN.set_column(1, "label", pa.array([NAMES[label] for label in SEEN["label"].to_pylist()]))
    model = trained(rows=named, table=None, head={"kind": "exact", "weight": "tower"}).model
    pyarrow.csv.write_csv(pa.table({"label": [NAMES[label] for label in UNSEEN]}), tmp_path / "new.csv")
    larger = model.extend(tmp_path / "new.csv")
    larger.save(tmp_path / "larger")
    unseen = rows(UNSEEN, 1)
    unseen = unseen.set_column(1, "label", pa.array([NAMES[label] for label in unseen["label"].to_pylist()]))
    assert evaluate(Model.load(tmp_path / "larger"), unseen)["top5"] == 1.0


def test_a_table_shares_a_class_with_the_rows_at_least(trained: Callable[..., Outcome]) -> None:
    assert len(trained("some", table=TABLE.slice(3)).model.vocabulary) == len(NAMES) - 1
    with pytest.raises(DataError, match=r"none of the 2 labels .* 'lime', occurs in the training rows"):
        trained("none", table=pa.table({"label": ["lime", "plum"], "name": ["a lime", "a plum"]}))


def test_a_tower_may_be_all_there_is_of_a_class(trained: Callable[..., Outcome]) -> None:
    model = trained(head={"kind": "exact", "weight": {"id": False}}).model
    encoder = model.tower.encoder
    names = [NAMES[label] for label in model.vocabulary.labels.to_pylist()]
    encoded = encoder(to_tensors(encoder.encode({"name": pa.array(names, pa.large_string())})))
    assert torch.equal(model.head.weight, encoded)


@pytest.mark.parametrize(
    ("head", "error", "sentence"),
    [
        ({"kind": "tree"}, ConfigError, "the head 'tree' takes no tower and no table of classes"),
        ({"weight": {"encoder": "image"}}, ConfigError, r"takes \['image'\] columns; that table has"),
        ({"weight": {"encoder": {"kind": "text", "dim": 5}}}, ConfigError, "must equal the encoder's dim 32"),
        ({"weight": "towre"}, ConfigError, "'kind' in .* must be 'tower'; got 'towre'"),
    ],
)
def test_wrong_configs_are_refused(
    trained: Callable[..., Outcome], head: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        trained(head=head)


def test_a_run_without_a_tower_is_not_extended(trained: Callable[..., Outcome]) -> None:
    model = trained(table=None).model
    with pytest.raises(UsageError, match="only a tower makes weights of new classes, and the model has none"):
        model.extend(TABLE)


def test_a_damaged_tower_is_refused(trained: Callable[..., Outcome]) -> None:
    run = trained().run
    path = run / "weights" / "tower.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CorruptError, match=r"tower\.safetensors"):
        Model.load(run)
    path.unlink()
    with pytest.raises(CorruptError, match=r"tower\.safetensors"):
        Model.load(run)


def test_a_head_that_counts_takes_the_table_as_rows(trained: Callable[..., Outcome]) -> None:
    order = pa.table({"label": sorted(NAMES), "name": [NAMES[label] for label in sorted(NAMES)]})
    options = {"head": {**COUNTS, "class_power": 1.0}, "data": {"valid_fraction": 0.0}}
    model = trained(table=order, **options).model
    both = pa.concat_tables([SEEN, order.rename_columns(["label", "text"]).select(["text", "label"])])
    rows_alone = trained("both", rows=both, table=None, **options).model
    assert model.vocabulary.labels.to_pylist() == rows_alone.vocabulary.labels.to_pylist()
    assert model.num_train_rows == len(SEEN)
    for name in ("offsets", "class_ids", "weight"):
        torch.testing.assert_close(model.head.state_dict()[name], rows_alone.head.state_dict()[name])
    assert evaluate(model, rows(UNSEEN, 1))["accuracy"] == 1.0
    named = order.rename_columns(["label", "text"]).append_column("size", [range(len(order))])
    assert trained("wide", table=named, **options).model.predict(SEEN) == model.predict(SEEN)
    with pytest.raises(ConfigError, match=r"lacks the inputs \['text'\] and has \['name', 'size'\]"):
        trained("lacking", table=named.rename_columns(["label", "name", "size"]), **options)


@pytest.mark.parametrize("head", [SAMPLED, COUNTS, pytest.param({"kind": "exact"}, marks=pytest.mark.slow)])
def test_stopped_at_every_step_it_resumes_to_the_same_bits(
    trained: Callable[..., Outcome], tmp_path: Path, head: dict[str, Any]
) -> None:
    options = {"head": head, "train": {"epochs": 2, "batch_size": 128}}
    whole = trained("whole", **options)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(runs, "stop_requested", lambda: nullcontext(lambda: True))
        outcome = trained("stopped", **options)
        for _ in range(3):
            assert outcome.interrupted
            outcome = resume(outcome.run, data=SEEN, classes=TABLE)
        with pytest.raises(DataError, match="training data have changed"):
            resume(outcome.run, data=SEEN, classes=TABLE.slice(1))
    outcome = resume(outcome.run, data=SEEN, classes=TABLE)
    assert (outcome.interrupted, outcome.steps) == (False, whole.steps)
    assert weights(outcome.run) == weights(whole.run)
    assert outcome.metrics == whole.metrics


KILLED = """
import os, signal, sys
from widemax.training import loop
save = loop.save_checkpoint
def die(*arguments, **options):
    save(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)
loop.save_checkpoint = die
from widemax.config import Config
loop.train(Config.load(sys.argv[1]))
"""


@pytest.mark.slow
def test_killed_it_resumes_to_the_same_bits(trained: Callable[..., Outcome], tmp_path: Path) -> None:
    for name, table in (("rows", SEEN), ("classes", TABLE)):
        pyarrow.csv.write_csv(table, tmp_path / f"{name}.csv")
    data = {"train": tmp_path / "rows.csv", "classes": tmp_path / "classes.csv"}
    options = {"head": SAMPLED, "data": data, "train": {"epochs": 2, "checkpoint_every_s": 1e-9}}
    whole = trained("whole", rows=None, table=None, **options)
    config = Config.load(whole.run / "config.toml")
    config = config.model_copy(
        update={"output": config.output.model_copy(update={"dir": str(tmp_path / "killed")})}
    )
    (tmp_path / "config.toml").write_text(config.to_toml(), encoding="utf-8")
    died = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "config.toml")], check=False)
    assert died.returncode == -signal.SIGKILL
    assert weights(resume(tmp_path / "killed").run) == weights(whole.run)

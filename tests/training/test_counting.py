"""Runs whose head counts: one pass, what held-out rows choose, and the held-out rows counted last."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from widemax.artifact import Model
from widemax.config import Config
from widemax.data import Dataset, resolve
from widemax.encoders import to_tensors
from widemax.errors import ConfigError, CorruptError
from widemax.heads import BlendHead, CountsHead
from widemax.storage import read_manifest
from widemax.training import evaluate, loop
from widemax.training.feed import encode_labels
from widemax.training.loop import resume, train
from widemax.training.progress import PlainReporter

MakeConfig = Callable[..., Config]

COUNTS = {"kind": "counts"}
TEXT = {"head": COUNTS, "encoder": {"kind": "text", "dim": "features"}}
TREE = {"head": {"kind": "label_tree", "groups": 2}}
BLEND = {"head": {"kind": "blend", "width": 8}, "train": {"epochs": 3}}


def state_of(run: Path) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in Model.load(run).head.state_dict().items()}


def interactions(path: Path, *, ordered: bool) -> Path:
    """Users who walk through 40 items, mostly to the next one; all items before are the history."""
    rng = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(400):
            item, items = int(rng.integers(40)), []
            for _ in range(7):
                items.append(item)
                item = (item + (1 if rng.random() < 0.8 else int(rng.integers(2, 40)))) % 40
            items = list(dict.fromkeys(items))
            for at in range(1, len(items)):
                history = items[:at] if ordered else rng.permutation(items[:at]).tolist()
                file.write(json.dumps({"history": history, "item": items[at]}) + "\n")
    return path


def test_texts_are_counted_in_one_pass(make_config: MakeConfig) -> None:
    said: list[str] = []
    reporter = PlainReporter(quiet=True)
    reporter.say = said.append  # type: ignore[method-assign]
    outcome = train(make_config(**TEXT), reporter=reporter)
    assert outcome.metrics["accuracy"] > 0.95
    assert "counts head: every row is counted once, train.epochs is 1" in said
    config = outcome.model.config
    num_counted = len(outcome.model.head.state_dict()["weight"])
    assert f"counts, {num_counted:,} parameters" in repr(outcome.model)
    assert (config.train.epochs, config.encoder.options["dim"]) == (1, "features")
    assert config.encoder.options["char_ngrams"] == (5, 5)
    records = [json.loads(line) for line in (outcome.run / "metrics.jsonl").read_text().splitlines()]
    assert [record["train_loss"] for record in records] == [None, None]
    loaded = Model.load(outcome.run)
    old = [{"text": "the old fox"}]
    assert loaded.predict(old) == outcome.model.predict(old)
    assert loaded.predict(old, k=1)[0][0].label == "fox"
    assert read_manifest(outcome.run)["dim"] == loaded.encoder.dim == loaded.head.dim
    assert (outcome.run / "report.html").is_file()


def test_all_rows_are_counted_with_the_powers_that_held_out_rows_chose(
    make_config: MakeConfig, rows_file: Path
) -> None:
    outcome = train(make_config(**TEXT))
    model = outcome.model
    assert isinstance(model.head, CountsHead)
    names = "value_power", "feature_power", "class_power", "count_power"
    options = dict(zip(names, model.head.powers.tolist(), strict=True))
    again = CountsHead(model.head.num_classes, model.head.dim, **options)
    for batch in Dataset(resolve(rows_file), model.schema).batches(64):
        hidden = model.encoder(to_tensors(model.encoder.encode(batch.columns)))
        again.partial_fit(hidden, encode_labels(model.vocabulary, batch.labels, several=False))
    again.finish()
    assert torch.equal(again.class_ids, model.head.class_ids)
    torch.testing.assert_close(again.weight, model.head.weight)
    alone = train(make_config("alone", train={"refit": False}, **TEXT))
    assert alone.metrics == outcome.metrics
    assert len(alone.model.head.weight) < len(model.head.weight)
    for name in ("powers", "smoothing", "calibration_temperature"):
        assert torch.equal(alone.model.head.get_buffer(name), model.head.get_buffer(name))


@pytest.mark.parametrize("ordered", [True, False])
def test_next_items_are_counted(tmp_path: Path, ordered: bool) -> None:
    path = interactions(tmp_path / "rows.jsonl", ordered=ordered)
    data = {"train": str(path), "input": "history", "target": "item", "task": "next"}
    outcome = train(Config(data=data, head=COUNTS, output={"dir": str(tmp_path / "run")}))
    assert outcome.metrics["hr@10"] > 2 * outcome.baseline["hr@10"]
    values = evaluate.evaluate(Model.load(outcome.run), path)
    assert values["hr@10"] > 2 * values["baseline"]["hr@10"]
    best = outcome.model.predict([{"history": [7, 8, 9]}], k=40)[0]
    assert len(best) == 37
    assert not {7, 8, 9} & {answer.label for answer in best}
    if ordered:  # the latest item says most
        assert best[0].label == 10
        assert outcome.model.head.get_buffer("powers")[0] > 0


def test_several_labels_are_counted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = [f"word{number}" for number in range(30)]
    path = tmp_path / "rows.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for _ in range(400):
            chosen = rng.choice(30, 3, replace=False).tolist()
            row = {"text": " ".join(words[c] for c in chosen), "subjects": [f"s{c}" for c in chosen]}
            file.write(json.dumps(row) + "\n")
    data = {"train": str(path), "input": "text", "target": "subjects"}
    outcome = train(Config(data=data, head=COUNTS, output={"dir": str(tmp_path / "run")}))
    assert outcome.metrics["p@3"] > 0.9
    found = Model.load(outcome.run).predict([{"text": "word3 word7 word11"}], k=3)[0]
    assert {answer.label for answer in found} == {"s3", "s7", "s11"}


def test_counts_and_a_softmax_are_blended(tmp_path: Path) -> None:
    path = interactions(tmp_path / "rows.jsonl", ordered=True)
    data = {"train": str(path), "input": "history", "target": "item", "task": "next"}
    said: list[str] = []
    reporter = PlainReporter(quiet=True)
    reporter.say = said.append  # type: ignore[method-assign]
    outcome = train(Config(data=data, output={"dir": str(tmp_path / "run")}, **BLEND), reporter=reporter)
    assert "blend head: every row is counted once, the other 2 epochs train" in said
    head = outcome.model.head
    assert isinstance(head, BlendHead)
    (sentence,) = (told for told in said if told.startswith("weights of the parts"))
    assert sentence == head.told()
    assert 0 < head.nlls[2] <= head.nlls[0]
    section = outcome.model.config.train
    optimizer, rate = BlendHead.optimizer
    assert (section.optimizer, section.learning_rate) == (optimizer, rate / 2)  # items that fade
    assert head.weights[0] > 0
    records = [json.loads(line) for line in (outcome.run / "metrics.jsonl").read_text().splitlines()]
    losses = [record["train_loss"] for record in records]
    assert losses[0] is losses[3] is None
    assert all(losses[4:6])  # the softmax learns from the rows that were held out, as often
    assert ["valid_mrr" in record for record in records] == [
        False,
        True,
        True,
        *[False] * 3,
    ]  # what counts, begins
    assert losses[2] < losses[1]
    loaded = Model.load(outcome.run)
    history = [{"history": [7, 8, 9]}]
    assert loaded.predict(history) == outcome.model.predict(history)
    assert loaded.predict(history, k=1)[0][0].label == 10
    assert f"{head.num_parameters:,} parameters" in repr(loaded)
    assert head.num_parameters > len(head.counts.weight) + head.weight.numel()


def test_items_in_order_begin_with_what_stands_on_either_side(tmp_path: Path) -> None:
    """What follows an item of one user alone may be held out, but not what it follows."""
    path, group = tmp_path / "events.csv", "abc"
    items = [
        [*(f"{group[user % 3]}{n}" for n in range(3)), f"{group[user % 3]}-{user}"] for user in range(60)
    ]
    lines = [f"u{user},{item}" for user, own in enumerate(items) for item in [*own, "last", "test"]]
    path.write_text("\n".join(["user,item", *lines]), encoding="utf-8")
    data = {"train": str(path), "user": "user", "item": "item", "split": "last-one"}
    few_steps = {"epochs": 2, "learning_rate": 1e-9}
    config = Config(data=data, train=few_steps, head={"kind": "blend"}, output={"dir": str(tmp_path / "run")})
    model = train(config).model
    assert isinstance(model.head, BlendHead)
    encoded = model.encoder.encode({"history": pa.array([[own[i]] for own in items for i in (3, 2)])})
    rows = model.head.weight[encoded["history"].ids_P].reshape(60, 2, -1)
    assert (torch.cosine_similarity(*rows.unbind(1)) > 0.2).all()


# 11 steps of the first fit, or thrice as many of a blend, and 2 of the second.
@pytest.mark.parametrize(
    ("kind", "steps", "ends"),
    [
        *(("counts", n, "killed") for n in (1, 11, 12)),
        *(("blend", n, "killed") for n in (6, 16, 34)),
        ("label_tree", 12, "killed"),
        *(("counts", 11, "stopped"), ("label_tree", 12, "stopped")),
        *(("blend", n, "stopped") for n in (11, 16)),
    ],
)
def test_a_run_goes_on_to_the_same_bits(
    make_config: MakeConfig,
    trained: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    steps: int,
    ends: str,
) -> None:
    sections = TEXT | {"counts": {}, "label_tree": TREE, "blend": BLEND}[kind]
    fit: dict[str, Any] = {**sections.get("train", {}), "batch_size": 50}
    whole = trained(**sections | {"train": fit})
    often = {"checkpoint_every_s": 1e-9} if ends == "killed" else {}
    config = make_config(ends, **sections | {"train": fit | often})
    step, left = loop.take_step, steps + (ends == "killed")

    def step_and_end(*arguments: Any, **options: Any) -> tuple[float, int]:
        nonlocal left
        left -= 1
        if not left and ends == "killed":  # with what the checkpoint before holds
            raise MemoryError
        told = step(*arguments, **options)
        if not left:
            os.kill(os.getpid(), signal.SIGINT)
        return told

    with monkeypatch.context() as patched:
        patched.setattr(loop, "take_step", step_and_end)
        if ends == "killed":
            with pytest.raises(MemoryError):
                train(config)
        else:
            outcome = train(config)
            assert outcome.interrupted
            assert outcome.steps == steps
            assert Model.load(outcome.run).head.num_parameters
    resumed = resume(Path(config.output.dir))
    assert resumed.steps == whole.steps == (35 if kind == "blend" else 13)
    assert resumed.metrics == whole.metrics
    assert state_of(resumed.run) == state_of(whole.run)


@pytest.mark.parametrize("before_end", [1, 4])
def test_a_second_fit_by_gradients_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before_end: int
) -> None:
    path = interactions(tmp_path / "rows.jsonl", ordered=True)
    data = {"train": str(path), "input": "history", "target": "item", "task": "next"}

    def config(name: str) -> Config:
        fit = {"epochs": 3, "batch_size": 100, "checkpoint_every_s": 1e-9}
        return Config(data=data, output={"dir": str(tmp_path / name)}, **BLEND | {"train": fit})

    whole = train(config("whole"))
    step, left = loop.take_step, whole.steps - before_end

    def step_or_end(*arguments: Any, **options: Any) -> tuple[float, int]:
        nonlocal left
        left -= 1
        if left < 0:
            raise MemoryError
        return step(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "take_step", step_or_end)
        with pytest.raises(MemoryError):
            train(config("ended"))
    resumed = resume(tmp_path / "ended")
    assert resumed.steps == whole.steps
    assert resumed.metrics == whole.metrics
    assert state_of(resumed.run) == state_of(whole.run)


@pytest.mark.parametrize(
    ("sections", "got"),
    [
        ({"head": {"kind": "exact"}}, "got head 'exact' and encoder 'text' of dim 'features'"),
        ({"encoder": {"kind": "text", "dim": 16}}, "got head 'counts' and encoder 'text' of dim 16"),
        (
            {"encoder": {"kind": "table"}, "data": {"kinds": {"text": "category"}}},
            "got head 'counts' and encoder 'table'",
        ),
    ],
)
def test_what_cannot_be_counted_is_refused(
    make_config: MakeConfig, sections: dict[str, Any], got: str
) -> None:
    config = make_config(**{**TEXT, **sections})
    with pytest.raises(
        ConfigError, match=rf"only the encoders \['history', 'sparse', 'text'\] have it; {got}"
    ):
        train(config)


@pytest.mark.parametrize("name", ["class_ids", "weight", "offsets"])
def test_a_head_that_no_counting_gives_is_not_loaded(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    outcome = train(make_config(**TEXT))
    tensor = outcome.model.head.get_buffer(name)
    setattr(outcome.model.head, name, tensor.flip(0) if name == "class_ids" else -tensor)
    other = outcome.run.parent / "other"
    outcome.model.save(other)
    with pytest.raises(CorruptError, match="the head's state must have"):
        Model.load(other)

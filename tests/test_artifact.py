"""A saved model answers as the trained one did, whatever its labels; a damaged one is refused by name."""

import datetime
import json
import pickle
import random
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.forked import answer_of

from widemax.artifact import Model, weights
from widemax.artifact import model as module
from widemax.artifact.tables import seen_labels
from widemax.artifact.weights import read_head, write_head, write_tensors
from widemax.classes import Classes, inverse_propensity
from widemax.config import Config
from widemax.data import LabelVocabulary
from widemax.encoders import encoders
from widemax.errors import ArgumentError, ConfigError, CorruptError, DataError, ResourceError, UsageError
from widemax.heads import heads
from widemax.storage import MANIFEST, foreign, read_manifest, write_manifest
from widemax.training.loop import resume, train
from widemax.training.runs import Outcome

WORDS = ("red", "green", "blue", "gold", "gray", "pink", "teal", "plum")


def train_on(table: dict[str, Any] | pa.Table, folder: Path, **data: Any) -> Outcome:
    """A short run on a table."""
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), folder / "rows.parquet")
    values = {
        "data": {"train": str(folder / "rows.parquet"), "target": "label", **data},
        "encoder": {"dim": 8},
        "train": {"epochs": 2, "batch_size": 16},
        "output": {"dir": str(folder / "run")},
    }
    return train(Config.from_dict(values))


def rows_of(task: str) -> dict[str, Any]:
    """120 rows of one label, of several, or of a history and what came next."""
    words = random.Random(1)
    names = [words.choice(WORDS) for _ in range(120)]
    if task == "one":
        return {"text": [f"a {name} thing" for name in names], "label": names}
    if task == "several":
        pairs = [words.sample(WORDS, 2) for _ in range(120)]
        return {"text": [" and ".join(pair) for pair in pairs], "label": pairs}
    histories = [words.sample(WORDS, 3) for _ in range(120)]
    following = [words.choice([word for word in WORDS if word not in history]) for history in histories]
    return {"history": histories, "label": following}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A finished run of one label a row."""
    return train_on(rows_of("one"), tmp_path_factory.mktemp("one"))


@pytest.fixture
def run(outcome: Outcome, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    shutil.copytree(outcome.run, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("task", ["one", "several", "next"])
def test_loaded_model_gives_the_same_bits(task: str, tmp_path: Path) -> None:
    table = rows_of(task)
    outcome = train_on(table, tmp_path)
    model, loaded = outcome.model, Model.load(outcome.run)
    assert model.task == loaded.task == task
    assert (loaded.schema, loaded.num_train_rows) == (model.schema, 120)
    rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)][:30]
    assert loaded.predict(rows, k=8) == model.predict(rows, k=8)
    if task == "next":  # what stands in the history is not predicted again
        for row, predictions in zip(rows, loaded.predict(rows, k=8), strict=True):
            assert {p.label for p in predictions} == set(WORDS) - set(row["history"])
    else:
        assert {len(predictions) for predictions in loaded.predict(rows, k=99)} == {len(WORDS)}
    assert loaded.threshold == model.threshold
    if task == "several":  # those that reach the threshold, and no others
        every = loaded.predict(rows, k=99)
        for given in (0.0, 0.5, 1.0, "auto"):
            least = loaded.threshold if given == "auto" else given
            reached = [[p for p in row if p.probability >= least] for row in every]
            assert loaded.predict(rows, threshold=given) == reached
        assert loaded.predict(rows, k=1, threshold=0.0) == [row[:1] for row in every]
        with pytest.raises(UsageError, match="no fitted threshold"):
            replace(loaded, threshold=None).predict(rows, threshold="auto")
    else:
        least = 1 / len(WORDS)
        reached = [[p for p in row if p.probability >= least] for row in loaded.predict(rows, k=99)]
        assert loaded.predict(rows, threshold=least) == reached
        with pytest.raises(UsageError, match=f"the task of this model is '{task}'"):
            loaded.predict(rows, threshold="auto")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="what is mapped is read from /proc")
def test_mapped_weights_are_the_files_and_give_the_same_bits(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mapped() -> set[str]:
        lines = Path("/proc/self/maps").read_text().splitlines()
        return {Path(line.split()[-1].split(".safetensors")[0]).name for line in lines if str(run) in line}

    expected = Model.load(run).predict(["a red thing", "a gold thing"], k=8)
    assert mapped() == set()
    model = Model.load(run, mapped=True)
    assert all(
        x.data_ptr() % 64 == 0 for part in (model.encoder, model.head) for x in part.state_dict().values()
    )
    monkeypatch.setattr(weights, "COPIED_BYTES", 0)
    model = Model.load(run, mapped=True)
    assert mapped() == {"conformity", "encoder", "head-00000-of-00001"}
    assert model.predict(["a red thing", "a gold thing"], k=8) == expected
    shutil.rmtree(run)
    assert model.predict(["a red thing", "a gold thing"], k=8) == expected


def test_rare_labels_are_worth_more_by_propensity(tmp_path: Path) -> None:
    words = random.Random(1)
    labels = [words.choices(WORDS, weights=[50, 20, 10, 5, 4, 3, 2, 1])[0] for _ in range(200)]
    table = {"text": [words.choice(["a thing", "b thing", label]) for label in labels], "label": labels}
    model = train_on(table, tmp_path).model
    worth = dict(
        zip(
            model.vocabulary.labels.to_pylist(), inverse_propensity(model.vocabulary.counts, 200), strict=True
        )
    )
    rows = [{"text": "a thing"}, {"text": "b thing"}]
    every = model.predict(rows, k=len(WORDS))
    for k in (1, 3, 8):
        found = model.predict(rows, k=k, rank="psp")
        by_worth = [sorted(row, key=lambda p: -p.probability * worth[p.label])[:k] for row in every]
        assert [[p.label for p in row] for row in found] == [[p.label for p in row] for row in by_worth]
    assert found != every


def test_predictions_are_ranked_probabilities(outcome: Outcome) -> None:
    (predictions,) = outcome.model.predict([{"text": "a red thing", "other": 1}], k=8)
    probabilities = [prediction.probability for prediction in predictions]
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    assert probabilities == sorted(probabilities, reverse=True)
    logits = torch.tensor([prediction.logit for prediction in predictions])
    np.testing.assert_allclose(probabilities, logits.softmax(0), rtol=1e-4)


@pytest.mark.parametrize(
    ("row", "message"), [({}, "row 0: the row lacks the input 'text'"), ({"text": {"a": 1}}, "text")]
)
def test_rows_of_the_wrong_shape_are_refused(outcome: Outcome, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        outcome.model.predict([row])


TYPED_LABELS = {
    "unicode": [
        *(unicodedata.normalize(form, "crème brûlée") for form in ("NFC", "NFD")),
        *("東京", "Straße", "STRASSE", "a\tb", "  ", "👩‍👩‍👧", '"', "null"),
    ],
    "integer": [0, -1, 7, 2**53 + 1, 2**53 + 2, -(2**62)],
    "bool": [True, False],
    "date": [datetime.date(2024, 2, 29), datetime.date(1969, 12, 31), datetime.date(1, 1, 1)],
}


@pytest.mark.parametrize("kind", TYPED_LABELS)
def test_labels_come_back_as_they_were_given(kind: str, tmp_path: Path) -> None:
    labels = TYPED_LABELS[kind] * 12
    outcome = train_on({"text": [f"w{n % 5}" for n in range(len(labels))], "label": labels}, tmp_path)
    loaded = Model.load(outcome.run)
    predicted = [p.label for p in loaded.predict([{"text": "w1"}], k=99)[0]]
    assert sorted(map(repr, predicted)) == sorted(map(repr, TYPED_LABELS[kind]))
    table = pq.read_table(outcome.run / "labels.parquet")
    assert table.column_names == ["class_id", "label", "count"]
    assert sorted(map(repr, table["label"].to_pylist())) == sorted(map(repr, TYPED_LABELS[kind]))
    assert table["count"].to_pylist() == [12] * len(TYPED_LABELS[kind])


@pytest.mark.parametrize("labels", [["a", None, "b"] * 9, [1, None, 2] * 9])
def test_a_missing_label_is_refused_by_its_row(labels: list[Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.parquet:row 2: the label is missing"):
        train_on({"text": ["w"] * 27, "label": labels}, tmp_path)


def test_a_missing_label_in_the_vocabulary_is_refused() -> None:
    damaged = pa.table({"class_id": [0, 1], "label": ["a", None], "count": [2, 1]})
    with pytest.raises(DataError, match="every label of a label table must be there once"):
        LabelVocabulary.from_table(damaged)


# Bring your own rows.


class Capsules:
    """A frame of no known library: nothing but Arrow's stream."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self.table = pa.table(columns)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


TEXTS = ["a red thing", "teal", "plum and gold"]


@pytest.mark.parametrize(
    "rows",
    [
        [{"text": text, "other": object()} for text in TEXTS],
        [{"text": np.str_(text)} for text in TEXTS],
        TEXTS,
        tuple(TEXTS),
        np.array(TEXTS),
        pd.DataFrame({"number": [1, 2, 3], "text": TEXTS}),
        pd.DataFrame({"text": pd.Categorical(TEXTS)}, index=[5, 5, 9]),
        pa.table({"text": TEXTS}),
        pa.record_batch({"text": TEXTS}),
        Capsules({"text": pa.array(TEXTS, pa.string_view())}),
    ],
    ids=lambda rows: type(rows).__name__,
)
def test_rows_of_any_form_have_the_same_answers(outcome: Outcome, rows: Any) -> None:
    expected = outcome.model.predict([{"text": text} for text in TEXTS], k=3)
    assert outcome.model.predict(rows, k=np.int64(3)) == expected


def test_a_frame_is_predicted_in_parts(outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = outcome.model.predict({"text": TEXTS[2]})
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 2)
    first, second, third = outcome.model.predict(pa.table({"text": TEXTS}))
    assert third == one
    assert [first, second] == outcome.model.predict(TEXTS[:2])


def test_no_rows_have_no_answers(outcome: Outcome) -> None:
    assert outcome.model.predict([]) == outcome.model.predict(pa.table({"text": TEXTS})[:0]) == []


@pytest.mark.parametrize("k", [0, -1, 2.5, True, "3"])
def test_a_wrong_k_is_one_sentence(outcome: Outcome, k: Any) -> None:
    with pytest.raises(ArgumentError) as raised:
        outcome.model.predict(["red"], k=k)
    assert str(raised.value) == (
        f"option 'k' of predict must be a whole number of at least 1 or None; got {k!r}."
    )


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (pd.DataFrame({"txt": ["a"]}), DataError, "<memory> has no column 'text'; did you mean 'txt'"),
        (pd.DataFrame({"text": [[1], [2]]}), DataError, "column 'text' of <memory>: values of type list"),
        (pd.Series(["a"]), DataError, "a Series is one column; make it a frame"),
        ([{"text": np.zeros((2, 2))}], DataError, "values of type list<item: list<item: double>> cannot be"),
        ({"text": ["a", "b"]}, DataError, "values of type list<item: string> cannot be of kind 'text'"),
        ("a red thing", ArgumentError, "got str"),
        ([5], ArgumentError, "row 0 must be a mapping with the columns ['text'] or a text; got int"),
    ],
)
def test_odd_rows_are_one_sentence(outcome: Outcome, rows: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=re.escape(message)) as raised:
        outcome.model.predict(rows)
    assert len(str(raised.value).splitlines()) == 1


# Shown and saved.


def test_a_model_shows_itself_in_three_lines(outcome: Outcome) -> None:
    lines = repr(outcome.model).splitlines()
    encoder, head = (
        sum(len(p.flatten()) for p in part.parameters())
        for part in (outcome.model.encoder, outcome.model.head)
    )
    assert lines == [
        "Model    text (text) → label: 8 classes, task 'one', 120 rows",
        f"  encoder  text, {encoder:,} parameters, hidden vectors of 8",
        f"  head     exact, {head:,} parameters, softmax probabilities",
    ]


def test_a_card_escapes_what_it_shows(outcome: Outcome) -> None:
    schema = replace(outcome.model.schema, target="<b>label</b>")
    card = replace(outcome.model, schema=schema)._repr_html_()
    assert "&lt;b&gt;label&lt;/b&gt;: 8 classes" in card
    assert [node.tag for node in ElementTree.fromstring(card).iter()] == ["table", *["tr", "th", "td"] * 3]


@pytest.mark.parametrize("task", ["one", "several", "next"])
def test_a_saved_model_is_a_whole_run(task: str, tmp_path: Path) -> None:
    table = rows_of(task)
    model = train_on(table, tmp_path).model
    model.save(tmp_path / "deep" / "saved")
    loaded = Model.load(str(tmp_path / "deep" / "saved"))
    rows = pa.table({name: values for name, values in table.items() if name != "label"})
    assert loaded.predict(rows, k=8) == model.predict(rows, k=8)
    assert (loaded.task, loaded.schema) == (model.task, model.schema)
    assert loaded.config.to_toml() == model.config.to_toml()
    assert read_manifest(tmp_path / "deep" / "saved")["complete"]
    loaded.save(tmp_path / "again")
    for name in read_manifest(tmp_path / "again")["files"].keys() - {"config.toml"}:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "deep" / "saved" / name).read_bytes()
    assert Model.load(tmp_path / "again").config == loaded.config  # the data are told from another folder
    with pytest.raises(UsageError, match="is a saved model without checkpoints"):
        resume(tmp_path / "again")


def test_nothing_is_saved_over_unasked(outcome: Outcome, tmp_path: Path) -> None:
    saved, mine = tmp_path / "saved", tmp_path / "mine"
    outcome.model.save(saved)
    with pytest.raises(UsageError, match="is not empty"):
        outcome.model.save(saved)
    (saved / "notes.txt").write_text("mine")
    (saved / "weights" / "head-00001-of-00002.safetensors").touch()
    outcome.model.save(saved, overwrite=True)
    Model.load(saved)
    assert foreign(saved) == ["notes.txt"]
    mine.mkdir()
    outcome.model.save(mine)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="is not"):
            outcome.model.save(tmp_path / "letters", overwrite=overwrite)
        with pytest.raises(ResourceError, match="cannot write"):
            outcome.model.save(tmp_path / "letters" / "letter.txt", overwrite=overwrite)
    assert (tmp_path / "letters" / "letter.txt").read_text() == "dear"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["letters", "mine", "saved"]


@pytest.mark.parametrize("name", ["check_folder", "read_labels", "read_head"])
def test_a_run_replaced_while_it_is_read_is_read_again(
    outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Never the labels of one run with the weights of another."""
    model, labels = outcome.model, [f"other {number}" for number in range(8)]
    other = replace(model, vocabulary=LabelVocabulary(pa.array(labels), model.vocabulary.counts))
    model.save(tmp_path / "saved")
    read = getattr(module, name)

    def read_and_replace(*arguments: Any, **options: Any) -> Any:
        found = read(*arguments, **options)
        monkeypatch.setattr(module, name, read)
        other.save(tmp_path / "saved", overwrite=True)
        return found

    monkeypatch.setattr(module, name, read_and_replace)
    rows = [{"text": "the old fox"}]
    assert Model.load(tmp_path / "saved").predict(rows) == other.predict(rows)


def test_a_model_whose_labels_and_classes_differ_is_not_saved(outcome: Outcome, tmp_path: Path) -> None:
    labels = LabelVocabulary(pa.array(["a", "b"]), np.array([1, 1]))
    with pytest.raises(UsageError, match="the head has 8 classes, but the vocabulary 2 labels"):
        replace(outcome.model, vocabulary=labels).save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize(("folder", "error"), [("nowhere", UsageError), (3, ArgumentError)])
def test_what_is_no_folder_is_not_loaded(folder: Any, error: Any) -> None:
    with pytest.raises(error, match="folder"):
        Model.load(folder)


# Damage to the files of a run.


def resign(run: Path) -> None:
    """Give altered files a manifest that agrees with them, as an attacker or a broken tool would."""
    manifest = read_manifest(run)
    paths = [run / name for name in manifest.pop("files") if (run / name).exists()]
    write_manifest(run, {*paths, *(run / "weights").iterdir()}, manifest)


FILES = [
    *("weights/encoder.safetensors", "weights/head-00000-of-00001.safetensors"),
    *("labels.parquet", "config.toml", "metrics.jsonl", "report.html"),
]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", [0, 0.5, -1], ids=["first", "middle", "last"])
def test_a_flipped_bit_is_found(run: Path, name: str, where: float) -> None:
    content = bytearray((run / name).read_bytes())
    content[where if isinstance(where, int) else int(where * len(content))] ^= 1
    (run / name).write_bytes(content)
    with pytest.raises(CorruptError, match=name):
        Model.load(run)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_or_absent_file_is_found(run: Path, name: str) -> None:
    content = (run / name).read_bytes()
    for part in (content[:-1], content[: len(content) // 2], b""):
        (run / name).write_bytes(part)
        with pytest.raises(CorruptError, match=name):
            Model.load(run)
    (run / name).unlink()
    with pytest.raises(CorruptError, match=f"{name} is missing"):
        Model.load(run)


def test_a_flipped_bit_anywhere_in_the_manifest_is_found(run: Path) -> None:
    content = (run / MANIFEST).read_bytes()
    manifest = json.loads(content)
    for place in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[place] ^= 1
        (run / MANIFEST).write_bytes(damaged)
        try:
            same = json.loads(damaged) == manifest  # space for another space
        except ValueError:
            same = False
        if not same:
            with pytest.raises(CorruptError, match=MANIFEST):
                Model.load(run)


@pytest.mark.parametrize("name", ["encoder.safetensors", "head-00000-of-00001.safetensors"])
def test_a_truncated_tensor_file_is_found_without_its_hash(run: Path, name: str) -> None:
    path = run / "weights" / name
    path.write_bytes(path.read_bytes()[:-8])
    resign(run)
    with pytest.raises(CorruptError, match=name):
        Model.load(run)


def test_labels_and_classes_must_agree(run: Path) -> None:
    table = pq.read_table(run / "labels.parquet")
    pq.write_table(table.slice(0, 7), run / "labels.parquet")
    resign(run)
    with pytest.raises(
        CorruptError, match=r"labels\.parquet .*classes must be 8, as manifest\.json says; got 7"
    ):
        Model.load(run)


# Shards of the head.


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of the eight classes a shard: 8 weights and a bias of 4 bytes each."""
    monkeypatch.setattr(weights, "SHARD_BYTES", 3 * 36 + 10)


@pytest.fixture
def sharded(small_shards: None, tmp_path: Path) -> Outcome:
    return train_on(rows_of("one"), tmp_path)


SHARDS = [f"head-0000{shard}-of-00003.safetensors" for shard in range(3)]


def test_a_head_in_shards_is_the_same_head(sharded: Outcome, outcome: Outcome) -> None:
    weights = sharded.run / "weights"
    assert sorted(path.name for path in weights.glob("head-*")) == SHARDS
    assert [len(load_file(weights / name)["weight"]) for name in SHARDS] == [3, 3, 2]
    rows = [{"text": "a teal thing"}, {"text": "plum"}]
    assert Model.load(sharded.run).predict(rows) == sharded.model.predict(rows)
    assert sharded.model.predict(rows) == outcome.model.predict(rows)


def test_a_missing_shard_is_named(sharded: Outcome) -> None:
    (sharded.run / "weights" / SHARDS[1]).unlink()
    with pytest.raises(CorruptError, match=f"{SHARDS[1]} is missing"):
        Model.load(sharded.run)
    resign(sharded.run)
    with pytest.raises(CorruptError, match=r"weights lacks some of the head's shards; it holds .*00002-of"):
        Model.load(sharded.run)


def test_swapped_shards_are_found(sharded: Outcome) -> None:
    first, second = (sharded.run / "weights" / name for name in SHARDS[:2])
    first.rename(first.with_suffix(".swap"))
    second.rename(first)
    first.with_suffix(".swap").rename(second)
    with pytest.raises(CorruptError, match=f"{SHARDS[0]} is not the file that was saved"):
        Model.load(sharded.run)


def test_a_shard_of_another_run_is_found(sharded: Outcome) -> None:
    path = sharded.run / "weights" / SHARDS[2]
    tensors = load_file(path)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, path)
    with pytest.raises(CorruptError, match=f"{SHARDS[2]} is not the file that was saved"):
        Model.load(sharded.run)


def broken_shards() -> Iterator[tuple[str, Any, str]]:
    """What is done to the tensors of a shard, and what the message says beside the file's name."""
    yield "narrow", lambda t: t | {"weight": t["weight"][:, 1:].clone()}, "'weight' has shape"
    yield "short", lambda t: t | {"bias": t["bias"][:-1].clone()}, "'bias'"
    yield "long", lambda t: t | {"weight": torch.cat([t["weight"], t["weight"]])}, "'weight' has shape"
    yield "half", lambda t: t | {"weight": t["weight"].half()}, "float16"
    yield "foreign", lambda t: t | {"code": torch.zeros(1)}, "tensors this head does not have"
    yield "scalar", lambda t: t | {"weight": torch.zeros(())}, "'weight' has shape"


@pytest.mark.parametrize(("change", "message"), [pytest.param(c, m, id=n) for n, c, m in broken_shards()])
def test_a_shard_of_the_wrong_shape_is_named(sharded: Outcome, change: Any, message: str) -> None:
    path = sharded.run / "weights" / SHARDS[2]
    save_file(change(load_file(path)), path)
    resign(sharded.run)
    with pytest.raises(CorruptError, match=message) as raised:
        Model.load(sharded.run)
    assert SHARDS[2] in str(raised.value) or "end before row" in str(raised.value)


@pytest.mark.parametrize("rows_a_shard", [1, 2, 5, 6, 100])
def test_any_number_of_shards(rows_a_shard: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "SHARD_BYTES", rows_a_shard * 4 * (3 + 1))
    torch.manual_seed(0)
    head, other = heads["exact"](6, 3), heads["exact"](6, 3)
    head.calibration_temperature.fill_(2.5)
    write_head(tmp_path, head)
    assert len(list(tmp_path.iterdir())) == -(-6 // rows_a_shard)
    read_head(tmp_path, other)
    state: Mapping[str, torch.Tensor] = other.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in head.state_dict().items())


@pytest.mark.parametrize("kind", ["tree", "adaptive", "exact", "mixture_of_softmaxes"])
@pytest.mark.parametrize("shard_bytes", [300, 1000, 10**6])
def test_no_shard_is_larger_than_allowed(
    kind: str, shard_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "SHARD_BYTES", shard_bytes)
    torch.manual_seed(0)
    head, other = (heads[kind](Classes(50, torch.arange(50, 0, -1)), 3) for _ in range(2))
    write_head(tmp_path, head)
    for path in tmp_path.iterdir():
        rows = [tensor for tensor in load_file(path).values() if tensor.ndim]
        assert sum(tensor.nbytes for tensor in rows) <= shard_bytes
    read_head(tmp_path, other)
    state = other.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in head.state_dict().items())


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'w' holds values that are not finite"):
        write_tensors(tmp_path / "w.safetensors", {"w": torch.tensor([1.0, torch.nan])})


def test_seen_items_are_joined_over_the_histories() -> None:
    vocabulary = LabelVocabulary(pa.array(["a", "b", "c"]), np.array([3, 2, 1]))
    histories = [pa.array([["b", "x"], [], ["a"]]), pa.array([["c"], ["c"], None], pa.list_(pa.string()))]
    seen = seen_labels(vocabulary, histories)
    assert [sorted(seen.take(torch.tensor([row])).ids_P.tolist()) for row in range(3)] == [[1, 2], [2], [0]]


FORBIDDEN = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen")


def load_under_watch(run: Path) -> tuple[list[str], list[str], list[str]]:
    """An answer of a run, and what was done that runs code: in loading it, and in loading a pickle."""
    events: list[str] = []
    watching = False

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(FORBIDDEN) or (watching and event in ("exec", "compile")):
            events.append(event)

    sys.addaudithook(watch)
    # Members are imported, which executes their files, before the watch begins.
    assert encoders.names()
    assert heads.names()
    Model.load(run)  # what torch and pyarrow import late is imported now
    watching = True
    model = Model.load(run)
    watching = False
    labels = [prediction.label for prediction in model.predict([{"text": "a red thing"}], k=1)[0]]
    of_loading = events.copy()
    pickle.loads(pickle.dumps(print))  # noqa: S301
    return labels, of_loading, events[len(of_loading) :]


def test_loading_runs_no_code(run: Path) -> None:
    assert answer_of(load_under_watch, run) == (["red"], [], ["pickle.find_class"])

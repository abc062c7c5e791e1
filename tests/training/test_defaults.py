"""What "auto" becomes, and which configs do not fit the data."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from widemax.artifact import Model
from widemax.artifact.model import build_encoder
from widemax.config import Config
from widemax.data import Column, LabelVocabulary, Schema
from widemax.errors import ConfigError, UnknownNameError
from widemax.task import Task
from widemax.training import defaults
from widemax.training.defaults import (
    COUNTED_ROWS,
    SEPARATED_ROWS,
    absolute,
    are_countable,
    complete_data,
    complete_encoder,
    complete_rest,
    counting_head,
    decide_batch_size,
    decide_task,
    width_needed,
)
from widemax.training.loop import train

TEXT = Column("title", "text")
NUMBER = Column("price", "number")
HISTORY = Column("bought", "ids", item="string")
VOCABULARY = LabelVocabulary(pa.array(list("abcd")), np.array([4, 3, 2, 1]))


def config_of(**sections: Any) -> Config:
    return Config.from_dict({"data": {"train": "rows.csv"}, **sections})


def completed(task: str = "one", column: Column = TEXT, **sections: Any) -> Config:
    schema = Schema((column,), "y")
    config = complete_encoder(config_of(**sections), schema)
    return complete_rest(
        config, VOCABULARY, task=Task(task), encoder=build_encoder(config.encoder, schema), num_rows=10
    )[0]


@pytest.mark.parametrize(
    ("columns", "kind"),
    [((TEXT,), "text"), ((NUMBER,), "table"), ((HISTORY,), "history"), ((TEXT, NUMBER), "mixed")],
)
def test_the_encoder_follows_from_the_columns(columns: tuple[Column, ...], kind: str) -> None:
    section = complete_encoder(config_of(), Schema(columns, "y")).encoder
    assert section.kind == kind
    assert section.options["dim"] > 0


def test_an_encoder_that_cannot_take_a_column_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'price' is number\. Set encoder\.kind = 'mixed'"):
        complete_encoder(config_of(encoder={"kind": "text"}), Schema((TEXT, NUMBER), "y"))
    with pytest.raises(ConfigError, match="did you mean 'dim'"):
        complete_encoder(config_of(encoder={"dmi": 3}), Schema((TEXT,), "y"))
    with pytest.raises(UnknownNameError, match="did you mean 'text'"):
        complete_encoder(config_of(encoder={"kind": "txt"}), Schema((TEXT,), "y"))


@pytest.mark.parametrize(
    ("several", "share", "asked", "task"),
    [
        (False, 0.0, "auto", "one"),
        (True, 0.0, "auto", "several"),
        (False, 0.5, "auto", "next"),
        (True, 0.9, "auto", "next"),
        (False, 0.49, "auto", "one"),
        (False, 0.9, "one", "one"),
        (True, 0.9, "several", "several"),
    ],
)
def test_the_task_follows_from_the_labels(several: bool, share: float, asked: str, task: str) -> None:
    schema = Schema((HISTORY,), "y", several=several)
    config = config_of(data={"train": "x", "task": asked})
    assert decide_task(config, schema, labels_in_histories=share) == task


@pytest.mark.parametrize(
    ("own", "repeat", "asked", "task"),
    [
        (0.49, False, "auto", "next"),
        (0.5, False, "auto", "one"),
        (1.0, True, "auto", "next"),
        (1.0, False, "next", "next"),
    ],
)
def test_a_list_with_the_label_of_its_own_row_is_no_history(
    own: float, repeat: bool, asked: str, task: str
) -> None:
    config = config_of(data={"train": "x", "task": asked, "repeat": repeat})
    schema = Schema((HISTORY,), "y")
    assert decide_task(config, schema, labels_in_histories=1.0, labels_in_own_rows=own) == task


def test_one_label_cannot_be_read_out_of_lists() -> None:
    config = config_of(data={"train": "x", "task": "one"})
    with pytest.raises(ConfigError, match="target 'y' holds lists"):
        decide_task(config, Schema((TEXT,), "y", several=True), labels_in_histories=0.0)


@pytest.mark.parametrize(
    ("rows", "batch_size"), [(1, 64), (10_000, 64), (18_000, 64), (40_000, 128), (70_000, 256), (10**8, 512)]
)
def test_the_batch_size_gives_some_hundred_steps(rows: int, batch_size: int) -> None:
    assert decide_batch_size("auto", rows) == batch_size
    assert decide_batch_size(17, rows) == 17


@pytest.mark.parametrize(
    ("task", "loss", "metric"),
    [
        ("one", "cross_entropy", "mean_reciprocal_rank"),
        ("several", "binary_cross_entropy", "ndcg@5"),
        ("next", "cross_entropy", "ndcg@20"),
    ],
)
def test_loss_and_metric_follow_from_the_task(task: str, loss: str, metric: str) -> None:
    config = completed(task)
    assert (config.head.options["loss"], config.train.metric) == (loss, metric)


@pytest.mark.parametrize(
    ("column", "task", "is_smoothed"),
    [(NUMBER, "one", True), (NUMBER, "several", False), (HISTORY, "next", True), (TEXT, "one", False)],
)
def test_labels_are_smoothed_for_a_softmax_unless_the_encoder_does_better_without(
    column: Column, task: str, is_smoothed: bool
) -> None:
    assert (completed(task, column).head.options["label_smoothing"] > 0) == is_smoothed


def test_the_planner_chooses_the_head() -> None:
    schema = Schema((TEXT,), "y")
    config = complete_encoder(config_of(), schema)
    encoder = build_encoder(config.encoder, schema)
    chosen, plan = complete_rest(config, VOCABULARY, task=Task.ONE, encoder=encoder, num_rows=10)
    assert plan is not None
    assert chosen.head.kind == plan.choice == "exact"
    named = config_of(head={"kind": "sampled", "num_sampled": 2})
    named = complete_encoder(named, schema)
    chosen, plan = complete_rest(named, VOCABULARY, task=Task.ONE, encoder=encoder, num_rows=10)
    assert plan is None
    assert (chosen.head.kind, chosen.head.options["num_sampled"]) == ("sampled", 2)


def test_what_is_given_is_kept() -> None:
    head = {"kind": "exact", "loss": "cross_entropy", "label_smoothing": 0.0, "temperature": 0.5}
    train = {"learning_rate": 0.25, "optimizer": "momentum", "metric": "nll", "batch_size": 9}
    config = completed(head=head, train=train)
    assert head.items() <= {"kind": config.head.kind, **config.head.options}.items()
    assert train.items() <= config.train.model_dump().items()


def test_a_completed_config_is_its_own_completion() -> None:
    once = completed(encoder={"dim": 24}, head={"kind": "sampled"})
    assert Config.from_dict(once.model_dump()) == once
    schema = Schema((TEXT,), "y")
    again = complete_encoder(once, schema)
    encoder = build_encoder(again.encoder, schema)
    again, plan = complete_rest(again, VOCABULARY, task=Task.ONE, encoder=encoder, num_rows=10)
    assert (again, plan) == (once, None)


@pytest.mark.parametrize(
    ("sections", "error", "message"),
    [
        ({"head": {"dim": 3}}, ConfigError, r"head\.dim must equal the encoder's dim"),
        ({"head": {"kind": "exakt"}}, UnknownNameError, "did you mean 'exact'"),
        ({"head": {"kind": "exact", "num_sampled": 3}}, ConfigError, "no option 'num_sampled'"),
        ({"train": {"optimizer": "momentun"}}, UnknownNameError, "did you mean 'momentum'"),
        ({"train": {"metric": "acuracy"}}, ConfigError, "did you mean 'accuracy'"),
        ({"train": {"metric": "ndcg@20"}}, ConfigError, "not a metric of task 'one'"),
        ({"data": {"task": "next"}, "train": {"metric": "coverage@20"}}, ConfigError, "not a metric of task"),
    ],
)
def test_what_does_not_fit_is_refused(sections: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        completed(**sections)


def test_data_are_named_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").touch()
    assert tuple(map(absolute, ("rows.csv", "sub/*.csv", "clinc150:test"))) == (
        str(tmp_path / "rows.csv"),
        str(tmp_path / "sub/*.csv"),
        "clinc150:test",
    )
    config = complete_data(config_of(), Schema((TEXT, NUMBER), "y"))
    assert config.data.train == (str(tmp_path / "rows.csv"),)
    assert config.data.input == ("title", "price")
    assert (config.data.target, config.data.kinds) == ("y", {"title": "text", "price": "number"})
    assert config.output.dir == "."


def test_a_split_of_a_folder_is_made_absolute_too(tmp_path, monkeypatch):
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert absolute("digits:test") == f"{tmp_path}/digits:test"


@pytest.mark.parametrize(
    ("sections", "width"),
    [
        ({}, 32),
        ({"head": {"kind": "sampled"}}, 32),
        ({"encoder": {"dim": 48}}, None),
        ({"head": {"score": "cosine"}}, None),
        ({"head": {"kind": "mixture_of_softmaxes"}}, None),
    ],
    ids=str,
)
def test_few_classes_need_no_wide_hidden_vectors(sections: dict[str, Any], width: int | None) -> None:
    needed = width_needed(config_of(**sections))
    assert (needed and needed(4)) == width


def test_a_linear_encoder_is_as_wide_as_its_classes_need(tmp_path: Path, rows_file: Path) -> None:
    for dim, options in [(32, {}), (48, {"dim": 48})]:
        config = Config(
            data={"train": str(rows_file), "target": "animal"},
            encoder=options,
            train={"epochs": 1},
            output={"dir": str(tmp_path / str(dim))},
        )
        outcome = train(config)
        assert outcome.model.config.encoder.options["dim"] == outcome.model.encoder.dim == dim
        assert Model.load(outcome.run).encoder.dim == dim


@pytest.mark.parametrize(
    ("columns", "several", "sections", "is_countable"),
    [
        ((TEXT,), True, {}, True),
        ((TEXT, Column("body", "text")), True, {"encoder": {"kind": "text", "char_ngrams": ()}}, True),
        ((TEXT,), False, {}, False),
        ((TEXT, NUMBER), True, {}, False),
        ((TEXT,), True, {"head": {"kind": "exact"}}, False),
        ((TEXT,), True, {"head": {"loss": "binary_focal"}}, False),
        ((TEXT,), True, {"encoder": {"dropout": 0.2}}, False),
        ((TEXT,), True, {"train": {"epochs": 3}}, False),
        ((TEXT,), True, {"train": {"time_limit_s": 60}}, False),
        ((TEXT,), True, {"train": {"separators": False}}, False),
        ((TEXT,), True, {"distributed": {"workers": 2}}, False),
    ],
    ids=str,
)
def test_texts_with_several_labels_are_countable_unless_something_else_is_asked(
    columns: tuple[Column, ...], several: bool, sections: dict[str, Any], is_countable: bool
) -> None:
    assert are_countable(config_of(**sections), Schema(columns, "y", several=several)) == is_countable


def test_countable_rows_are_separated_or_counted_unless_they_or_their_labels_are_many() -> None:
    kinds = {10: "label_tree", SEPARATED_ROWS + 1: "counts", COUNTED_ROWS: "counts", COUNTED_ROWS + 1: None}
    assert {num_rows: counting_head(VOCABULARY, num_rows) for num_rows in kinds} == kinds
    assert counting_head(LabelVocabulary(VOCABULARY.labels, VOCABULARY.counts * 12), 10) is None


def test_heads_that_count_learn_texts_with_several_labels(
    make_config, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(make_config().data.train[0])
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    several = [{"text": row["text"], "animals": sorted({row["animal"], "any"})} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in several))
    outcomes = []
    for name, limit in (("tree", None), ("counts", "SEPARATED_ROWS"), ("sum", "COUNTED_ROWS")):
        if limit:
            monkeypatch.setattr(defaults, limit, len(rows) - 1)
        sections: dict[str, Any] = {"data": {"train": str(path), "target": "animals"}}
        outcomes.append(train(Config.from_dict({**sections, "output": {"dir": str(path.parent / name)}})))
    assert [outcome.model.config.head.kind for outcome in outcomes] == ["label_tree", "counts", "exact"]
    named = Config.from_dict(
        {**sections, "head": {"kind": "label_tree"}, "output": {"dir": str(path.parent / "named")}}
    )
    assert train(named).model.config.encoder == outcomes[0].model.config.encoder
    for outcome, dim in zip(outcomes, ("features", "features", 32), strict=True):
        model = Model.load(outcome.run)
        assert model.config.encoder.options["dim"] == dim
        assert {answer.label for answer in model.predict([{"text": "we saw the old owl"}], k=2)[0]} == {
            "any",
            "owl",
        }

"""Trainings and audits started from the page: real processes, the command they stand for, and their end."""

import shlex
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from widemax.config import Config, assign
from widemax.serving.studio.trainings import flat, in_toml

TRAINING = {"name": "third", "data": "drinks.csv", "inputs": ["text"], "target": "drink", "head": "exact"}


def until(condition: Callable[[], Any]) -> Any:
    """What a condition gives once it holds."""
    for _ in range(600):
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError("it did not come about")


def ended(studio: Any, number: int) -> Any:
    def job() -> Any:
        found = studio.get(f"jobs/{number}")
        return found if found["state"] != "running" else None

    return until(job)


def test_the_form_is_the_command_line_and_the_config(studio: Any) -> None:
    told = studio.post("trainings/preview", **TRAINING, epochs=2, seed=7)
    assert shlex.split(told["command"]) == [
        *("widemax", "train", "drinks.csv", "--input", "text", "--target", "drink"),
        *("--set", "head.kind=exact", "--set", "train.epochs=2", "--seed", "7", "--out", "third"),
    ]
    config = Config.from_dict(tomllib.loads(told["toml"]))
    assert (config.head.kind, config.train.epochs, config.train.seed) == ("exact", 2, 7)
    assert (config.data.train, config.data.target, config.output.dir) == (("drinks.csv",), "drink", "third")


def test_the_form_says_names_in_any_script() -> None:
    values = {"data": {"kinds": {"größe": "number", "unit.price": "text", "😀": "date"}, "missing": ["🤷"]}}
    options = [f"{key}={in_toml(value)}" for key, value in flat(values)]
    assert options[0] == 'data.kinds."größe"=number'
    assert assign({}, options) == values


def test_a_config_fills_the_form_that_says_the_same(studio: Any, folder: Path) -> None:
    written = """
    data = {train = "drinks.csv", input = ["text"], target = "drink", kinds = {text = "text"}}
    head = {kind = "sampled", num_sampled = 2, sampler = "uniform"}
    train = {epochs = 2, batch_size = 16, optimizer = "adam"}
    output.dir = "fourth"
    """
    form = studio.post("trainings/read", toml=written, name="free")
    told = studio.post("trainings/preview", **form)
    assert Config.from_dict(tomllib.loads(told["toml"])) == Config.from_dict(tomllib.loads(written))
    assert "--set head.num_sampled=2 --set head.sampler=uniform" in told["command"]
    of_column = studio.post("trainings/preview", **form | {"options": ["data.kinds.model=category"]})
    assert "model" in tomllib.loads(of_column["toml"])["data"]["kinds"]
    # That of a run, whose name is taken, is complete.
    form = studio.post("trainings/read", toml=studio.get("runs/first")["toml"], name="free")
    again = Config.from_dict(tomllib.loads(studio.post("trainings/preview", **form)["toml"]))
    assert (form["name"], form["data"], form["head"], form["epochs"]) == ("free", "drinks.csv", "exact", 3)
    own = Config.load(folder / "first" / "config.toml")
    assert (again.encoder, again.head, again.train) == (own.encoder, own.head, own.train)
    on_disk = (folder / "first" / "config.toml").read_text()  # names its data from its own folder
    assert studio.post("trainings/read", toml=on_disk, name="free") == form


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("train = ", "this is not valid TOML: Invalid value (at end of document)"),
        ("train.epoch = 1", "unknown key 'epoch' in [train]; did you mean 'epochs'?"),
        ("train.epochs = 0", "'epochs' in [train] must be"),
        ('data.train = "/etc/passwd"', "no data is called '/etc/passwd'"),
        ("train.epochs = 2", "data.train must name one of the data here; the config names 0."),
        (
            'data.train = "drinks.csv"\ntrain.seed = 3000000000',
            "the form cannot say this seed: Input should be",
        ),
    ],
)
def test_a_config_that_is_wrong_is_refused(studio: Any, written: str, sentence: str) -> None:
    assert sentence in studio.refused("trainings/read", toml=written, name="free")


def test_a_training_runs_is_followed_and_is_there(studio: Any, folder: Path) -> None:
    started = studio.post("trainings", **TRAINING, epochs=2)
    job = ended(studio, started["id"])
    assert job["state"] == "finished", job["log"]
    assert job["result"]["num_classes"] == 3
    assert len(studio.get("runs/third")["history"]) >= 2
    assert (
        studio.post("runs/third/predict", inputs=[{"text": "bean"}], k=1)["rows"][0][0]["label"] == "coffee"
    )
    assert "third is there already" in studio.refused("trainings", **TRAINING)


def test_a_training_is_stopped_as_by_ctrl_c(studio: Any) -> None:
    started = studio.post("trainings", **{**TRAINING, "name": "long"}, epochs=10_000)
    until(
        lambda: (
            next((r for r in studio.get("runs")["runs"] if r["name"] == "long"), {}).get("state")
            == "training"
        )
    )
    until(lambda: studio.get("runs/long")["history"])
    studio.post(f"jobs/{started['id']}/stop")
    assert ended(studio, started["id"])["state"] == "stopped"
    assert studio.get("runs/long")["state"] == "stopped"
    assert studio.get("runs/long/model")["num_classes"] == 3


def test_an_audit_gives_its_table(studio: Any) -> None:
    started = studio.post("runs/first/audit", batch=32, draws=2)
    assert started["command"] == "widemax audit first --batch 32 --draws 2 --seed 0"
    job = ended(studio, started["id"])
    assert job["state"] == "finished", job["log"]
    result = job["result"]
    assert {row["sampler"] for row in result["rows"]} >= {"uniform", "frequency"}
    assert result["num_draws"] == 2
    assert "(recommended)" in result["picture"]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"name": "../x"}, "name"),
        ({"name": "a/b"}, "name"),
        ({"data": "/etc/passwd"}, "no data is called '/etc/passwd'"),
        ({"data": "drink.csv"}, "did you mean 'drinks.csv'"),
        ({"head": "exat"}, "did you mean 'exact'"),
        ({"epochs": 0}, "epochs"),
        ({"more": ["data.train=/etc/passwd"]}, "more"),
        ({"options": ["data.train=/etc/passwd"]}, "data.train has a field of its own: data"),
        ({"options": ["data={valid='/etc/passwd'}"]}, "--set takes section.key=value"),
        ({"options": ["data.valid=/etc/passwd"]}, "data.valid names a file, which is not for pages"),
        ({"options": ["encoder.parts={pretrained={model='x'}}"]}, "names a file, which is not for pages"),
        ({"options": ["output.more=x"]}, "output.more names a file"),
        ({"options": ["train.epoch=1"]}, "did you mean 'epochs'"),
    ],
)
def test_what_cannot_be_trained_is_refused(studio: Any, wrong: Any, sentence: str) -> None:
    assert sentence in studio.refused("trainings", **{**TRAINING, "name": "never", **wrong})
    assert "never" not in {run["name"] for run in studio.get("runs")["runs"]}


def test_foreign_pages_start_nothing(studio: Any) -> None:
    answer = studio.client.post("trainings", json=TRAINING, headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403
    assert studio.client.get("jobs", headers={"Host": "evil.example"}).status_code == 403

"""Training on a device and in a precision: refused where it cannot be, and answers from what is saved."""

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from widemax.artifact import Model
from widemax.cli.plan import sizes_of
from widemax.config import Config
from widemax.errors import ConfigError, ResourceError
from widemax.planner import plan
from widemax.training import defaults, loop, prepare
from widemax.training.checkpoint import latest_checkpoint
from widemax.training.defaults import training_device
from widemax.training.evaluate import evaluate
from widemax.training.loop import resume, train


def head_weight(folder: Path) -> torch.Tensor:
    return load_file(next(folder.glob("head-*.safetensors")))["weight"]


@pytest.fixture
def all_heads_are_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "ELEMENTWISE_NUMEL", 0)


def test_an_absent_device_is_refused_before_data_are_read(make_config, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"train\.device is 'cuda', but torch"):
        train(make_config(train={"device": "cuda"}))
    assert not (tmp_path / "run" / "config.toml").exists()


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        (
            {"device": "cuda"},
            "train.device is 'cuda', but heads such as 'counts' are trained on the CPU in float32",
        ),
        ({"precision": "bfloat16"}, "train.precision is 'bfloat16', but heads such as 'counts'"),
    ],
)
def test_heads_that_count_refuse_devices(make_config, setting: dict[str, str], sentence: str) -> None:
    config = make_config(encoder={"dim": "features"}, head={"kind": "counts"}, train=setting)
    with pytest.raises(ConfigError) as refused:
        train(config)
    assert sentence in str(refused.value)


def test_several_processes_refuse_devices(make_config) -> None:
    config = make_config(train={"device": "cuda"}, distributed={"workers": 2})
    with pytest.raises(ConfigError, match=r"train\.device is 'cuda', but several processes are trained on"):
        training_device(config)
    assert training_device(make_config(distributed={"workers": 2})) == torch.device("cpu")


def test_the_planner_refuses_an_absent_device(make_config, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"train\.device is 'cuda', but torch"):
        sizes_of(make_config(train={"device": "cuda"}), None)


def test_the_planner_fits_heads_into_the_memory_of_the_gpu(make_config, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (100, 10**12))
    sizes, _ = sizes_of(make_config(train={"device": "cuda"}), None)
    assert sizes["available_bytes"] == 100
    assert sizes["base_bytes"] < 10**6  # not what this process holds of the machine's
    with pytest.raises(ResourceError, match=r"of the 0\.00 GB available"):
        plan(**sizes)
    assert "available_bytes" not in sizes_of(make_config(train={"device": "cpu"}), None)[0]


def test_the_planner_counts_what_training_holds_of_an_encoder(make_config, monkeypatch) -> None:
    held: list[int] = []
    take_step = loop.take_step

    def watched(session: Any, *arguments: Any, **options: Any) -> Any:
        found = take_step(session, *arguments, **options)
        for weight in session.model.encoder.parameters():
            state = session.optimizer.state[weight].values()
            held.append(weight.nbytes + sum(x.nbytes for x in state if isinstance(x, torch.Tensor)))
        return found

    monkeypatch.setattr(loop, "take_step", watched)
    sections = {"train": {"optimizer": "lazy_adam", "epochs": 1, "refit": False, "batch_size": 10**6}}
    train(make_config(**sections))
    alone, _ = sizes_of(make_config(**sections), None)
    assert alone["encoder_bytes"] == sum(held)  # gradients are of the rows read alone
    monkeypatch.setattr(defaults, "ELEMENTWISE_NUMEL", 0)
    three, _ = sizes_of(make_config(**sections, distributed={"workers": 3}), None)
    assert three["encoder_bytes"] == pytest.approx(alone["encoder_bytes"] / 3, rel=0.01)
    assert (alone["workers"], three["workers"]) == (1, 3)


def test_the_run_says_what_it_was_trained_on(make_config, tmp_path: Path) -> None:
    train(make_config(train={"epochs": 1, "device": "cpu"}))
    saved = Config.load(tmp_path / "run" / "config.toml").train
    assert (saved.device, saved.precision) == ("cpu", "float32")


@pytest.mark.parametrize("head", ["exact", "sampled"])
def test_wide_heads_are_trained_in_bfloat16_and_saved_in_float32(
    make_config, rows_file: Path, monkeypatch, all_heads_are_wide, head: str
) -> None:
    config = partial(make_config, head={"kind": head}, train={"precision": "bfloat16"})
    whole = train(config("whole"))
    assert head_weight(whole.run / "weights").dtype == torch.float32
    assert evaluate(Model.load(whole.run).to("auto"), str(rows_file))["accuracy"] > 0.9

    step, left = loop.take_step, 20

    def interrupting(*arguments: Any, **options: Any) -> tuple[float, int]:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGINT)
        return step(*arguments, **options)

    monkeypatch.setattr(loop, "take_step", interrupting)
    stopped = train(config("stopped"))
    assert stopped.interrupted
    checkpoint = latest_checkpoint(stopped.run)
    assert checkpoint is not None
    assert head_weight(checkpoint).dtype == torch.bfloat16
    resume(stopped.run)
    assert torch.equal(head_weight(stopped.run / "weights"), head_weight(whole.run / "weights"))


def test_narrow_heads_keep_float32_weights(make_config) -> None:
    outcome = train(make_config(train={"precision": "bfloat16", "epochs": 1}))
    assert outcome.metrics["accuracy"] > 0.5
    assert outcome.model.head.weight.dtype == torch.float32

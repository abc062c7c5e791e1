"""Images from files to predictions, as the shell sees it; stopped and continued to the same bits."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from widemax.config import Config
from widemax.storage import sha256
from widemax.training import loop

SIDE = 9


def write_idx(path: Path, values: np.ndarray) -> None:
    header = bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">u4").tobytes()
    path.write_bytes(header + values.tobytes())


@pytest.fixture(scope="session")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy bars: 1 lies, 2 stands, 7 goes down to the right; 600 to train on, 90 to test."""
    folder = tmp_path_factory.mktemp("bars")
    random = np.random.default_rng(0)
    for prefix, rows in (("train", 600), ("t10k", 90)):
        labels = random.choice(np.array([1, 2, 7], np.uint8), rows)
        pixels = random.integers(0, 120, (rows, SIDE, SIDE), np.uint8)
        for image, label, at in zip(pixels, labels, random.integers(1, SIDE - 1, rows), strict=True):
            bar = {1: image[at, :], 2: image[:, at], 7: np.einsum("ii->i", image)}[int(label)]
            bar[:] = 230
        write_idx(folder / f"{prefix}-images-idx3-ubyte", pixels)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels)
    return folder


def test_check_train_evaluate_predict(widemax: Any, bars: Path, tmp_path: Path, monkeypatch: Any) -> None:
    report = json.loads(widemax("check", bars, "--valid", f"{bars}:test", "--json").out)
    assert (report["rows"], report["num_classes"], report["valid"]["rows"]) == (600, 3, 90)
    assert [(column["name"], column["kind"]) for column in report["columns"]] == [("image", "image")]

    run = tmp_path / "run"
    options = ("--set", "encoder.channels=[8, 8]", "--set", "encoder.dim=16", "--set", "encoder.shift=1")
    trained = widemax("train", bars, "--out", run, *options, "--json")
    assert trained.code == 0, trained.err
    assert json.loads(trained.out)["encoder"] == "image"
    assert "channels = [\n    8,\n    8,\n]" in (run / "config.toml").read_text(encoding="utf-8")

    metrics = json.loads(widemax("evaluate", run, f"{bars}:test", "--json").out)
    assert metrics["rows"] == 90
    assert metrics["accuracy"] >= 0.95

    lines = [json.loads(line) for line in widemax("predict", run, f"{bars}:test", "-k", 1).out.splitlines()]
    assert {type(line["predictions"][0]["label"]) for line in lines} == {int}
    raw = (bars / "t10k-images-idx3-ubyte").read_bytes()[16:]
    pixels = np.frombuffer(raw, np.uint8).reshape(-1, SIDE, SIDE)
    rows = [{"image": pixels[0].tolist()}, {"image": pixels[1].ravel().tolist()}]
    stdin = io.TextIOWrapper(io.BytesIO("\n".join(map(json.dumps, rows)).encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    answers = [json.loads(line) for line in widemax("predict", run, "-", "-k", 1).out.splitlines()]
    for answer, line in zip(answers, lines, strict=False):
        assert answer["predictions"][0]["label"] == line["predictions"][0]["label"]
        assert answer["predictions"][0]["logit"] == pytest.approx(line["predictions"][0]["logit"], abs=1e-4)
    assert len(answers) == 2


def test_a_model_of_other_images_says_so(widemax: Any, bars: Path, tmp_path: Path) -> None:
    widemax("train", bars, "--out", tmp_path / "run", "--set", "train.epochs=1", "--set", "encoder.dim=4")
    write_idx(tmp_path / "small-images-idx3-ubyte", np.zeros((2, 5, 5), np.uint8))
    result = widemax("predict", tmp_path / "run", tmp_path / "small-images-idx3-ubyte")
    assert result.code == 3
    assert "row 1: column 'image' must be an image of 9 × 9 × 1 numbers" in result.err


def test_augmented_training_is_resumed_to_the_same_bits(
    bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def config(out: str) -> Config:
        return Config.from_dict(
            {
                "data": {"train": str(bars)},
                "encoder": {"channels": (4, 4), "dim": 8, "shift": 1, "flip": True, "dropout": 0.2},
                "train": {"epochs": 2},
                "output": {"dir": str(tmp_path / out)},
            }
        )

    whole = loop.train(config("whole"))
    step, steps = loop.take_step, 0

    def stopped_at_the_fifth(*arguments: Any, **options: Any) -> tuple[float, int]:
        nonlocal steps
        if steps == 5:
            raise KeyboardInterrupt
        steps += 1
        return step(*arguments, **options)

    monkeypatch.setattr(loop, "take_step", stopped_at_the_fifth)
    short = config("short")
    every_step = short.train.model_copy(update={"checkpoint_every_s": 1e-9})
    with pytest.raises(KeyboardInterrupt):
        loop.train(short.model_copy(update={"train": every_step}))
    monkeypatch.setattr(loop, "take_step", step)
    resumed = loop.resume(tmp_path / "short")
    assert resumed.steps == whole.steps
    for name in ("encoder", "head-00000-of-00001"):
        files = [run / "weights" / f"{name}.safetensors" for run in (resumed.run, whole.run)]
        assert sha256(files[0]) == sha256(files[1])

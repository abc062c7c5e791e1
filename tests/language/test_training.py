"""Training a language model: kept, continued, held out, refused."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from tests.damage import sign_again
from tests.language.conftest import MakeConfig, made_text

import widemax
from widemax.errors import CorruptError, DataError
from widemax.language import LanguageModel
from widemax.language.training import Plan
from widemax.training import runs
from widemax.training.loop import train


def weights(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "weights").iterdir()}


def test_the_carried_state_is_what_the_next_step_begins_with(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zeros in its place lead elsewhere, so that the contract of systems can fail."""
    whole = train(make_config(tmp_path / "whole"))
    stop = iter([False] * 3 + [True])
    with monkeypatch.context() as patched:
        patched.setattr(runs, "stop_requested", lambda: nullcontext(lambda: next(stop)))
        assert train(make_config(tmp_path / "run")).steps == 4
    with monkeypatch.context() as patched:
        found = LanguageModel.build.__globals__["decoders"]["lstm"]
        patched.setattr(found, "state_of", lambda self, tensors, num_rows: None)
        assert weights(widemax.resume(tmp_path / "run").run) != weights(whole.run)


@pytest.mark.parametrize(
    "alter",
    [
        lambda tensors: {k: v for k, v in tensors.items() if not k.startswith("carried.")},
        lambda tensors: {k: v[:, 1:].contiguous() if "carried" in k else v for k, v in tensors.items()},
        lambda tensors: {k: v.half() if "carried" in k else v for k, v in tensors.items()},
    ],
    ids=["left out", "fewer rows", "another type"],
)
def test_a_carried_state_that_does_not_fit_is_refused(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alter: Callable[..., object]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(runs, "stop_requested", lambda: nullcontext(lambda: True))
        assert train(make_config(tmp_path / "run")).interrupted
    (folder,) = (tmp_path / "run" / "checkpoints").iterdir()
    path = folder / "random.safetensors"
    path.write_bytes(save(alter(load(path.read_bytes()))))
    sign_again(folder, path.name)
    with pytest.raises(CorruptError, match=r"random\.safetensors"):
        widemax.resume(tmp_path / "run")


@given(st.integers(2, 500), st.integers(1, 40), st.integers(1, 9), st.booleans(), st.integers(0, 3))
def test_steps_read_a_text_once_and_never_beyond(
    num_tokens: int, length: int, batch_size: int, carries: bool, seed: int
) -> None:
    plan = Plan.of(num_tokens, length=length, batch_size=batch_size, carries=carries, seed=seed)
    starts = plan.starts(0)
    assert starts.shape == (plan.steps_per_epoch, plan.num_rows)
    assert starts.size >= 1
    read = (starts[:, :, None] + np.arange(plan.length)).flatten()
    assert 0 <= read.min() <= read.max() < num_tokens - 1
    assert len(np.unique(read)) == len(read)
    if carries:
        assert (np.diff(starts, axis=0) == plan.length).all()
    if num_tokens > 4 * length * batch_size:
        assert len(read) > num_tokens / 2


def test_the_end_of_the_text_is_held_out(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And its words are no classes if they are there alone."""
    path = tmp_path / "book.txt"
    path.write_text(made_text(200) + "zu zu zu zu\n" * 10)
    outcome = train(make_config(tmp_path / "run", data={"train": str(path), "valid_fraction": 0.05}))
    assert "zu" not in outcome.model.vocabulary.labels
    assert outcome.metrics["unknown_tokens"] == 40
    own = train(make_config(tmp_path / "own", data={"train": str(path), "valid": str(path)}))
    assert "zu" in own.model.vocabulary.labels
    assert own.metrics["unknown_tokens"] == 0
    none = train(make_config(tmp_path / "none", data={"train": str(path), "valid_fraction": 0.0}))
    assert none.metrics == {}


def test_training_reads_on_where_it_stopped(make_config: MakeConfig, tmp_path: Path) -> None:
    """What must be remembered over the border of two steps is learned: with steps of one token all is."""
    outcome = train(make_config(tmp_path / "run", encoder={"length": 1}, epochs=1, batch_size=4))
    assert outcome.metrics["perplexity"] < 5.5  # 10 without a memory of the word before


def test_too_short_a_text_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("word")
    with pytest.raises(DataError, match="two tokens"):
        train(make_config(tmp_path / "run", data={"train": str(tmp_path / "one.txt")}))
    assert not torch.is_inference_mode_enabled()

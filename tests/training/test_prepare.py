"""What a run is made of before its first step: rows, model, optimizer; and when it fits a second time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from widemax.config import Config
from widemax.errors import ConfigError, CorruptError
from widemax.training import prepare as prepare_module
from widemax.training.checkpoint import folder_of, load_weights, read_progress, save_checkpoint
from widemax.training.loop import take_step
from widemax.training.prepare import Session, build_optimizer, prepare, restart, sources_of, step_factors
from widemax.training.progress import PlainReporter

MakeConfig = Callable[..., Config]


@pytest.fixture
def make_session(make_config: MakeConfig, tmp_path: Path) -> Callable[..., Session]:
    """A session in a folder of its own."""
    sessions = 0

    def make(checkpoint: Path | None = None, run: Path | None = None, **sections: dict[str, Any]) -> Session:
        nonlocal sessions
        sessions += 1
        run = run or tmp_path / f"session-{sessions}"
        scratch = run / f"scratch-{sessions}"
        scratch.mkdir(parents=True)
        torch.manual_seed(sessions)
        return prepare(
            *sources_of(make_config(**sections), None, None),
            run,
            scratch,
            checkpoint,
            PlainReporter(quiet=True),
        )

    return make


MakeSession = Callable[..., Session]


def test_rows_are_held_out_of_training(make_session: MakeSession) -> None:
    session = make_session()
    assert session.valid is not None
    assert (len(session.train), len(session.valid), len(session.everything)) == (540, 60, 600)
    assert session.everything.rows_N.tolist() == list(range(600))
    assert not set(session.train.rows_N) & set(session.valid.rows_N)
    assert session.model.num_train_rows == 600


def test_the_config_is_saved_complete(make_session: MakeSession) -> None:
    session = make_session()
    saved = Config.load(session.run / "config.toml")
    assert saved.to_toml() == session.model.config.to_toml()
    assert "auto" not in {saved.head.kind, saved.encoder.kind, saved.train.batch_size, saved.train.metric}
    again = make_session(head={"kind": saved.head.kind})
    assert again.model.config.train == saved.train


@pytest.mark.parametrize(
    ("sections", "refits"),
    [
        ({}, True),
        ({"train": {"refit": False}}, False),
        ({"train": {"refit": True}, "data": {"max_valid_rows": 6}}, True),
        ({"data": {"max_valid_rows": 6}}, False),  # 1 percent would change little
        ({"train": {"refit": True, "time_limit_s": 9.0}}, False),
        ({"train": {"refit": True}, "data": {"valid_fraction": 0.0}}, False),
    ],
)
def test_when_a_second_fit_follows(
    make_session: MakeSession, sections: dict[str, dict[str, Any]], refits: bool
) -> None:
    assert make_session(**sections).refits is refits


def test_given_validation_data_are_never_trained_on(make_session: MakeSession, rows_file: Path) -> None:
    session = make_session(data={"valid": str(rows_file)}, train={"refit": True})
    assert session.valid is not None
    assert (len(session.train), len(session.valid)) == (600, 600)
    assert session.everything is session.train
    assert not session.refits


def test_best_epochs_counts_whole_epochs(make_session: MakeSession) -> None:
    session = make_session()
    session.progress.best_step = 2 * 17  # 540 rows in batches of 32
    assert session.best_epochs == 2


def state(session: Session) -> dict[str, bytes]:
    tensors = {**session.model.encoder.state_dict(prefix="e."), **session.model.head.state_dict(prefix="h.")}
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def test_a_restart_is_the_start_again(make_session: MakeSession) -> None:
    session = make_session(head={"kind": "sampled", "num_sampled": 4})
    save_checkpoint(session.run, session.progress, session.model, session.optimizer)
    session.model.encoder.weigh(session.everything.chunks)
    first = state(session)

    def two_steps(session: Session) -> dict[str, bytes]:
        for start in (0, 32):
            take_step(session, session.everything.take(np.arange(start, start + 32)), 1.0)
            session.progress.step += 1
        return state(session)

    second = two_steps(session)
    assert second != first
    session.progress.best_step = 2
    again = restart(session)
    assert state(again) == first
    assert (again.progress.refit_from, again.progress.best_step, again.progress.step) == (2, 2, 2)
    assert two_steps(again) == second


def test_a_damaged_start_is_not_restarted_from(make_session: MakeSession) -> None:
    session = make_session()
    save_checkpoint(session.run, session.progress, session.model, session.optimizer)
    path = folder_of(session.run, 0) / "encoder.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptError, match=r"encoder\.safetensors"):
        restart(session)
    with pytest.raises(CorruptError, match=r"encoder\.safetensors"):
        load_weights(folder_of(session.run, 0), session.model)


def test_a_checkpoint_is_continued(make_session: MakeSession) -> None:
    session = make_session()
    for start in (0, 32, 64):
        take_step(session, session.train.take(np.arange(start, start + 32)), 1.0)
        session.progress.step += 1
    save_checkpoint(session.run, session.progress, session.model, session.optimizer)
    folder = folder_of(session.run, 3)
    continued = make_session(checkpoint=folder, run=session.run)
    assert state(continued) == state(session)
    assert continued.progress == read_progress(folder)
    np.testing.assert_array_equal(continued.train.rows_N, session.train.rows_N)
    take_step(session, session.train.take(np.arange(99, 120)), 0.5)
    torch.manual_seed(0)  # the checkpoint has set the random state; undo what the step above drew
    third = make_session(checkpoint=folder, run=session.run)
    take_step(third, third.train.take(np.arange(99, 120)), 0.5)
    assert state(third) == state(session)


def test_large_matrices_get_one_accumulator_a_row(
    make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_session(train={"optimizer": "rowwise_adagrad"}).model
    sizes = sorted(p.numel() for p in [*model.encoder.parameters(), *model.head.parameters()])
    monkeypatch.setattr(prepare_module, "ELEMENTWISE_NUMEL", sizes[-1] - 1)
    groups = build_optimizer(model.config.train, step_factors(model)).param_groups
    assert [(group["rowwise"], len(group["params"])) for group in groups] == [
        (False, len(sizes) - 1),
        (True, 1),
    ]


def test_weight_decay_reaches_the_optimizer_that_has_it(make_session: MakeSession) -> None:
    decayed = make_session(train={"optimizer": "lazy_adam", "weight_decay": 0.01})
    assert decayed.optimizer.param_groups[0]["weight_decay"] == 0.01


def test_weight_decay_without_an_optimizer_for_it_is_refused(make_session: MakeSession) -> None:
    with pytest.raises(ConfigError, match="weight_decay"):
        make_session(train={"optimizer": "momentum", "weight_decay": 0.01})

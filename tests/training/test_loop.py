"""Training runs end to end on small data: learn, save, stop, die, and continue to the same bits."""

import errno
import json
import os
import pty
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.forked import Command
from tests.training.killed import replace_and_die, train_and_tell

from widemax.artifact import Model
from widemax.config import Config
from widemax.data.formats.base import BlockFormat
from widemax.errors import ConfigError, CorruptError, DataError, ResourceError, UsageError
from widemax.storage import read_manifest, writing
from widemax.threads import using_threads
from widemax.training import feed, loop, runs
from widemax.training.checkpoint import latest_checkpoint, read_progress
from widemax.training.clock import Clock
from widemax.training.loop import resume, train
from widemax.training.progress import PlainReporter
from widemax.training.runs import Outcome

MakeConfig = Callable[..., Config]
Trained = Callable[..., Outcome[Any]]

SAMPLED = {"kind": "sampled", "num_sampled": 4}


def weights(run: Path) -> dict[str, bytes]:
    """Every tensor of a run as bytes."""
    return {
        f"{path.name}/{name}": tensor.numpy().tobytes()
        for path in sorted((run / "weights").iterdir())
        for name, tensor in load_file(path).items()
    }


@pytest.mark.parametrize("head", [{"kind": "exact"}, SAMPLED, {"kind": "auto"}])
def test_it_learns(trained: Trained, head: dict[str, object]) -> None:
    outcome = trained(head=head)
    assert outcome.metrics["accuracy"] > 0.95
    loaded = Model.load(outcome.run)
    (best,) = loaded.predict([{"text": "the old fox"}], k=1)[0]
    assert best.label == "fox"
    assert (outcome.run / "report.html").is_file()


def test_the_same_seed_gives_the_same_bits(make_config: MakeConfig, trained: Trained) -> None:
    first = trained(**OTHER)
    again = train(make_config("b", **OTHER))
    other = train(make_config("c", **OTHER | {"train": {"epochs": 1, "seed": 1}}))
    assert weights(first.run) == weights(again.run)
    assert weights(first.run) != weights(other.run)


def test_a_report_shows_no_rows_of_data_that_have_changed(make_config: MakeConfig, capsys: Any) -> None:
    config = make_config(train={"epochs": 1})
    (data,) = map(Path, config.data.train)

    class Meddler(PlainReporter):
        def say(self, sentence: str) -> None:
            super().say(sentence)
            if sentence.startswith("calibrated"):
                data.write_text(data.read_text().replace("the", "another"))

    outcome = train(config, reporter=Meddler(sys.stderr))
    assert "the data have changed since they were read" in capsys.readouterr().err
    assert "another" not in (outcome.run / "report.html").read_text(encoding="utf-8")


def records_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def timeless(run: Path) -> list[dict[str, Any]]:
    """The records without what differs from run to run."""
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records_of(run)]


def test_a_run_killed_while_reading_is_begun_anew(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "run" / ".widemax" / "scratch" / "raw").mkdir(parents=True)
    assert train(make_config(train={"epochs": 1})).steps > 0


def test_metrics_lines_are_a_record_an_epoch(trained: Trained) -> None:
    outcome = trained(head={"kind": "exact"}, train={"refit": False})
    records = records_of(outcome.run)
    assert [record["epoch"] for record in records] == [1, 2, 3]
    assert records[-1]["step"] == outcome.steps
    assert records[0]["train_loss"] > records[-1]["train_loss"]
    assert {"valid_accuracy", "valid_nll", "seconds"} <= records[0].keys()


# A second fit on all rows.


@pytest.mark.parametrize("head", [{"kind": "exact"}, SAMPLED])
def test_the_second_fit_takes_all_rows_and_keeps_what_was_measured(
    make_config: MakeConfig, trained: Trained, monkeypatch: pytest.MonkeyPatch, head: dict[str, object]
) -> None:
    rows: list[np.ndarray] = []
    take = feed.Feed.take

    def watched(taken: feed.Feed, positions_B: np.ndarray) -> feed.EncodedRows:
        if len(positions_B) <= 32:  # a batch of training; held-out rows are taken together
            rows.append(taken.rows_N[positions_B])
        return take(taken, positions_B)

    once = trained(head=head, train={"refit": False})
    monkeypatch.setattr(feed.Feed, "take", watched)
    twice = train(make_config("twice", head=head, train={"refit": True}))

    epochs = int(records_of(once.run)[-1]["epoch"])  # so few steps prove no convergence: the last is best
    first, second = rows[: 3 * 17], rows[3 * 17 :]
    assert len(second) == epochs * 19
    for epoch in range(3):
        assert len(set(np.concatenate(first[17 * epoch : 17 * (epoch + 1)]))) == 540
    for epoch in range(epochs):
        assert sorted(np.concatenate(second[19 * epoch : 19 * (epoch + 1)])) == list(range(600))

    assert twice.metrics == once.metrics
    assert twice.steps == once.steps + len(second)
    temperatures = [outcome.model.head.calibration_temperature for outcome in (once, twice)]
    assert torch.equal(*temperatures)
    assert temperatures[0] != 1.0
    assert torch.equal(Model.load(twice.run).head.calibration_temperature, temperatures[0])
    assert weights(twice.run).keys() == weights(once.run).keys()
    assert weights(twice.run) != weights(once.run)

    assert timeless(twice.run)[:3] == timeless(once.run)
    assert [record["epoch"] for record in records_of(twice.run)[3:]] == list(range(1, epochs + 1))
    assert not any("valid_nll" in record for record in records_of(twice.run)[3:])


def test_a_finished_run_keeps_no_checkpoint_and_resumes_to_itself(trained: Trained) -> None:
    outcome = trained(head={"kind": "exact"})
    assert not (outcome.run / "checkpoints").exists()
    before = {path: path.stat().st_mtime_ns for path in outcome.run.rglob("*")}
    again = resume(outcome.run)
    assert {path: path.stat().st_mtime_ns for path in outcome.run.rglob("*")} == before
    assert (again.metrics, again.steps, again.interrupted) == (outcome.metrics, outcome.steps, False)
    assert again.seconds == pytest.approx(outcome.seconds)
    question = [{"text": "the old fox"}]
    assert again.model.predict(question) == outcome.model.predict(question)


# Stopped and continued.


def test_a_run_is_not_overwritten_unasked(make_config: MakeConfig, trained: Trained, tmp_path: Path) -> None:
    shutil.copytree(trained(head={"kind": "exact"}).run, tmp_path / "run")
    with pytest.raises(UsageError, match="--overwrite"):
        train(make_config())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="not a run folder"):
        train(make_config("mine"), overwrite=True)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


# One run in the place of another.

ONE_EPOCH = {"head": {"kind": "exact"}, "train": {"epochs": 1}}
OTHER = {"encoder": {"dim": 8}, "head": SAMPLED, "train": {"epochs": 1}}


def test_a_run_is_replaced_by_what_it_would_have_been_alone(
    make_config: MakeConfig, trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = trained(**OTHER)
    shutil.copytree(trained(**ONE_EPOCH).run, tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    (tmp_path / "link").symlink_to("run")
    outcome = train(make_config("link", **OTHER), reporter=PlainReporter(sys.stderr), overwrite=True)
    assert f"left in {tmp_path / 'link'}, which are not of the run: notes.txt\n" in capsys.readouterr().err
    assert outcome.run == tmp_path / "link"
    assert outcome.run.is_symlink()
    assert weights(tmp_path / "run") == weights(alone.run)
    names = {path.name for path in alone.run.iterdir()}
    assert {path.name for path in (tmp_path / "run").iterdir()} == {*names, "notes.txt"}
    own, expected = Model.load(outcome.run).config.data, alone.model.config.data
    assert own.model_copy(update={"train": expected.train}) == expected


@pytest.mark.parametrize(
    "sections",
    [
        {"data": {"train": "rowz.jsonl"}},
        {"data": {"target": "absent"}},
        {"head": {"kind": "exakt"}},
        {"train": {"optimizer": "adamm"}},
    ],
)
def test_a_run_stays_when_what_was_to_replace_it_fails(
    make_config: MakeConfig, trained: Trained, tmp_path: Path, sections: dict[str, Any]
) -> None:
    run = shutil.copytree(trained(**ONE_EPOCH).run, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with pytest.raises((UsageError, DataError)):
        train(make_config(**sections), overwrite=True)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_run_stays_until_what_is_to_replace_it_is_whole(
    make_config: MakeConfig, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped, stopped again, then finished; the old model answers until then, the new one beside it."""
    alone, old = trained(**OTHER), tmp_path / "run"
    shutil.copytree(trained(**ONE_EPOCH).run, old)
    with monkeypatch.context() as patched:
        patched.setattr(runs, "stop_requested", lambda: nullcontext(lambda: True))
        for outcome in (train(make_config(**OTHER), overwrite=True), resume(old)):
            assert outcome.interrupted
            assert outcome.run == old / ".widemax" / "new"
            assert Model.load(outcome.run).encoder.dim == 8
            assert Model.load(old).encoder.dim == 16
    assert weights(old) != weights(alone.run)
    assert resume(outcome.run).run == old
    assert weights(old) == weights(alone.run)
    assert {path.name for path in old.iterdir()} == {path.name for path in alone.run.iterdir()}


@pytest.mark.parametrize("name", ["loop.prepare", "runs.settle"])
def test_a_run_whose_replacement_was_killed_is_whole(
    make_config: MakeConfig,
    trained: Trained,
    processes: Any,
    tmp_path: Path,
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    alone = trained(**OTHER)
    run = train(make_config(**ONE_EPOCH)).run
    path = tmp_path / "config.toml"
    path.write_text(make_config(**OTHER).to_toml(), encoding="utf-8")
    process = processes.Process(target=replace_and_die, args=(path, name))
    process.start()
    process.join()
    assert process.exitcode == 9
    assert Model.load(run).encoder.dim == (8 if name == "runs.settle" else 16)
    outcome = resume(run, reporter=PlainReporter(sys.stderr))
    told = f"what was to replace {run} had not begun to train; start it again"
    assert (told in capsys.readouterr().err) == (name == "loop.prepare")
    assert outcome.run == run
    assert (weights(run) == weights(alone.run)) == (name != "loop.prepare")
    assert {path.name for path in run.iterdir()} == {path.name for path in alone.run.iterdir()}


def test_one_process_trains_in_a_folder(make_config: MakeConfig) -> None:
    config = make_config()
    with writing(Path(config.output.dir), overwrite=False):
        Path(config.output.dir, "config.toml").write_text(config.to_toml())
        for again in (
            partial(train, config),
            partial(train, config, overwrite=True),
            partial(resume, config.output.dir),
        ):
            with pytest.raises(UsageError, match="is being written by process"):
                again()


# One checkpoint before the first step, then one a step: 3 epochs of 5 steps, and the second fit after them.
LARGE_BATCHES = {"batch_size": 128}
IN_THE_SECOND_EPOCH, AFTER_THE_FIRST_FIT, IN_THE_SECOND_FIT = 8, 1 + 3 * 5, 1 + 3 * 5 + 3


@pytest.mark.parametrize(
    ("head", "checkpoints"),
    [
        ({"kind": "exact"}, IN_THE_SECOND_EPOCH),
        pytest.param(SAMPLED, IN_THE_SECOND_EPOCH, marks=pytest.mark.slow),
        pytest.param(SAMPLED, AFTER_THE_FIRST_FIT, marks=pytest.mark.slow),
        (SAMPLED, IN_THE_SECOND_FIT),
        pytest.param({"kind": "exact"}, IN_THE_SECOND_FIT, marks=pytest.mark.slow),
    ],
)
def test_killed_and_resumed_to_the_same_bits(
    make_config: MakeConfig,
    trained: Trained,
    processes: Any,
    tmp_path: Path,
    head: dict[str, object],
    checkpoints: int,
) -> None:
    """The process is killed with SIGKILL after this number of checkpoints."""
    whole = trained(head=head, train=LARGE_BATCHES)
    config = make_config("killed", head=head, train={**LARGE_BATCHES, "checkpoint_every_s": 1e-9})
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    told, end = processes.Pipe()
    process = processes.Process(target=train_and_tell, args=(path, end))
    process.start()
    for _ in range(checkpoints):
        assert told.poll(120)
        told.send(told.recv())
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "manifest.json").exists()
    latest = read_progress(latest_checkpoint(tmp_path / "killed"))
    assert (latest.refit_from is not None) == (checkpoints == IN_THE_SECOND_FIT)
    resumed = resume(tmp_path / "killed")
    assert resumed.steps == whole.steps
    assert weights(resumed.run) == weights(whole.run)
    assert resumed.metrics == whole.metrics
    assert timeless(resumed.run) == timeless(whole.run)


@pytest.mark.parametrize("name", ["write_report", "lines_of", "settle"])
def test_a_crash_while_saving_is_resumed_to_the_same_bits(
    make_config: MakeConfig, trained: Trained, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    whole = trained(**ONE_EPOCH)

    def crash(*arguments: object, **keywords: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(runs, name, crash)
        config = make_config("crashed", **ONE_EPOCH)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    resumed = resume(Path(config.output.dir))
    assert weights(resumed.run) == weights(whole.run)
    assert resumed.metrics == whole.metrics
    assert {path.name for path in resumed.run.iterdir()} == {path.name for path in whole.run.iterdir()}


def test_ctrl_c_stops_and_resume_goes_on_to_the_same_bits(
    make_config: MakeConfig, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once in the first fit, and once more in the second."""
    whole = trained(head=SAMPLED)
    config = make_config("stopped", head=SAMPLED)
    run = Path(config.output.dir)
    step = loop.take_step
    left = 0

    def interrupting(*arguments: Any, **options: Any) -> tuple[float, int]:
        nonlocal left
        told = step(*arguments, **options)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return told

    monkeypatch.setattr(loop, "take_step", interrupting)
    for steps, start in [(20, train), (36, None)]:
        left = steps
        outcome = start(config) if start else resume(run)
        assert outcome.interrupted
        assert not read_manifest(run)["complete"]
        assert Model.load(run).predict([{"text": "the old fox"}], k=1)[0][0].label == "fox"
    assert outcome.steps == 56
    assert outcome.metrics == whole.metrics
    resumed = resume(run)
    assert not resumed.interrupted
    assert resumed.steps == whole.steps
    assert weights(run) == weights(whole.run)
    assert timeless(run) == timeless(whole.run)


def test_a_damaged_checkpoint_is_not_continued(make_config: MakeConfig, tmp_path: Path) -> None:
    config = stopped(make_config)
    folder = latest_checkpoint(Path(config.output.dir))
    content = bytearray((folder / "optimizer.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "optimizer.safetensors").write_bytes(content)
    with pytest.raises(CorruptError, match=r"optimizer\.safetensors"):
        resume(Path(config.output.dir))


def stopped(make_config: MakeConfig) -> Config:
    """A run that was stopped after its first step."""
    config = make_config(train={"epochs": 100_000})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(runs, "stop_requested", lambda: nullcontext(lambda: True))
        assert train(config).interrupted
    return config


def test_interrupted_saves_and_stops(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(train={"epochs": 100_000, "patience": 100_000})
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    process = Command("train", path, "--json")
    while not (tmp_path / "run" / "metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert json.loads(process.stdout.read())["interrupted"]
    process.stop()
    Model.load(tmp_path / "run")


@pytest.mark.slow
def test_a_terminal_that_closes_saves_and_stops(make_config: MakeConfig, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(make_config(train=LONG).to_toml(), encoding="utf-8")
    pid, terminal = pty.fork()
    if not pid:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup lets children ignore
        os.execv(sys.executable, [sys.executable, "-m", "widemax", "train", str(path)])
    while not (tmp_path / "run" / "metrics.jsonl").exists():
        os.read(terminal, 65_536)
    os.close(terminal)
    os.waitpid(pid, 0)
    Model.load(tmp_path / "run")


LONG = {"epochs": 100_000, "patience": 100_000}


def test_the_time_limit_ends_the_run(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Short(Clock):
        looks = 0

        def is_over(self, step_s: float = 0.0) -> bool:
            self.looks += 1
            return self.looks > 60

    monkeypatch.setattr(runs, "Clock", Short)
    outcome = train(make_config(train={**LONG, "time_limit_s": 1e6}), reporter=PlainReporter(sys.stderr))
    assert not outcome.interrupted
    assert 50 < outcome.steps <= 60
    assert outcome.metrics["accuracy"] > 0.9
    assert (
        f"ended training after {round(outcome.steps / 17, 2):g} of 100,000 epochs" in capsys.readouterr().err
    )


def test_a_time_limit_that_reading_exceeds_is_told(
    make_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = train(make_config(train={**LONG, "time_limit_s": 0.01}), reporter=PlainReporter(sys.stderr))
    assert outcome.steps == 1
    told = capsys.readouterr().err
    assert "s of the 0.01 s, and evaluating and saving take about" in told
    assert "evaluating " in told
    Model.load(outcome.run)


def test_training_and_resuming_leave_the_threads_of_the_process(make_config: MakeConfig) -> None:
    before = torch.get_num_threads()
    config = stopped(make_config)
    with using_threads(before + 1):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(runs, "stop_requested", lambda: nullcontext(lambda: True))
            assert resume(Path(config.output.dir)).interrupted
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_patience_ends_the_run_and_the_best_weights_stay(make_config: MakeConfig) -> None:
    outcome = train(make_config(train={"epochs": 1000, "patience": 2, "refit": False}))
    records = records_of(outcome.run)
    assert len(records) < 100
    best = max(record["valid_mean_reciprocal_rank"] for record in records)
    assert outcome.metrics["mean_reciprocal_rank"] == best


def test_few_steps_prove_no_convergence(make_config: MakeConfig) -> None:
    outcome = train(make_config(train={"epochs": 5, "patience": 1, "refit": False}))
    records = records_of(outcome.run)
    assert len(records) == 5
    assert records[-1]["step"] < 100
    assert outcome.metrics["mean_reciprocal_rank"] == records[-1]["valid_mean_reciprocal_rank"]


def test_changed_data_are_not_resumed(make_config: MakeConfig, rows_file: Path) -> None:
    config = stopped(make_config)
    with rows_file.open("a", encoding="utf-8") as file:
        file.write('{"text": "a new cat", "animal": "cat"}\n')
    with pytest.raises(DataError, match="have changed"):
        resume(Path(config.output.dir))


def test_a_diverging_run_says_so(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="diverged"):
        train(make_config(train={"learning_rate": 1e38}))


@pytest.mark.parametrize("block_bytes", [300, 7000])
def test_files_of_many_blocks_train_to_the_same_bits(
    make_config: MakeConfig, trained: Trained, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    whole = trained(**ONE_EPOCH)
    monkeypatch.setattr(BlockFormat.__init__, "__kwdefaults__", {"block_bytes": block_bytes})
    monkeypatch.setattr(feed, "CHUNK_ROWS", 11)
    blocks = train(make_config("blocks", **ONE_EPOCH))
    assert weights(blocks.run) == weights(whole.run)
    assert blocks.metrics == whole.metrics


def test_nothing_held_out(make_config: MakeConfig) -> None:
    outcome = train(make_config(data={"valid_fraction": 0.0}))
    assert outcome.metrics == {}
    assert outcome.steps == 3 * 19
    assert Model.load(outcome.run).head.calibration_temperature == 1.0
    assert (outcome.run / "report.html").is_file()
    assert weights(resume(outcome.run).run) == weights(outcome.run)


def test_a_file_is_no_run_folder(make_config: MakeConfig, rows_file: Path) -> None:
    with pytest.raises(ResourceError, match=r"cannot write .*rows\.jsonl"):
        train(make_config(output={"dir": str(rows_file)}))
    with pytest.raises(UsageError, match="not a run folder"):
        resume(rows_file)


def test_validation_data_given(make_config: MakeConfig, tmp_path: Path) -> None:
    valid = tmp_path / "valid.jsonl"
    valid.write_text('{"text": "the cat", "animal": "cat"}\n{"text": "the emu", "animal": "emu"}\n')
    outcome = train(make_config(data={"valid": str(valid)}))
    assert outcome.metrics["unseen_labels"] == 1
    assert outcome.metrics["accuracy"] == 0.5


def test_validation_data_without_rows_are_named(make_config: MakeConfig, tmp_path: Path) -> None:
    valid = tmp_path / "valid.jsonl"
    valid.write_text("")
    with pytest.raises(DataError, match=r"valid\.jsonl"):
        train(make_config(data={"valid": str(valid)}))


@pytest.mark.parametrize(
    "head",
    [{"kind": "sampled", "num_sampled": 0}, {"kind": "exact", "temperature": 0.0}, {"temperature": -1.0}],
)
def test_options_out_of_range_are_refused(make_config: MakeConfig, head: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="must be a"):
        train(make_config(head=head))


def test_scratch_is_gone_and_threads_are_kept(make_config: MakeConfig) -> None:
    run = Path(stopped(make_config).output.dir)
    assert not (run / ".widemax").exists()
    progress = read_progress(latest_checkpoint(run))
    assert progress.num_threads > 0
    assert np.isfinite(progress.seconds)


def test_a_run_and_its_data_move_together(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    config = make_config(train={"epochs": 2})
    shutil.copy(config.data.train[0], project / "rows.jsonl")
    monkeypatch.chdir(project)
    section = config.data.model_copy(update={"train": ("rows.jsonl",)})
    output = config.output.model_copy(update={"dir": "runs/a"})
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(runs, "stop_requested", lambda: nullcontext(lambda: True))
        assert train(config.model_copy(update={"data": section, "output": output})).interrupted
    text = (project / "runs" / "a" / "config.toml").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    monkeypatch.chdir(tmp_path)
    project.rename(tmp_path / "elsewhere")
    outcome = resume(tmp_path / "elsewhere" / "runs" / "a")
    assert outcome.metrics["accuracy"] is not None
    assert str(tmp_path) not in (outcome.run / "config.toml").read_text(encoding="utf-8")
    loaded = Model.load(outcome.run)
    assert loaded.config.data.train == (str(tmp_path / "elsewhere" / "rows.jsonl"),)


@pytest.mark.parametrize(
    "sections",
    [
        {"data": {"target": "absent"}},
        {"head": {"kind": "exakt"}},
        {"train": {"metric": "acuracy"}},
        {"data": {"valid_fraction": 0.0, "max_valid_rows": 1, "kinds": {"text": "vector"}}},
    ],
)
@pytest.mark.parametrize("there", [False, True])
def test_a_run_that_fails_leaves_no_folder(
    make_config: MakeConfig, tmp_path: Path, sections: dict[str, Any], there: bool
) -> None:
    folder = tmp_path / "deep" / "er"
    if there:
        folder.mkdir(parents=True)
    config = make_config(**sections)
    config = config.model_copy(update={"output": config.output.model_copy(update={"dir": str(folder)})})
    with pytest.raises((UsageError, DataError)):
        train(config)
    assert folder.is_dir() is there
    assert (tmp_path / "deep").is_dir() is there
    assert list(tmp_path.glob("deep/er/*")) == []


def test_what_cannot_be_tidied_up_is_still_a_run(
    make_config: MakeConfig, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    alone = trained(**ONE_EPOCH).run
    config = make_config(**ONE_EPOCH)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refuse)
        patched.setattr(shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(ResourceError, match="Too many open files"):
            train(config)
    assert weights(resume(config.output.dir).run) == weights(alone)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_every_file_has_the_mode_of_new_ones(make_config: MakeConfig, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        run = train(make_config(train={"epochs": 1})).run
        Model.load(run).save(run.parent / "copy")
    finally:
        os.umask(before)
    files = [path for folder in (run, run.parent / "copy") for path in folder.rglob("*") if path.is_file()]
    assert {path.name: path.stat().st_mode & 0o777 for path in files} == dict.fromkeys(
        (path.name for path in files), mode
    )

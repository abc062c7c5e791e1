"""The loop over steps, with a job that only counts."""

from collections.abc import Generator
from pathlib import Path

import pytest

from widemax.config import TrainConfig
from widemax.errors import ConfigError
from widemax.training.checkpoint import Progress
from widemax.training.clock import Clock
from widemax.training.evaluate import Metrics
from widemax.training.progress import PlainReporter
from widemax.training.steps import Job, Watch, fit


class Counting(Job[int]):
    """Ten steps an epoch, each with its number as loss; held-out rows are best after the first epoch."""

    def __init__(self, run: Path, **settings: object) -> None:
        self.run = run
        self.config = TrainConfig(**{"metric": "nll", "epochs": 30, "patience": 2, **settings})
        self.progress = Progress("data", num_threads=1)
        self.num_rows, self.steps_per_epoch = 20, 10
        self.larger_is_better = False
        self.saved: list[int] = []

    def batches(self, steps: range) -> Generator[int, None, None]:
        yield from steps

    def step(self, batch: int, rate: float, *, epoch: int) -> tuple[float, int]:
        assert epoch == batch // 10
        assert rate == pytest.approx(1 - batch / (self.config.epochs * 10))
        return 2.0 * batch, 2

    def evaluate(self) -> Metrics:
        return {"nll": float(self.progress.step)}

    def save(self) -> None:
        assert self.progress.step not in self.saved, "a checkpoint that is there is not replaced"
        self.saved.append(self.progress.step)


def watch(stop: bool = False) -> Watch:
    return Watch(PlainReporter(quiet=True), lambda: stop, Clock(None))


def test_patience_ends_it_after_a_hundred_steps(tmp_path: Path) -> None:
    job = Counting(tmp_path)
    assert not fit(job, watch(), epochs=30, patient=True)
    assert job.progress.step == 120  # the best until then is the latest of the first hundred
    assert job.progress.best_step == 100
    assert job.saved == [*range(10, 101, 10), 120]  # not 110, which is worse
    assert [record["train_loss"] for record in job.progress.history[:2]] == [4.5, 14.5]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 12


@pytest.mark.parametrize("every_s", [60.0, 1e-9])
def test_the_end_of_patience_is_saved_once(tmp_path: Path, every_s: float) -> None:
    job = Counting(tmp_path, checkpoint_every_s=every_s)
    fit(job, watch(), epochs=30, patient=True)
    assert job.saved[-1] == 120
    assert not fit(job, watch(), epochs=30, patient=True)  # as where it was killed while it calibrated
    assert job.progress.step == 120


def test_what_is_not_judged_is_saved_at_the_end(tmp_path: Path) -> None:
    class Unjudged(Counting):
        def evaluate(self) -> Metrics:
            return {}

    job = Unjudged(tmp_path, epochs=3)
    assert not fit(job, watch(), epochs=3, patient=False)
    assert job.saved == [30]


def test_a_signal_ends_it_and_it_goes_on(tmp_path: Path) -> None:
    job = Counting(tmp_path, epochs=2)
    assert fit(job, watch(stop=True), epochs=2, patient=False)
    assert (job.progress.step, job.saved) == (1, [1])
    assert not fit(job, watch(), epochs=2, patient=False)
    assert job.progress.step == 20


def test_a_loss_that_is_no_number_is_told(tmp_path: Path) -> None:
    class Diverging(Counting):
        def step(self, batch: int, rate: float, *, epoch: int) -> tuple[float, int]:
            return float("nan"), 2

    with pytest.raises(ConfigError, match="training has diverged"):
        fit(Diverging(tmp_path), watch(), epochs=1, patient=False)

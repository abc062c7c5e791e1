"""One language model with three heads over 40,000 words: time of a step, and exact perplexity."""

import json
import statistics
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq

from widemax import charts
from widemax.charts import Panel
from widemax.config import Config
from widemax.data import resolve
from widemax.language.evaluate import evaluate
from widemax.recipes.base import Recipe, Results, recipes
from widemax.recipes.known import Known
from widemax.training.loop import train
from widemax.training.progress import PlainReporter

HEADS: dict[str, dict[str, Any]] = {
    "exact": {"kind": "exact"},
    "adaptive": {"kind": "adaptive"},
    "sampled": {"kind": "sampled", "num_sampled": 4096},
}
ENCODER = {"dim": 200, "length": 20, "rate": 0.2, "vocabulary": 50_000, "min_count": 1}
BATCH, EPOCHS, SEEDS = 32, 4, 3
QUICK_EVERY, QUICK_EPOCHS = 10, 2
UNKNOWN_EVERY = 10
"""In one of so many training documents, words that no other document has are unknown."""
GOAL = "goals set before the first run, for 2 threads of a CPU"
FEW = "with a tenth of the documents and fewer words the exact head is not as slow"


class StepTimes(PlainReporter):
    """The seconds from one step to the next."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.seconds: list[float] = []
        self._before = time.perf_counter()

    def step(self, step: int, total_steps: int, loss: float | None, rows_per_s: float) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self._before)
        self._before = now


@recipes.register("language-heads")
class LanguageHeads(Recipe):
    """The same LSTM and words under an exact, an adaptive and a sampled head."""

    title = "Heads of a language model: exact, adaptive, sampled"
    description = (
        "Three heads foretell the next of 40,000 words of the Brown corpus over the same LSTM, which reads "
        "the vectors that the head compares with (tied weights). Whatever trained a head, its perplexity is "
        "exact: over all words, all tokens of documents that were held out. Words of one document alone are "
        "the unknown word in a tenth of the training documents, so that it is learned."
    )
    data = ("brown",)
    full_time = "160 min"
    known = {  # noqa: RUF012 - read only
        "adaptive: steps in the time of an exact one": Known.at_least(6, digits=1, source=GOAL),
        "sampled: steps in the time of an exact one": Known.at_least(3, digits=1, source=GOAL),
        "adaptive: perplexity over that of exact": Known.at_most(1.03, digits=3, source=GOAL),
        "sampled: perplexity over that of exact": Known.at_most(1.05, digits=3, source=GOAL),
        "adaptive is better than exact at equal time": Known.yes(source=GOAL),
        "sampled is better than exact at equal time": Known.yes(source=GOAL),
        "quick, adaptive: steps in the time of an exact one": Known.at_least(2, digits=1, source=FEW),
        "quick, sampled: steps in the time of an exact one": Known.at_least(1, digits=1, source=FEW),
    }

    def run(self, results: Results, *, quick: bool, seed: int) -> None:
        every, epochs = (QUICK_EVERY, QUICK_EPOCHS) if quick else (1, EPOCHS)
        seeds = [seed] if quick else list(range(seed, seed + SEEDS))
        panel = Panel("", "seconds", "perplexity, held out")
        step_s: dict[str, float] = {}
        perplexity: dict[str, float] = {}
        curves: dict[str, tuple[list[float], list[float]]] = {}
        with TemporaryDirectory() as folder:
            files = write_texts(Path(folder), every=every)
            for name, head in HEADS.items():
                found, times = [], StepTimes()
                for each in seeds:
                    config = Config(
                        data={"train": files["train"], "valid": files["valid"], "task": "language"},
                        encoder=ENCODER,
                        head=head,
                        train={"epochs": epochs, "batch_size": BATCH, "seed": each, "patience": epochs},
                        output={"dir": str(Path(folder, f"{name}-{each}"))},
                    )
                    outcome = train(config, reporter=times)
                    found.append(evaluate(outcome.model, [files["test"]])["perplexity"])
                lines = (outcome.run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
                history = [json.loads(line) for line in lines]
                curves[name] = [r["seconds"] for r in history], [r["valid_perplexity"] for r in history]
                step_s[name], perplexity[name] = statistics.median(times.seconds), statistics.mean(found)
                shown = ", ".join(f"{value:.1f}" for value in found)
                results.find(f"{name}: {1e3 * step_s[name]:.0f} ms a step, perplexity {shown}")
        panel.lines(curves, markers=True)
        for name in ("adaptive", "sampled"):
            begins = "quick, " if quick else ""
            ratio = step_s["exact"] / step_s[name]
            results.obtain(f"{begins}{name}: steps in the time of an exact one", ratio)
            results.obtain(f"{name}: perplexity over that of exact", perplexity[name] / perplexity["exact"])
            seconds, values = curves[name]
            exact = [value for at, value in zip(*curves["exact"], strict=True) if at <= seconds[-1]]
            # An exact head that has not read all once is worse than when it has.
            results.obtain(
                f"{name} is better than exact at equal time",
                values[-1] < min(exact or curves["exact"][1][:1]),
            )
        results.draw(
            charts.figure(panel),
            "perplexity",
            title="Held-out perplexity as time passes",
            caption="A dot is an epoch; perplexity is over all words whatever the head was trained with.",
            alt="Three falling curves; those of the adaptive and the sampled head end long before that of "
            "the exact one.",
        )


def write_texts(folder: Path, *, every: int) -> dict[str, Path]:
    """Files of the documents of each split, or of one in so many."""
    files = {}
    for split in ("train", "valid", "test"):
        documents = pq.read_table(resolve(f"brown:{split}")[0])["text"].to_pylist()[::every]
        if split == "train":
            num_documents = Counter(word for text in documents for word in set(text.split()))
            documents[::UNKNOWN_EVERY] = [
                "\n".join(
                    " ".join("<unk>" if num_documents[word] == 1 else word for word in line.split())
                    for line in text.split("\n")
                )
                for text in documents[::UNKNOWN_EVERY]
            ]
        files[split] = folder / f"{split}.txt"
        files[split].write_text("".join(documents), encoding="utf-8")
    return files

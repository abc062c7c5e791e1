"""Letters of Shakespeare: what a small network learns of them in three minutes, and in an hour."""

import json
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

TRAINED = 0.9
"""The share of the characters that is trained on, as nanoGPT splits them."""
RUNS: dict[str, tuple[float, dict[str, Any]]] = {
    "3 minutes": (180, {"dim": 256, "length": 64, "rate": 0.0}),
    "60 minutes": (3600, {"dim": 512, "length": 64, "rate": 0.3}),
}
QUICK = {"40 seconds": (40, {"dim": 128, "length": 64, "rate": 0.0})}
BEGINNING = "ROMEO:\n"
NANOGPT = "nanoGPT's README, CPU, 3 minutes: 1.88 over 20 sampled batches; here over all of the last tenth"


@recipes.register("shakespeare")
class Shakespeare(Recipe):
    """A language model of characters, trained by the clock and asked for all that was held out."""

    title = "Shakespeare by the letter, in minutes"
    description = (
        "An LSTM reads nine tenths of 1.1 million characters of Shakespeare's plays and foretells each of "
        "the last tenth from all before it. The learning rate falls to zero as the time runs out."
    )
    data = ("tinyshakespeare",)
    full_time = "63 min"
    known = {  # noqa: RUF012 - read only
        "nats a character after 40 seconds": Known.at_most(2.2, digits=3, source=f"{NANOGPT} (1.88)"),
        "nats a character after 3 minutes": Known.at_most(1.75, digits=3, source=NANOGPT),
        "nats a character after 60 minutes": Known.at_most(
            1.55, digits=3, source="nanoGPT's README: 1.4697 with a Transformer on an A100"
        ),
    }

    def run(self, results: Results, *, quick: bool, seed: int) -> None:
        text = "\n\n".join(pq.read_table(resolve("tinyshakespeare")[0])["speech"].to_pylist())
        cut = int(TRAINED * len(text))
        panel = Panel("", "seconds", "nats a character, held out")
        with TemporaryDirectory() as folder:
            files = {"train": Path(folder, "train.txt"), "valid": Path(folder, "valid.txt")}
            files["train"].write_text(text[:cut], encoding="utf-8")
            files["valid"].write_text(text[cut:], encoding="utf-8")
            for name, (seconds, encoder) in (QUICK if quick else RUNS).items():
                config = Config(
                    data={**files, "task": "language"},
                    encoder={"unit": "character", **encoder},
                    train={"epochs": 1000, "patience": 1000, "time_limit_s": seconds, "seed": seed},
                    output={"dir": str(Path(folder, name))},
                )
                outcome = train(config)
                values = evaluate(outcome.model, [files["valid"]])
                results.obtain(f"nats a character after {name}", values["nll"])
                said = outcome.model.continue_(BEGINNING, tokens=200, temperature=0.8, seed=seed)
                results.find(f"after {name}: {BEGINNING}{said}")
                lines = (outcome.run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
                history = [json.loads(line) for line in lines]
                curve = [record["seconds"] for record in history], [r["valid_nll"] for r in history]
                panel.lines({name: curve}, markers=True)
        results.draw(
            charts.figure(panel),
            "losses",
            title="The held-out loss as time passes",
            caption="A dot is an epoch. The learning rate falls with the time that is left.",
            alt="Falling curves that flatten.",
        )

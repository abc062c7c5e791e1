"""A recipe of the tests."""

import pytest
import torch

from widemax.charts import Drawing
from widemax.recipes import Known, Recipe, Results
from widemax.recipes import run as running


class Coin(Recipe):
    """Throws a coin."""

    title = "A coin <thrown> often"
    description = "A coin is thrown, and heads are counted."
    full_time = "1 s"
    known = {  # noqa: RUF012 - a test changes nothing
        "share of heads": Known.near(0.5, within=0.1, digits=3, source="Bernoulli, Ars Conjectandi, 1713"),
        "logarithm of 0": Known.printed(0, digits=1, source="nobody"),
    }

    def run(self, results: Results, *, quick: bool, seed: int) -> None:
        results.obtain("share of heads", torch.rand(100 if quick else 10_000).round().mean())
        results.obtain("logarithm of 0", torch.zeros(()).log())
        results.draw(
            Drawing('<circle r="4"/>', 8, 8), "coin", title="Coin", caption="Heads & tails.", alt='A "coin".'
        )
        results.find("Heads come up about as often as tails.")


@pytest.fixture
def coin(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a registered recipe."""
    monkeypatch.setattr(running, "recipes", {"coin": Coin})
    return "coin"

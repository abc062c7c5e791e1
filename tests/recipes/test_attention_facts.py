"""The recipe's facts must be able to fail."""

import torch

from widemax.recipes import Results, attention_facts, recipes, run_recipe
from widemax.sequences import MultiHeadAttention


def test_every_fact_is_reached(tmp_path):
    outcome = run_recipe("attention-facts", folder=tmp_path, quick=True, seed=1)
    assert [line.what for line in outcome.results.lines if not line.reached] == []
    assert {line.what for line in outcome.results.lines} == set(recipes["attention-facts"].known)


def test_attention_without_its_mask_is_found_out(tmp_path, monkeypatch):
    forward = MultiHeadAttention.forward
    monkeypatch.setattr(
        MultiHeadAttention,
        "forward",
        lambda self, *tokens, **options: forward(
            self, *tokens, **(options | {"is_causal": False, "where": None})
        ),
    )
    results = Results(attention_facts.KNOWN, tmp_path)
    torch.manual_seed(0)
    monkeypatch.setattr(attention_facts, "QUICK_STEPS", 2)
    recipes["attention-facts"]().run(results, quick=True, seed=0)
    wrong = {line.what for line in results.lines if not line.reached}
    assert wrong == {
        "tokens with a cache differ from those without",
        "later tokens change what a decoder says of earlier ones",
        "padding changes what attention finds",
        "sequences reversed without a mistake",
        "weight on the mirrored place",
    }

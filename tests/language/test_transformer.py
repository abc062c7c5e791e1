"""The Transformer as a language model: windows, the past alone, and a cache that changes nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.language.conftest import MakeConfig, made_text

from widemax.language import LanguageModel, Stream, TransformerDecoder
from widemax.language import model as module
from widemax.language.tokens import lines_of
from widemax.training.loop import train

LENGTH = 12


@pytest.fixture(scope="module", params=["rotary", "learned"])
def model(
    make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> LanguageModel:
    encoder = {"kind": "transformer", "num_layers": 2, "num_heads": 2, "length": LENGTH}
    encoder |= {"positions": request.param, "rate": 0.0}
    run = tmp_path_factory.mktemp("transformer") / "run"
    return LanguageModel.load(train(make_config(run, encoder=encoder, epochs=4)).run)


def test_it_has_learned_the_language(model: LanguageModel) -> None:
    assert model.perplexity(made_text(40, seed=9)) < 5.5


def test_later_tokens_change_nothing(model: LanguageModel) -> None:
    vectors = torch.randn(1, 8, model.head.dim, generator=torch.Generator().manual_seed(0))
    changed = vectors.clone()
    changed[:, 5:] *= -1
    with torch.no_grad():
        hidden, other = (model.encoder.eval()(each)[0] for each in (vectors, changed))
    torch.testing.assert_close(hidden[:, :5], other[:, :5])
    assert (hidden[:, 5] - other[:, 5]).abs().max() > 1e-3


def test_a_token_is_told_from_half_a_window_before_it_at_least(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Stream.of(lines_of(made_text(12, seed=3)), model.vocabulary)
    ids = [model.vocabulary.end, *stream.ids_N.tolist()]
    expected = []
    with torch.no_grad():
        for place in range(len(stream)):
            start = max(place // (LENGTH // 2) - 1, 0) * (LENGTH // 2)
            hidden, _ = model.encoder.eval()(model.embedded(torch.tensor([ids[start : place + 1]])))
            logits = model.head.logits(hidden[:, -1])
            expected.append(float(logits.log_softmax(1)[0, ids[place + 1]]))
    for rows, tokens in [(16, 128), (1, 5), (3, 1)]:
        monkeypatch.setattr(module, "ROWS_AT_ONCE", rows)
        monkeypatch.setattr(module, "TOKENS_AT_ONCE", tokens)
        np.testing.assert_allclose(model.answers(stream).log_probs_N, expected, atol=1e-5)


def test_a_text_goes_on_beyond_the_window(model: LanguageModel) -> None:
    """As if all were read anew each time, from the beginning or where it was last read from."""
    ids = [model.vocabulary.end, *model.vocabulary.encode(["ka na"])[0]]
    first, new = 0, []
    with torch.no_grad():
        for _ in range(3 * LENGTH):
            if len(ids) - first > LENGTH:
                first = len(ids) - LENGTH // 2
            hidden, _ = model.encoder.eval()(model.embedded(torch.tensor([ids[first:]])))
            new.append(int(model.head.logits(hidden[:, -1]).argmax()))
            ids.append(new[-1])
    expected = model.vocabulary.decode(ids[1:])
    assert "ka na" + model.continue_("ka na", tokens=len(new), temperature=0.0) == expected


def test_a_new_token_is_one_step(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    forward = TransformerDecoder.forward

    def counting(self: TransformerDecoder, vectors: torch.Tensor, state: object = None) -> object:
        read.append(vectors.shape[1])
        return forward(self, vectors, state)

    monkeypatch.setattr(TransformerDecoder, "forward", counting)
    model.continue_("ka na", tokens=8)
    assert read == [3, *[1] * 7]


def test_a_long_beginning_is_read_from_its_end(model: LanguageModel, tmp_path: Path) -> None:
    text = made_text(30, seed=4).rstrip("\n")
    last = model.vocabulary.decode(Stream.of(lines_of(text), model.vocabulary).ids_N[-LENGTH // 2 :].tolist())
    options = {"tokens": 5, "temperature": 0.0}
    assert model.continue_(text, **options) != ""
    assert model.continue_(text, **options) == model.continue_("ba do\n" * 20 + last, **options)

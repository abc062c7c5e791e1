"""A saved language model: what it says of a text, what it adds to one, and what it refuses."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.language.conftest import WORDS, MakeConfig, made_text

from widemax.config import Config
from widemax.errors import ConfigError, DataError, OptionError
from widemax.language import LanguageModel, Stream
from widemax.language import model as module
from widemax.language.tokens import ListedVocabulary, lines_of
from widemax.training.loop import train

UNSEEN = made_text(40, seed=9)


def log_probs_one_by_one(model: LanguageModel, text: str) -> list[float]:
    """Those of all tokens, each from a pass over all before it and a plain softmax."""
    ids = [model.vocabulary.end, *(id_ for row in model.vocabulary.encode(lines_of(text)) for id_ in row)]
    found = []
    with torch.no_grad():
        for place in range(1, len(ids)):
            hidden, _ = model.encoder.eval()(model.embedded(torch.tensor([ids[:place]])))
            logits = model.head.logits(hidden[:, -1]).double()
            found.append(float(logits.log_softmax(1)[0, ids[place]]))
    return found


def test_it_has_learned_the_language(model: LanguageModel) -> None:
    """A pair takes log 9 nats, and whether the line ends; a model of single words has 10."""
    assert model.perplexity(UNSEEN) < 4.5


def test_perplexity_is_that_of_all_tokens_among_all_classes(model: LanguageModel) -> None:
    text = made_text(6, seed=3)
    expected = math.exp(-np.mean(log_probs_one_by_one(model, text)))
    assert model.perplexity(text) == pytest.approx(expected, rel=1e-6)
    assert model.perplexity(lines_of(text)) == model.perplexity(text)


def test_perplexity_does_not_depend_on_how_much_is_read_at_once(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Stream.of(lines_of(UNSEEN), model.vocabulary)
    whole = model.answers(stream)
    for rows, tokens in [(1, 1), (2, 7), (64, 1000)]:
        monkeypatch.setattr(module, "ROWS_AT_ONCE", rows)
        monkeypatch.setattr(module, "TOKENS_AT_ONCE", tokens)
        answers = model.answers(stream)
        np.testing.assert_allclose(answers.log_probs_N, whole.log_probs_N, atol=1e-5)
        np.testing.assert_array_equal(answers.ranks_N, whole.ranks_N)
        assert answers.log_probs_N.mean() == pytest.approx(whole.log_probs_N.mean(), rel=1e-6)


def test_places_of_a_long_text_are_read_after_a_context(model: LanguageModel) -> None:
    """Those tokens are told as well as from the beginning; without a context they are not."""
    text = made_text(1600, seed=5)
    stream = Stream.of(lines_of(text), model.vocabulary)
    assert len(stream) > model.encoder.segment(len(stream))
    several = model.answers(stream).log_probs_N
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(model.encoder), "segment", lambda self, num_tokens: num_tokens)
        np.testing.assert_allclose(several, model.answers(stream).log_probs_N, atol=1e-4)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(model.encoder), "context", 0)
        assert np.abs(several - model.answers(stream).log_probs_N).max() > 0.1


def test_the_most_probable_tokens_are_those_of_a_pass_over_all(model: LanguageModel) -> None:
    words = ["ka"]
    for _ in range(6):
        ids = torch.tensor([[model.vocabulary.end, *model.vocabulary.encode([" ".join(words)])[0]]])
        with torch.no_grad():
            hidden, _ = model.encoder.eval()(model.embedded(ids))
        best = int(model.head.topk(hidden[:, -1], 1).class_ids)
        words += [model.vocabulary.labels[best]]
    expected = model.vocabulary.decode([id_ for w in words for id_ in model.vocabulary.encode([w])[0][:1]])
    assert "ka" + model.continue_("ka", tokens=6, temperature=0.0) == expected


def test_draws_are_those_of_the_model(model: LanguageModel) -> None:
    """After "ba" comes "do" nearly always, after a pair any word; the same seed draws alike."""
    following = [model.continue_("ba", tokens=1, seed=seed).strip() for seed in range(60)]
    assert following.count(WORDS[3]) > 50
    after_pair = {model.continue_("ba do", tokens=1, seed=seed) for seed in range(60)}
    assert len(after_pair) > 5
    assert model.continue_("ba", tokens=9, seed=4) == model.continue_("ba", tokens=9, seed=4)
    assert model.continue_("ba", tokens=9, seed=4) != model.continue_("ba", tokens=9, seed=5)
    assert model.continue_("ba", tokens=0) == ""


def test_no_text_goes_on_with_the_class_of_unknown_words(model: LanguageModel) -> None:
    assert "<unk>" not in model.continue_("ba", tokens=500, temperature=100.0)


def test_words_stand_one_space_apart(model: LanguageModel) -> None:
    options = {"tokens": 3, "temperature": 0.0}
    assert model.continue_("ba", **options).startswith(" ")
    assert model.continue_("ba ", **options) == model.continue_("ba", **options)[1:]


HEADS = [
    {"kind": "exact"},
    {"kind": "adaptive", "cutoffs": [4, 8]},
    {"kind": "sampled", "num_sampled": 6},
    {"kind": "sampled", "num_sampled": 6, "sparse": False},
]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: "-".join(map(str, head.values())))
def test_every_head_learns_and_is_evaluated_over_all_classes(
    make_config: MakeConfig, tmp_path: Path, head: dict[str, object]
) -> None:
    outcome = train(make_config(tmp_path / "run", head=head, epochs=6))
    model = LanguageModel.load(outcome.run)
    text = made_text(6, seed=3)
    expected = math.exp(-np.mean(log_probs_one_by_one(model, text)))
    assert model.perplexity(text) == pytest.approx(expected, rel=1e-6)
    assert expected < 6.5  # of 11 classes
    assert not any(len(p) == len(model.vocabulary) for p in model.encoder.parameters())


@pytest.mark.parametrize(("num_words", "kind"), [(9_998, "exact"), (9_999, "adaptive")])
def test_the_head_follows_the_number_of_classes(num_words: int, kind: str) -> None:
    vocabulary = ListedVocabulary("word", ["<unk>", "\n", *map(str, range(num_words))])
    counts = np.arange(len(vocabulary), 0, -1)
    made = LanguageModel.build(Config(encoder={"dim": 4}), vocabulary, counts)
    assert made.config.head.kind == kind


def test_the_table_of_tokens_is_that_of_the_head(model: LanguageModel) -> None:
    assert not any(len(p) == len(model.vocabulary) for p in model.encoder.parameters())
    ids = torch.tensor([[2, 0]])
    torch.testing.assert_close(model.embedded(ids), model.head.weight[ids] * 4.0)


def test_a_text_of_nothing_has_no_perplexity(model: LanguageModel) -> None:
    with pytest.raises(DataError, match="without a token"):
        model.perplexity("")


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"encoder": {"kind": "text"}}, "encoder.kind must be 'lstm'"),
        ({"encoder": {"dims": 4}}, "did you mean 'dim'"),
        ({"head": {"kind": "counts"}}, "head.kind must be 'exact' or 'adaptive'"),
        ({"head": {"kind": "exact", "weight": "tower"}}, "without a tower"),
        ({"head": {"kind": "exact", "loss": "binary_cross_entropy"}}, "softmax"),
    ],
)
def test_wrong_options_are_told(model: LanguageModel, sections: dict[str, object], said: str) -> None:
    with pytest.raises((ConfigError, OptionError), match=said):
        LanguageModel.build(Config(**sections), model.vocabulary, model.counts)

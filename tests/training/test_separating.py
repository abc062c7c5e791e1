"""Separators and log odds have a part in the answers about texts unless held-out rows lose by it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow as pa
import pytest
import torch
from torch.distributions import Categorical
from torch.nn.functional import cross_entropy

from widemax import Config, Model, evaluate
from widemax.encoders import TextEncoder, bag_sum, to_tensors
from widemax.heads import ExactHead
from widemax.training import separating
from widemax.training.feed import Feed
from widemax.training.loop import resume, train
from widemax.training.runs import Outcome
from widemax.training.separating import (
    SHARES,
    SHARPNESS,
    Separation,
    add_separators,
    confidence_of,
    shares_of,
    sharpness_of,
    sureness,
    to_log_odds,
)

NUM_CLASSES = 6


def texts(num_rows: int, seed: int) -> pandas.DataFrame:
    """Twelve words of many, of which a share is among the hundred of the class."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, NUM_CLASSES, num_rows)
    words = rng.integers(0, 600, (num_rows, 12))
    is_own = rng.random(words.shape) < 0.3
    words[is_own] = (words // NUM_CLASSES * NUM_CLASSES + classes[:, None])[is_own]
    joined = [" ".join(f"w{word}" for word in row) for row in words]
    return pandas.DataFrame({"text": joined, "label": [f"class {each}" for each in classes]})


@pytest.fixture
def fitted(tmp_path: Path) -> Callable[..., Outcome]:
    def fit(name: str = "run", **sections: Any) -> Outcome:
        sections["train"] = {"epochs": 2, **sections.get("train", {})}
        config = Config(
            data={"target": "label"},
            output={"dir": str(tmp_path / name)},
            **{"encoder": {"char_ngrams": ()}, **sections},
        )
        return train(config, data=texts(900, 0))

    return fit


def has_separators(model: Model) -> bool:
    weight = model.head.state_dict()["weight"]
    return torch.equal(weight, torch.eye(*weight.shape))


def test_they_answer_better_and_are_part_of_the_saved_weights(fitted: Callable[..., Outcome]) -> None:
    outcome, alone = fitted(), fitted("alone", train={"separators": False}).model
    model, new = outcome.model, texts(600, 1)
    assert has_separators(model)
    assert not has_separators(alone)
    assert evaluate(model, new)["accuracy"] > evaluate(alone, new)["accuracy"] + 0.05
    assert Model.load(outcome.run).predict(new) == model.predict(new)
    assert fitted("again").model.predict(new) == model.predict(new)
    assert resume(outcome.run).model.predict(new) == model.predict(new)


def test_held_out_rows_are_as_strange_to_the_encoder_as_rows_to_come(
    fitted: Callable[..., Outcome],
) -> None:
    once, twice = (fitted(name, train={"refit": name == "twice"}).model.encoder for name in ("once", "twice"))
    alone = TextEncoder([("text", "text")], dim=1, char_ngrams=())
    features = alone.featurize({"text": pa.array(texts(900, 0)["text"])})
    alone.fit([features], generator=torch.Generator())
    idf, of_all, of_train = (encoder.state_dict()["idf_F"] for encoder in (alone, twice, once))
    assert torch.equal(of_all, idf)
    strange = of_train == 0
    assert 0.02 < strange.double().mean() < 0.2  # a tenth of the rows is held out, and most n-grams are rare
    assert (of_all[strange] > 6).all()


@pytest.mark.parametrize(
    "sections",
    [
        {"head": {"kind": "exact", "score": "cosine"}},
        {"head": {"kind": "sampled", "num_sampled": 4}},
        {"encoder": {"dim": NUM_CLASSES - 1}},
        {"train": {"time_limit_s": 2}},
    ],
)
def test_no_part_where_they_cannot_be_added(fitted: Callable[..., Outcome], sections: dict[str, Any]) -> None:
    assert not has_separators(fitted(**sections).model)


def test_no_part_where_held_out_rows_lose(
    fitted: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    def noise(model: Model, _: Feed) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(0)
        shape = 2, len(model.encoder.state_dict()["weight_FD"]), NUM_CLASSES
        separators, odds = scale * torch.randn(shape, generator=generator)
        return separators, odds

    alone = fitted("alone", train={"separators": False}).metrics["nll"]
    monkeypatch.setattr(separating, "linear_parts", noise)
    for scale in (1.0, 100.0):  # for the second of which the largest temperature is too low
        assert fitted(f"noise {scale}").metrics["nll"] == pytest.approx(alone, abs=0.03)


@pytest.mark.parametrize("sharpness", [0.0, 0.3])
def test_the_sum_of_both_logits_is_what_the_model_answers(
    fitted: Callable[..., Outcome], sharpness: float
) -> None:
    model = fitted(train={"separators": False}, head={"kind": "exact", "temperature": 0.5}).model
    assert isinstance(model.head, ExactHead)
    assert isinstance(model.encoder, TextEncoder)
    assert model.head.bias is not None
    features = to_tensors(model.encoder.encode({"text": pa.array(texts(20, 1)["text"])}))
    weights = torch.randn(2, len(model.encoder.weight_FD), NUM_CLASSES)
    hidden_BD, bias_C = model.encoder(features).detach(), 0.6 * model.head.bias.detach()
    both_BC = bag_sum(0.3 * weights[0] + 0.2 * weights[1], model.encoder.bag(features))
    sums_BC = 0.6 * (hidden_BD @ model.head.weight.T) + both_BC
    entropy_B = Categorical(logits=sums_BC + bias_C).entropy()
    expected_BC = sums_BC * (sharpness * entropy_B).exp()[:, None] + bias_C
    add_separators(model, list(weights), Separation((0.6, 0.3, 0.2), sharpness))
    model.head.calibration_temperature.fill_(1 / 0.5)
    np.testing.assert_allclose(
        model.head.logits(model.encoder(features)).detach(), expected_BC.detach(), atol=1e-4
    )


def test_log_odds_are_those_of_a_class_and_of_the_others_with_ten_usual_rows_each() -> None:
    rng = np.random.default_rng(0)
    rows_NF = rng.random((40, 7)) * (rng.random((40, 7)) < 0.5)
    classes = rng.integers(0, 3, 40)
    rows_NF[:, 6] = 0
    usual_F = 10 * rows_NF.mean(0)

    def log_probs(rows: np.ndarray) -> np.ndarray:
        sums_F = rows.sum(0) + usual_F
        return np.log(sums_F[:6] / sums_F.sum())

    odds_FC = np.stack(
        [log_probs(rows_NF[classes == c]) - log_probs(rows_NF[classes != c]) for c in range(3)], 1
    )
    sums_FC = torch.tensor(np.stack([rows_NF[classes == c].sum(0) for c in range(3)], 1), dtype=torch.float32)
    found_FC = to_log_odds(sums_FC, 40)
    np.testing.assert_allclose(found_FC[:6], odds_FC - odds_FC.mean(1, keepdims=True), atol=1e-5)
    assert not found_FC[6].any()


def test_shares_of_many_rows_are_those_that_drew_the_labels_and_a_part_that_misleads_has_none() -> None:
    parts = [*torch.randn(3, 20_000, 5, generator=torch.Generator().manual_seed(0))]
    true = 1.5 * parts[0] + 0.4 * parts[1] - 0.5 * parts[2]
    torch.manual_seed(0)
    labels_B = Categorical(logits=true).sample()
    shares = shares_of(parts, labels_B)
    assert shares[2] == 0
    assert shares[0] / shares[1] == pytest.approx(1.5 / 0.4, rel=0.1)


def test_shares_of_few_rows_stay_near_the_usual_ones() -> None:
    parts = [*torch.randn(3, 8, 5, generator=torch.Generator().manual_seed(0))]
    shares = shares_of(parts, torch.arange(8) % 5)
    np.testing.assert_allclose(shares / shares[0], np.array(SHARES) / SHARES[0], atol=0.3)


def test_answers_that_many_classes_share_are_made_sharper() -> None:
    generator = torch.Generator().manual_seed(0)
    logits_BC = 2 * torch.randn(4000, 20, generator=generator)
    labels_B = Categorical(logits=logits_BC).sample()
    entropy_B1 = Categorical(logits=logits_BC).entropy()[:, None]
    blurred_BC = logits_BC * (-0.3 * (entropy_B1 - entropy_B1.mean())).exp()
    assert sharpness_of(logits_BC, labels_B) == pytest.approx(0, abs=0.1)
    sharpness, temperature = confidence_of(blurred_BC, labels_B, blurred_BC, labels_B)
    assert sharpness == pytest.approx(sharpness_of(blurred_BC, labels_B), abs=0.02)
    entropy_B1 = Categorical(logits=blurred_BC).entropy()[:, None]
    mended_BC = blurred_BC * (sharpness * entropy_B1).exp() / temperature
    before, after, true = (cross_entropy(each, labels_B) for each in (blurred_BC, mended_BC, logits_BC))
    assert after - true < 0.2 * (before - true)


def test_few_rows_do_not_move_sharpness_far() -> None:
    sharpness = sharpness_of(torch.eye(4), torch.arange(4))
    assert sharpness * np.log(4) == pytest.approx(SHARPNESS, abs=0.05)


def drawn(num_rows: int, *, wrong: float, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, those of their linear parts, and labels of which a share is any class."""
    torch.manual_seed(seed)
    true_BC = 2 * torch.randn(num_rows, 10)
    labels_B = Categorical(logits=true_BC).sample()
    labels_B = torch.where(torch.rand(num_rows) < wrong, torch.randint(10, (num_rows,)), labels_B)
    return true_BC, true_BC + 0.5 * torch.randn(num_rows, 10), labels_B


def too_sure(logits_BC: torch.Tensor, labels_B: torch.Tensor, found: tuple[float, float]) -> float:
    """The mean confidence less the accuracy of logits as the model would answer them."""
    entropy_B1 = Categorical(logits=logits_BC).entropy()[:, None]
    sharpness, temperature = found
    return float(sureness(logits_BC * (sharpness * entropy_B1).exp() / temperature, labels_B)[1].mean())


def test_answers_are_as_sure_as_they_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    logits_BC, linear_BC, labels_B = drawn(20_000, wrong=0.2, seed=0)
    rows = logits_BC, labels_B, linear_BC, labels_B
    assert abs(too_sure(logits_BC, labels_B, confidence_of(*rows))) < 0.002
    monkeypatch.setattr(separating, "SURENESS_VARIANCE", 0.0)  # as the nll has it
    assert abs(too_sure(logits_BC, labels_B, confidence_of(*rows))) > 0.005


def test_linear_parts_of_more_rows_say_how_sure_the_answers_about_few_should_be() -> None:
    new_BC, _, new_B = drawn(20_000, wrong=0, seed=1000)
    with_more, alone = [], []
    for seed in range(20):
        logits_NC, linear_NC, labels_N = drawn(3000, wrong=0, seed=seed)
        few_BC, few_B, linear_BC = (each[:300] for each in (logits_NC, labels_N, linear_NC))
        with_more.append(too_sure(new_BC, new_B, confidence_of(few_BC, few_B, linear_NC, labels_N)))
        alone.append(too_sure(new_BC, new_B, confidence_of(few_BC, few_B, linear_BC, few_B)))
    assert np.square(with_more).mean() < 0.75 * np.square(alone).mean()


@pytest.mark.parametrize("num_rows", [5, 20, 100])
def test_confidence_from_few_rows_is_no_worse_than_none_in_expectation(num_rows: int) -> None:
    """Where nothing is to be mended but the sharpness that most texts have."""
    costs = []
    for seed in range(50):
        true_BC, linear_BC, labels_B = drawn(num_rows + 1000, wrong=0, seed=seed)
        entropy_B1 = Categorical(logits=true_BC).entropy()[:, None]
        blurred_BC = true_BC * (-SHARPNESS / np.log(10) * (entropy_B1 - entropy_B1.mean())).exp()
        few, new = slice(num_rows), slice(num_rows, None)
        sharpness, temperature = confidence_of(blurred_BC[few], labels_B[few], linear_BC[few], labels_B[few])
        entropy_B1 = Categorical(logits=blurred_BC).entropy()[:, None]
        found_BC = blurred_BC * (sharpness * entropy_B1).exp() / temperature
        found, without = (cross_entropy(each[new], labels_B[new]) for each in (found_BC, blurred_BC))
        costs.append(float(found - without))
    assert np.mean(costs) < 0.01


def test_more_rows_are_held_out_where_those_at_hand_are_few(
    fitted: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def seen(*rows: torch.Tensor) -> tuple[float, float]:
        sizes.append([len(each) for each in rows])
        return confidence_of(*rows)

    monkeypatch.setattr(separating, "confidence_of", seen)
    few = fitted("few", train={"refit": False})
    monkeypatch.setattr(separating, "ENOUGH_ROWS", 90)
    enough = fitted("enough", train={"refit": False})
    assert torch.equal(*(each.model.encoder.state_dict()["idf_F"] for each in (few, enough)))
    assert sizes == [[90, 90, 270, 270], [90, 90, 90, 90]]


def test_one_class_has_no_separators(tmp_path: Path) -> None:
    """Of its scores, which no other class is beside, there is no spread to divide by."""
    rows = texts(100, 0).assign(label="only")
    config = Config(data={"target": "label"}, output={"dir": str(tmp_path / "run")}, train={"epochs": 1})
    model = train(config, data=rows).model
    assert not has_separators(model)
    (answer,) = model.predict(["w1 w2"])[0]
    assert (answer.label, answer.probability) == ("only", 1.0)
    assert abs(answer.logit) < 100

"""Separators have a part in the answers about texts unless held-out rows lose by it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow as pa
import pytest
import torch

from widemax import Config, Model, evaluate
from widemax.encoders import TextEncoder, bag_sum, to_tensors
from widemax.heads import ExactHead
from widemax.training import separating
from widemax.training.feed import Feed
from widemax.training.loop import resume, train
from widemax.training.runs import Outcome
from widemax.training.separating import add_separators

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
    scale = 1.0

    def noise(model: Model, _: Feed) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        weight_FD = torch.randn(model.encoder.state_dict()["weight_FD"].shape, generator=generator)
        return scale * weight_FD[:, :NUM_CLASSES]

    monkeypatch.setattr(separating, "separators_of", noise)
    alone = fitted("alone", train={"separators": False}).metrics["nll"]
    assert fitted("noise").metrics["nll"] == pytest.approx(alone, abs=0.02)  # made small by its temperature
    scale = 100.0  # for which the largest temperature is too low
    assert not has_separators(fitted("loud").model)


def test_the_sum_of_both_logits_is_what_the_model_answers(fitted: Callable[..., Outcome]) -> None:
    model = fitted(train={"separators": False}, head={"kind": "exact", "temperature": 0.5}).model
    assert isinstance(model.head, ExactHead)
    assert isinstance(model.encoder, TextEncoder)
    features = to_tensors(model.encoder.encode({"text": pa.array(texts(20, 1)["text"])}))
    weight_FC = torch.randn(len(model.encoder.weight_FD), NUM_CLASSES)
    before_BC = model.head.logits(model.encoder(features)).detach()
    others_BC = bag_sum(weight_FC, model.encoder.bag(features))
    add_separators(model, weight_FC, 0.3)
    temperature = 0.5 * model.head.calibration_temperature
    np.testing.assert_allclose(
        model.head.logits(model.encoder(features)).detach(),
        before_BC + 0.3 / temperature * others_BC,
        atol=1e-4,
    )

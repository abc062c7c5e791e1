"""The numbers of the playground are the library's, and right."""

import math
from typing import Any

import numpy as np
import pytest

LOGITS = [2.0, 3.0, 4.0]
PAGE = "playground"


def softmax(logits: Any) -> Any:
    powers = np.exp(np.asarray(logits) - np.max(logits))
    return powers / powers.sum()


def test_the_gradient_is_probabilities_less_the_answer(studio: Any) -> None:
    answer = studio.post(f"{PAGE}/scores", logits=LOGITS, label=0)
    assert answer["softmax"] == pytest.approx(softmax(LOGITS))
    assert answer["gradient"] == pytest.approx(softmax(LOGITS) - [1, 0, 0])
    assert answer["loss"] == pytest.approx(-math.log(softmax(LOGITS)[0]))


def test_the_temperature_divides_logits(studio: Any) -> None:
    logits = [-0.5, 1.2, -0.1, 2.4]
    answer = studio.post(f"{PAGE}/scores", logits=logits, temperature=2.0)
    assert answer["softmax"] == pytest.approx(softmax(np.array(logits) / 2))
    assert answer["sigmoid"] == pytest.approx(1 / (1 + np.exp(-np.array(logits) / 2)))


def test_what_overflows_is_told_and_the_library_does_not(studio: Any) -> None:
    answer = studio.post(f"{PAGE}/overflow", logits=[10.0, 11.0, 12.0], dtype="float16")
    assert answer["powers"][2] == "inf"
    assert answer["naive"][2] == "nan"
    assert answer["softmax"] == pytest.approx(softmax([10, 11, 12]), abs=1e-3)
    assert studio.post(f"{PAGE}/overflow", logits=LOGITS, dtype="float64")["naive"] == pytest.approx(
        softmax(LOGITS)
    )


def test_hinges_are_content_beyond_their_margin(studio: Any) -> None:
    curves = studio.post(f"{PAGE}/losses", logits=[3.0, 0.0, -1.0])["curves"]
    assert curves["crammer_singer"]["here"] == {"loss": 0.0, "slope": 0.0}
    here = curves["cross_entropy"]["here"]
    assert here["loss"] == pytest.approx(-math.log(softmax([3, 0, -1])[0]))
    assert here["slope"] == pytest.approx(softmax([3, 0, -1])[0] - 1)


def test_draws_go_on_where_they_were(studio: Any) -> None:
    options = {"sampler": "log_uniform", "correction": "importance", "num_sampled": 50}
    whole = studio.post(f"{PAGE}/sampled", draws=8, **options)
    rest = studio.post(f"{PAGE}/sampled", first=5, draws=3, **options)
    assert whole["draws"][5:] == rest["draws"]
    assert whole["exact"] == rest["exact"]


def test_every_sampler_can_be_drawn_from_and_better_ones_are_nearer(studio: Any) -> None:
    names = studio.get(f"{PAGE}/samplers")["samplers"]
    errors = {}
    for name in names:
        answer = studio.post(f"{PAGE}/sampled", sampler=name, draws=24, num_sampled=50)
        errors[name] = np.linalg.norm(np.mean(answer["draws"], axis=0) - answer["exact"])
    assert set(errors) >= {"uniform", "midx", "in_batch"}
    assert errors["midx"] < errors["uniform"]


@pytest.mark.parametrize("shape", ["clouds", "moons", "rings", "spirals"])
def test_steps_one_by_one_are_the_steps_at_once(studio: Any, shape: str) -> None:
    options = {"shape": shape, "center_loss": 0.1}
    once = studio.post(f"{PAGE}/regions", steps=6, **options)
    first = studio.post(f"{PAGE}/regions", steps=2, **options)
    then = studio.post(f"{PAGE}/regions", steps=4, weights=first["weights"], **options)
    assert then["losses"] == once["losses"][2:]
    assert then["weights"] == once["weights"]
    assert then["classes"] == once["classes"]


def test_training_learns_and_a_center_loss_gathers(studio: Any) -> None:
    plain, gathered = (
        studio.post(f"{PAGE}/regions", shape="clouds", noise=0.1, steps=100, center_loss=strength)
        for strength in (0.0, 2.0)
    )
    assert plain["accuracy"] == 1.0

    def tightness(answer: Any) -> float:
        features, labels = np.array(answer["features"]), np.array(answer["labels"])
        means = np.array([features[labels == label].mean(0) for label in range(4)])
        within = np.linalg.norm(features - means[labels], axis=1).mean()
        return float(within / np.linalg.norm(means[0] - means[1:], axis=1).mean())

    assert tightness(gathered) < tightness(plain)


def test_wrong_questions_get_a_sentence(studio: Any) -> None:
    assert "classes 0 to 2; got 7" in studio.refused(f"{PAGE}/scores", logits=LOGITS, label=7)
    assert "logits" in studio.refused(f"{PAGE}/scores", logits=[1.0])
    assert "sampler" in studio.refused(f"{PAGE}/sampled", sampler="uniformly")
    weights = {"step": 1, "values": [0.5]}
    assert "Leave weights out" in studio.refused(f"{PAGE}/regions", weights=weights)
    wild = studio.post(f"{PAGE}/regions", num_classes=2)["weights"] | {"values": [1e300]}
    assert studio.client.post(f"{PAGE}/regions", json={"weights": wild}).status_code == 422
    far = studio.post(f"{PAGE}/regions", width=2)["weights"]
    far["values"] = [1e6] * len(far["values"])
    assert "left all bounds" in studio.refused(f"{PAGE}/regions", weights=far, width=2, steps=1)


def test_the_page_can_show_what_a_function_says(studio: Any) -> None:
    text = studio.get("reference/widemax.losses.cross_entropy")["text"]
    assert text.startswith("cross_entropy(logits")
    assert "Example:" in text
    assert "did you mean 'widemax.numerics.softmax'" in studio.refused("reference/widemax.numerics.softmx")

"""A loss, score, sampler or its class stands wherever its name does."""

import functools

import pytest
import torch

from widemax.classes import Classes
from widemax.errors import ConfigError, OptionError, ShapeError
from widemax.heads import ExactHead, SampledHead, heads
from widemax.heads.scores import CosFace
from widemax.losses import cross_entropy, focal, losses
from widemax.samplers import Frequency, Uniform

C, D, B = 12, 4, 5
HIDDEN = torch.randn(B, D, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([3, 0, 11, 3, 7])


def my_focal(logits, labels):
    """Plain softmax focal loss with gamma 2, which declares nothing."""
    log_prob_B = logits.log_softmax(1).gather(1, labels[:, None]).squeeze(1)
    return -((1 - log_prob_B.exp()) ** 2) * log_prob_B


def loss_with(**options):
    torch.manual_seed(0)
    return ExactHead(C, D, **options)(HIDDEN, LABELS).item()


def test_a_function_of_ones_own_is_a_loss():
    assert loss_with(loss=my_focal) == pytest.approx(loss_with(loss="focal"), rel=1e-6)
    assert ExactHead(C, D, loss=my_focal).normalizer == "softmax"


@pytest.mark.parametrize("loss", [focal, "focal", {"kind": "focal"}, {"kind": focal, "gamma": 2.0}])
def test_a_member_is_its_name(loss):
    assert loss_with(loss=loss) == loss_with(loss="focal")


def test_a_table_without_options_is_its_name_and_as_wide():
    one, other = (ExactHead(C, D, loss=loss) for loss in ("cross_entropy", {"kind": "cross_entropy"}))
    assert one.is_wide
    assert other.is_wide
    assert loss_with(loss={"kind": "cross_entropy"}, label_smoothing=0.1) == loss_with(label_smoothing=0.1)


def test_an_object_that_is_called_is_a_loss():
    powered = functools.partial(focal, gamma=2.0)
    assert loss_with(loss=powered) == loss_with(loss="focal")
    assert loss_with(loss=torch.nn.CrossEntropyLoss(reduction="none")) == pytest.approx(loss_with(), rel=1e-6)


FEW_LOSSES = [
    name for name in heads if name != "exact" and "loss" in heads.options(name).signature.parameters
]


@pytest.mark.parametrize("name", FEW_LOSSES)
def test_a_head_of_few_losses_takes_them_in_every_form(name):
    def build(loss):
        return heads[name](Classes(C, torch.ones(C)), D, loss=loss)

    for loss in ({"kind": "cross_entropy"}, {"kind": "cross_entropy", "z_loss": 0.0}, cross_entropy):
        torch.manual_seed(0)
        head = build(loss)
        torch.manual_seed(0)
        assert torch.equal(head(HIDDEN, LABELS), build("cross_entropy")(HIDDEN, LABELS))
    for loss in ({"kind": "cross_entropy", "z_loss": 0.1}, {"kind": "cross-entropy"}, focal, {}):
        with pytest.raises(OptionError, match=r"option .loss. of head .* must be .cross_entropy.*; got"):
            build(loss)


def test_a_table_of_yes_or_no_questions_is_their_name():
    head = SampledHead(C, D, sampler="uniform", loss={"kind": "binary_cross_entropy"})
    assert head.normalizer == "sigmoid"


def test_a_sampler_of_another_width_is_refused():
    with pytest.raises(ConfigError, match="must draw from the 12 classes; it has 5"):
        SampledHead(C, D, sampler=Uniform(5), num_sampled=3)


@pytest.mark.parametrize("correction", ["none", "conditional", "importance", "refined"])
def test_yes_or_no_questions_under_autocast(correction):
    head = SampledHead(
        C, D, sampler="uniform", num_sampled=4, loss="binary_cross_entropy", correction=correction
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head(HIDDEN, LABELS)
    assert loss.dtype == torch.float32
    loss.backward()


def test_what_a_loss_takes_is_declared_and_not_its_spelling():
    @losses.declare(takes="labels", answers="softmax")
    def spelled_targets(logits, targets):
        assert targets.shape == (len(logits),)
        return my_focal(logits, targets)

    @losses.declare(takes="targets", answers="sigmoid")
    def spelled_labels(logits, labels):
        assert labels.shape == logits.shape
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none").sum(1)

    assert loss_with(loss=spelled_targets) == pytest.approx(loss_with(loss="focal"), rel=1e-6)
    assert ExactHead(C, D, loss=spelled_labels).normalizer == "sigmoid"
    expected = loss_with(loss="binary_cross_entropy")
    assert loss_with(loss=spelled_labels) == pytest.approx(expected, rel=1e-6)


def test_a_wrong_declaration_is_refused():
    with pytest.raises(OptionError, match=r"of losses.register must be .* got .label.; did you mean .labels"):
        losses.register("mine", takes="label")


def test_a_loss_that_reduces_is_refused():
    with pytest.raises(ShapeError, match="'cross_entropy' must give one number a row"):
        loss_with(loss=torch.nn.functional.cross_entropy)


@pytest.mark.parametrize("score", [CosFace(margin=0.2), {"kind": CosFace, "margin": 0.2}])
def test_a_score_is_an_object_or_its_class(score):
    assert loss_with(score=score) == loss_with(score={"kind": "cosface", "margin": 0.2})


@pytest.mark.parametrize("sampler", [Uniform, Uniform(C), {"kind": Uniform}])
def test_a_sampler_is_an_object_or_its_class(sampler):
    torch.manual_seed(0)
    head = SampledHead(C, D, sampler=sampler, num_sampled=3)
    torch.manual_seed(0)
    named = SampledHead(C, D, sampler="uniform", num_sampled=3)
    assert torch.equal(head(HIDDEN, LABELS), named(HIDDEN, LABELS))


def test_a_sampler_class_is_given_the_counts_of_the_classes():
    head = SampledHead(Classes(C, torch.arange(C)), D, sampler=Frequency, num_sampled=3)
    assert head.sampler.probs(torch.tensor([0])) < head.sampler.probs(torch.tensor([11]))


def test_the_old_names_say_the_new_ones():
    for name in ("class_counts", "num_rows"):
        with pytest.raises(OptionError, match=f"no option '{name}'; pass Classes"):
            ExactHead(C, D, **{name: torch.ones(C)})

"""Margins at the label's cosine: values, shape and gradients everywhere in [−1, 1]."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from widemax.errors import ShapeError
from widemax.losses import (
    adaface,
    adaface_margin,
    adaface_quality,
    arcface,
    arcface_margin,
    cosface,
    cosface_margin,
    cosine_softmax,
    cross_entropy,
    sub_center_cosines,
)
from widemax.losses.cosine_softmax import sine

ANGLES = torch.linspace(0, math.pi, 1001, dtype=torch.float64)
COSINES = ANGLES.cos().clamp(-1, 1)
LABELS = torch.tensor([2, 0])


@pytest.fixture
def cosines():
    return torch.tensor([[0.1, -0.4, 0.7], [-0.2, 0.3, 0.25]], dtype=torch.float64)


def test_scale_multiplies_the_cosines(cosines):
    torch.testing.assert_close(
        cosine_softmax(cosines, LABELS, scale=10.0), cross_entropy(10 * cosines, LABELS)
    )


def test_no_margin_is_no_change(cosines):
    plain = cosine_softmax(cosines, LABELS)
    torch.testing.assert_close(cosface(cosines, LABELS, margin=0.0), plain)
    torch.testing.assert_close(arcface(cosines, LABELS, margin_radians=0.0), plain)
    norms = torch.tensor([20.0, 30.0])
    torch.testing.assert_close(adaface(cosines, LABELS, norms=norms, margin=0.0), plain)


def test_only_the_label_gets_the_margin(cosines):
    moved = cosines.clone()
    moved[0, 2] -= 0.35
    moved[1, 0] -= 0.35
    torch.testing.assert_close(cosface(cosines, LABELS), cosine_softmax(moved, LABELS))
    assert (cosface(cosines - 0.35, LABELS) < cosface(cosines, LABELS) + 1e-9).all()
    torch.testing.assert_close(cosface_margin(COSINES, margin=0.2), COSINES - 0.2)


# ArcFace.


@pytest.mark.parametrize("margin", [0.1, 0.5, 1.3, 2.0])
def test_arcface_adds_to_the_angle_up_to_pi(margin):
    inside = ANGLES + margin <= math.pi
    moved = arcface_margin(COSINES, margin_radians=margin)
    torch.testing.assert_close(moved[inside], (ANGLES + margin).cos()[inside], rtol=1e-10, atol=1e-10)
    assert not inside.all()


@pytest.mark.parametrize("margin", [0.1, 0.5, 1.3, 2.0])
def test_arcface_falls_without_a_jump(margin):
    moved = arcface_margin(COSINES, margin_radians=margin)
    assert (moved.diff() <= 1e-12).all()
    # Nowhere steeper than angles can make it: slope at most 1.
    assert moved.diff().abs().max() <= ANGLES[1] * 1.001
    periodic = (ANGLES + margin).cos()
    assert (periodic.diff() > 1e-12).any(), "the plain cosine rises again"
    published = torch.where(ANGLES + margin <= math.pi, periodic, COSINES - margin * math.sin(margin))
    assert published.diff().abs().max() > ANGLES[1] * 1.001, "the published continuation jumps"


@given(st.floats(-1, 1), st.floats(0, 3.1))
def test_arcface_never_helps_the_label(cosine, margin):
    moved = arcface_margin(torch.tensor(cosine, dtype=torch.float64), margin_radians=margin)
    assert moved <= cosine + 1e-9
    assert moved >= cosine - 2 - 1e-9


def test_arcface_gradient_is_exact_and_finite_at_the_poles():
    x = torch.tensor([-1.0, -1 + 1e-6, -0.95, -0.5, 0.0, 0.5, 1 - 1e-6, 1.0, 1 + 1e-7]).requires_grad_()
    (gradient,) = torch.autograd.grad(arcface_margin(x, margin_radians=0.5).sum(), x, create_graph=True)
    assert gradient.isfinite().all()
    (curvature,) = torch.autograd.grad(gradient.sum(), x)
    assert curvature.isfinite().all()
    angle = x.detach().double()[3:6].acos()
    exact = ((angle + 0.5).sin() / angle.sin()).float()
    torch.testing.assert_close(gradient[3:6], exact)
    assert not torch.allclose(exact, torch.ones(3)), "a straight-through estimate would be 1"
    naive = torch.tensor([1.0], requires_grad=True)
    (naive.acos() + 0.5).cos().sum().backward()
    assert not naive.grad.isfinite().all()


def test_sine_is_accurate_near_the_poles():
    for cosine in (1 - 2.0**-24, 0.999999, 0.5, -0.999999):
        x = torch.tensor(cosine, dtype=torch.float32)
        exact = math.sqrt((1 - x.item()) * (1 + x.item()))
        assert sine(x).item() == pytest.approx(exact, rel=1e-6)
    assert sine(torch.tensor([1.0, -1.0, 1.0000001])).tolist() == [0, 0, 0]


def test_gradient_reaches_vectors_finite_when_they_coincide():
    weight = torch.eye(3)
    hidden = torch.eye(3)[:2].clone().requires_grad_()
    loss = arcface(torch.nn.functional.normalize(hidden) @ weight.T, torch.tensor([0, 1]))
    loss.sum().backward()
    assert hidden.grad.isfinite().all()


# AdaFace.


def test_adaface_margin_is_that_of_the_paper():
    for quality in (-1.0, -0.3, 0.0, 0.4, 1.0):
        angle = (ANGLES - 0.4 * quality).clamp(0, math.pi)
        expected = angle.cos() - (0.4 * quality + 0.4)
        q = torch.full_like(COSINES, quality)
        torch.testing.assert_close(adaface_margin(COSINES, q, margin=0.4), expected, rtol=1e-9, atol=1e-9)
        wrong = (ANGLES + 0.4 * quality).cos() - (0.4 * quality + 0.4)
        assert quality == 0 or not torch.allclose(wrong, expected)


def test_adaface_lies_between_arcface_and_cosface():
    worst, middle = torch.full_like(COSINES, -1), torch.zeros_like(COSINES)
    inside = (ANGLES + 0.4).le(math.pi)
    arc = arcface_margin(COSINES, margin_radians=0.4)
    torch.testing.assert_close(adaface_margin(COSINES, worst, margin=0.4)[inside], arc[inside])
    torch.testing.assert_close(
        adaface_margin(COSINES, middle, margin=0.4), cosface_margin(COSINES, margin=0.4)
    )


def test_quality_comes_from_the_batch_unless_it_is_given():
    norms = torch.tensor([18.0, 20.0, 25.0, 400.0])
    cut = np.minimum(norms.numpy(), 100)
    expected = np.clip(0.333 * (cut - cut.mean()) / (cut.std(ddof=1) + 0.001), -1, 1)
    torch.testing.assert_close(adaface_quality(norms, spread=0.333), torch.tensor(expected))
    given_statistics = adaface_quality(norms, spread=1.0, norm_mean=torch.tensor(20.0), norm_std=1.999)
    torch.testing.assert_close(given_statistics, torch.tensor([-1.0, 0.0, 1.0, 1.0]))
    assert adaface_quality(norms[:1], spread=0.333).tolist() == [0]
    assert adaface_quality(norms[:0], spread=0.333).shape == (0,)
    assert adaface_quality(norms.half(), spread=0.333).dtype == torch.float32


def test_norms_get_no_gradient_and_must_fit(cosines):
    norms = torch.tensor([20.0, 30.0], requires_grad=True)
    loss = adaface(cosines.requires_grad_(), LABELS, norms=norms)
    loss.sum().backward()
    assert norms.grad is None
    with pytest.raises(ShapeError, match=r"norms must have the shape \(2,\); got \(2, 1\)"):
        adaface(cosines, LABELS, norms=norms[:, None])


# Sub-centers.


def test_the_nearest_sub_center_counts():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(3, 2, 5, generator=generator, dtype=torch.float64)
    actual = sub_center_cosines(hidden, weight)
    each = torch.nn.functional.cosine_similarity(hidden[:, None, None], weight[None], dim=3)
    torch.testing.assert_close(actual, each.amax(2))
    assert not torch.allclose(actual, each.mean(2))
    one = sub_center_cosines(hidden, weight[:, :1])
    torch.testing.assert_close(one, each[:, :, 0])
    assert sub_center_cosines(hidden.half(), weight.half()).dtype == torch.float32


def test_a_hidden_vector_of_zeros_has_no_direction():
    hidden = torch.zeros(1, 3, requires_grad=True)
    cosines = sub_center_cosines(hidden, torch.ones(2, 2, 3))
    cosines.sum().backward()
    assert cosines.tolist() == [[0, 0]]
    assert hidden.grad.isfinite().all()

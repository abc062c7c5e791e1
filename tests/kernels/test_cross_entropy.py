"""Every form of the loss of a wide layer gives the value and the gradients of the plain one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from wide_layer import B, C, D, layer, targets

from widemax.errors import LabelError, ShapeError, UsageError
from widemax.kernels import Pairs, budget, linear_cross_entropy
from widemax.losses import binary_cross_entropy, cross_entropy, reduce_loss

WEIGHTS = torch.linspace(0.5, 2, B, dtype=torch.float64)
SHIFTS = torch.linspace(-2, 1, len(targets()[1]), dtype=torch.float64)
CASES = [
    {},
    {"temperature": 0.3, "label_smoothing": 0.1},
    {"normalizer": "sigmoid", "temperature": 2.0},
    {"target_shifts": SHIFTS, "label_smoothing": 0.1, "temperature": 0.5},
    {"target_shifts": SHIFTS, "normalizer": "sigmoid"},
    {"z_loss": 0.1, "temperature": 0.5, "label_smoothing": 0.1},
]
every_case = pytest.mark.parametrize("options", CASES)


@pytest.fixture(
    params=[("tiled", 1), ("tiled", 1000), ("fused", 5), ("fused", 1000)], ids="{0[0]} {0[1]}".format
)
def impl(request, monkeypatch):
    """A form that streams, with tiles of so many classes and chunks of as few rows as may be."""
    name, width = request.param
    set_sizes(monkeypatch, width)
    return name


def set_sizes(monkeypatch, width):
    monkeypatch.setattr(budget, "MIN_TILE_WIDTH", width)
    monkeypatch.setattr(budget, "TILE_ELEMENTS", 1)
    monkeypatch.setattr(budget, "HELD_ELEMENTS", 1)
    monkeypatch.setattr(budget, "MOST_LOSS_ELEMENTS", 4 * C)


def results(tensors, impl, *, labels=None, **options):
    """Loss, and gradients of all that has one."""
    if labels is None:
        labels, options["target_weights"] = targets()
    options = {"sample_weight": WEIGHTS, "reduction": "mean"} | options
    loss = linear_cross_entropy(*tensors, labels, impl=impl, **options)
    learned = (*tensors, options["sample_weight"], options.get("target_shifts"))
    inputs = [x for x in learned if x is not None and x.requires_grad]
    return loss, *torch.autograd.grad(loss.sum(), inputs)


def assert_equal(found, expected, **tolerance):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **tolerance)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_plain_is_the_loss_of_the_logits(kind, reduction):
    (hidden, weight, bias), (pairs, masses) = layer(), targets()
    target_BC = torch.zeros(B, C, dtype=torch.float64).index_put(tuple(pairs), masses.double())
    loss_fn = cross_entropy if kind == "softmax" else binary_cross_entropy
    options = {"z_loss": 0.1} if kind == "softmax" else {}
    loss_B = loss_fn((hidden @ weight.T + bias) / 0.5, target_BC, **options)
    expected = reduce_loss(loss_B, sample_weight=WEIGHTS, reduction=reduction)
    options |= {"normalizer": kind, "temperature": 0.5, "reduction": reduction}
    torch.testing.assert_close(results(layer(), "plain", **options)[0], expected)


@st.composite
def layers(draw):
    """A layer, its labels, and options, all of several kinds."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    rows, classes, dim = draw(st.integers(0, 9)), draw(st.integers(1, 30)), draw(st.integers(1, 6))

    def numbers(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()

    counts_B = torch.randint(0, min(classes, 3) + 1, (rows,), generator=generator)
    orders = [torch.randperm(classes, generator=generator)[:count] for count in counts_B.tolist()]
    several = Pairs(torch.arange(rows).repeat_interleave(counts_B), torch.cat([*orders, torch.arange(0)]))
    one = torch.randint(classes, (rows,), generator=generator)
    kind = draw(st.sampled_from(["softmax", "sigmoid"]))
    options = {
        "labels": draw(st.sampled_from([one, several])),
        "normalizer": kind,
        "temperature": draw(st.sampled_from([0.3, 1.0])),
        "label_smoothing": draw(st.sampled_from([0.0, 0.2])) if kind == "softmax" else 0.0,
        "z_loss": draw(st.sampled_from([0.0, 0.1])) if kind == "softmax" else 0.0,
        "sample_weight": draw(
            st.sampled_from([None, torch.rand(rows, generator=generator).double().requires_grad_()])
        ),
        "reduction": draw(st.sampled_from(["mean", "sum", "none"])),
    }
    return [
        numbers(rows, dim),
        numbers(classes, dim),
        draw(st.sampled_from([None, numbers(classes)])),
    ], options


@given(layers(), st.sampled_from(["auto", "tiled", "fused"]), st.sampled_from([torch.float64, torch.float32]))
@settings(deadline=None, max_examples=60)
def test_every_form_gives_the_same(layer, impl, dtype):
    tensors, options = layer
    if impl == "fused" and options["reduction"] == "none":
        return
    expected = results(tensors, "plain", **options)
    with pytest.MonkeyPatch.context() as monkeypatch:
        set_sizes(monkeypatch, 7)
        narrow = [None if x is None else x.detach().to(dtype).requires_grad_() for x in tensors]
        found = results(narrow, impl, **options)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    assert_equal([x.double() for x in found], expected, rtol=tolerance, atol=tolerance)


@every_case
def test_targets_of_any_mass_and_shift(impl, options):
    expected = results(layer(), "plain", **options)
    assert_equal(results(layer(), impl, **options), expected, rtol=1e-10, atol=1e-10)


@every_case
def test_gradients_have_gradients(impl, options):
    options = options | {"sample_weight": WEIGHTS.clone().requires_grad_(), "reduction": "sum"}
    shifts = [options["target_shifts"].clone().requires_grad_()] if "target_shifts" in options else [None]

    def loss(hidden, weight, bias, sample_weight, shifts=None):
        given = options | {"sample_weight": sample_weight, "target_shifts": shifts}
        return linear_cross_entropy(hidden, weight, bias, *targets(), impl=impl, **given)

    inputs = [x for x in (*layer(), options["sample_weight"], *shifts) if x is not None]
    assert torch.autograd.gradcheck(loss, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(loss, inputs, fast_mode=True)


@every_case
def test_extreme_logits_stay_accurate(impl, options):
    exact = results(layer(scale=1e4), "plain", **options)
    narrow = [tensor.detach().float().requires_grad_() for tensor in layer(scale=1e4)]
    for one, other in zip(results(narrow, impl, **options), exact, strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-2 * other.abs().max().item())


@pytest.mark.parametrize("options", [CASES[0], CASES[2]])
def test_a_masked_class_has_no_gradient(impl, options):
    tensors = layer()
    with torch.no_grad():
        tensors[2][[1, 20]] = -torch.inf
    expected = results(tensors, "plain", **options)
    assert_equal(results(tensors, impl, **options), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("frozen", [0, 1, 2])
@pytest.mark.parametrize("options", [CASES[0], CASES[2]])
def test_frozen_inputs_receive_nothing(impl, options, frozen):
    tensors = layer()
    tensors[frozen].requires_grad_(False)
    linear_cross_entropy(*tensors, *targets(), impl=impl, reduction="sum", **options).backward()
    assert [tensor.grad is None for tensor in tensors] == [index == frozen for index in range(3)]


def test_backward_again_and_scaled(impl):
    hidden, weight, bias = layer()
    loss = linear_cross_entropy(hidden, weight, bias, *targets(), impl=impl, reduction="sum")
    first = torch.autograd.grad(loss, weight, retain_graph=True)[0]
    again = torch.autograd.grad(3 * loss, weight, retain_graph=True)[0]
    torch.testing.assert_close(again, 3 * first)
    for _ in range(2):
        loss.backward(retain_graph=True)
    torch.testing.assert_close(weight.grad, 2 * first)


@pytest.mark.parametrize("options", [CASES[0], CASES[2]])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
def test_16_bits_are_as_accurate_as_the_plain_form(impl, options, dtype, autocast):
    kept = [tensor.detach().to(dtype) for tensor in layer()]
    tensors = [(x.float() if autocast else x).requires_grad_() for x in kept]
    exact = results([x.double().requires_grad_() for x in kept], "plain", **options)
    with torch.autocast("cpu", dtype=dtype, enabled=autocast):
        by_plain, found = (results(tensors, form, **options) for form in ("plain", impl))
    assert [x.dtype for x in found] == [torch.float32, *(x.dtype for x in tensors)]
    for one, other, truth in zip(found, by_plain, exact, strict=True):
        error, allowed = ((x.double() - truth).abs().max() for x in (one, other))
        assert error <= 2 * allowed + 1e-2 * truth.abs().max()


@pytest.mark.parametrize("form", ["tiled", "fused"])
def test_a_scaled_loss_saves_small_gradients_of_float16(form):
    # Each row's part of the gradient, 1e-5 / 1000, would be 0 in float16; a scaler multiplies by 2^16.
    hidden = torch.ones(1000, 1, dtype=torch.float16)
    weight = torch.zeros(2, 1, dtype=torch.float16, requires_grad=True)
    bias = torch.tensor([11.5, 0.0], dtype=torch.float16)
    labels = torch.zeros(1000, dtype=torch.int64)
    loss = linear_cross_entropy(hidden, weight, bias, labels, reduction="mean", impl=form)
    (2**16 * loss).backward()
    expected = 2**16 * torch.sigmoid(torch.tensor(-11.5))
    torch.testing.assert_close(weight.grad[1, 0].float(), expected, rtol=1e-2, atol=0)


@pytest.mark.parametrize("form", ["plain", "tiled", "fused"])
def test_an_empty_batch_has_no_loss(form):
    hidden, weight = torch.zeros(0, D, requires_grad=True), torch.zeros(C, D, requires_grad=True)
    loss = linear_cross_entropy(hidden, weight, None, torch.arange(0), reduction="mean", impl=form)
    loss.backward()
    assert loss == 0
    assert weight.grad.abs().sum() == 0


# torch.compile makes an instance of the class itself.
@pytest.mark.filterwarnings("ignore:.*autograd.function.Function.*instantiated:DeprecationWarning")
@pytest.mark.parametrize("form", ["plain", "tiled", "fused"])
@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_compiles_into_one_graph(monkeypatch, form, reduction):
    set_sizes(monkeypatch, 10)
    if (form, reduction) == ("fused", "none"):
        return
    options = {"reduction": reduction, "label_smoothing": 0.1}
    labels = torch.randint(C, (B,), generator=torch.Generator().manual_seed(0))

    @torch.compile(fullgraph=True, backend="aot_eager")
    def loss(*tensors):
        return linear_cross_entropy(*tensors, labels, impl=form, **options)

    tensors = layer()
    found = loss(*tensors)
    expected = results(layer(), "plain", labels=labels, sample_weight=None, **options)
    assert_equal([found, *torch.autograd.grad(found.sum(), tensors)], expected)


def test_auto_can_be_transformed(monkeypatch):
    monkeypatch.setattr(budget, "PLAIN_ELEMENTS", 0)
    hidden, weight, bias = (x.detach() for x in layer())
    labels = torch.arange(B)

    def loss(hidden_D, label):
        return linear_cross_entropy(hidden_D[None], weight, bias, label[None], reduction="sum")

    found_BD = torch.func.vmap(torch.func.grad(loss))(hidden, labels)
    expected_BD = results(
        [hidden.requires_grad_(), weight, bias], "plain", labels=labels, sample_weight=None, reduction="sum"
    )
    torch.testing.assert_close(found_BD, expected_BD[1])


@pytest.mark.parametrize("form", ["plain", "tiled"])
@pytest.mark.parametrize("bad", [-1, C, -100])
def test_a_label_outside_the_classes_is_named(form, bad):
    labels = torch.tensor([0, 1, bad, 2, 3, 4])
    with pytest.raises(LabelError, match=f"got {bad} at row 2"):
        linear_cross_entropy(*layer(), labels, impl=form)


def test_wrong_calls_are_explained():
    hidden, weight, bias = layer()
    with pytest.raises(UsageError, match=r"impl.*got 'tild'; did you mean 'tiled'\?"):
        linear_cross_entropy(hidden, weight, bias, *targets(), impl="tild")
    with pytest.raises(UsageError, match="impl 'fused' needs reduction"):
        linear_cross_entropy(hidden, weight, bias, *targets(), impl="fused")
    with pytest.raises(UsageError, match="option 'reduction' of linear_cross_entropy must be"):
        linear_cross_entropy(hidden, weight, bias, *targets(), reduction="average")
    with pytest.raises(ShapeError, match=rf"hidden must be \[B, {D}\]"):
        linear_cross_entropy(hidden[:, 1:], weight, bias, *targets())

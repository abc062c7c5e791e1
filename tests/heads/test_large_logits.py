"""Answers and losses about logits of any size are those of torch.log_softmax in float64."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from widemax.heads import (
    ExactHead,
    exact_softmax_loss,
    heads,
    sampled_softmax_loss,
)
from widemax.kernels import Pairs, budget, stream_classes
from widemax.samplers import Candidates

pytestmark = pytest.mark.usefixtures("kernels")

LARGEST = {dtype: torch.finfo(dtype).max for dtype in (torch.float32, torch.float64)}
MAGNITUDES = [0.0, 0.7, 30.0, 1e3, 1e5, 1e7, 1e12, 1e20, 1e38]
FORMS = ["plain", "tiled", "fused"]


@st.composite
def rows_of_logits(draw):
    """[C] logits of one size, equal ones and impossible classes among them, of which one is possible."""
    dtype = draw(st.sampled_from(list(LARGEST)))
    size = draw(st.sampled_from([*MAGNITUDES, LARGEST[dtype]]))
    factors = st.sampled_from([1.0, 1.0, -1.0, 0.5, 1 - 1e-6, 1 / 3, 0.0, -torch.inf])
    row = draw(st.lists(factors, min_size=1, max_size=7))
    logits_C = torch.tensor([draw(st.sampled_from([1.0, -1.0])), *row], dtype=torch.float64) * size
    return logits_C.nan_to_num(nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf).to(dtype)


def require_same(found, exact, logits, *, size=1.0):
    """Within a few roundings of numbers of a size; what the narrower dtype cannot hold is infinite in it."""
    eps = torch.finfo(logits.dtype).eps
    expected = exact.to(found.dtype)
    torch.testing.assert_close(found, expected, rtol=8 * eps, atol=8 * eps * size)


def one_hidden(logits_C):
    return torch.ones(1, 1, dtype=logits_C.dtype), logits_C[:, None]


def exact_log_probs(logits_C):
    return logits_C.double().log_softmax(0)


@given(rows_of_logits())
def test_answers(logits_C):
    exact_C = exact_log_probs(logits_C)
    hidden, weight = one_hidden(logits_C)
    head = ExactHead(len(logits_C), 1, bias=False).to(logits_C.dtype)
    head.weight.data = weight
    every_C = torch.arange(len(logits_C))
    require_same(head.log_probs(hidden, every_C)[0], exact_C, logits_C)
    best = head.topk(hidden, len(logits_C))
    require_same(best.log_probs[0], exact_C[best.class_ids[0]], logits_C)
    label = int(logits_C.argmin())
    answers = head.answer(hidden, torch.tensor([label]), k=1)
    require_same(answers.label_log_probs, exact_C[label, None], logits_C)
    require_same(answers.square_sum, (2 * exact_C).exp().sum()[None], logits_C)


@given(rows_of_logits(), st.sampled_from([0.0, 0.1]))
@pytest.mark.parametrize("form", FORMS)
def test_losses_and_their_gradients(form, logits_C, smoothing):
    exact_C = exact_log_probs(logits_C)
    hidden, weight = one_hidden(logits_C)
    for label in (int(logits_C.argmin()), int(logits_C.argmax())):
        weight = weight.detach().requires_grad_()
        if smoothing and (exact_C.sum().to(logits_C.dtype).isinf() or logits_C.double().sum().isinf()):
            continue  # an infinite loss whatever the label, or sums over classes that no number holds
        loss = exact_softmax_loss(
            *(hidden, weight, torch.tensor([label])), label_smoothing=smoothing, reduction="sum", impl=form
        )
        exact = -(1 - smoothing) * exact_C[label] - (smoothing * exact_C.mean() if smoothing else 0.0)
        # Logits of all classes are added up in float64, which is wider than float32 alone.
        is_wide = bool(smoothing) and logits_C.dtype == torch.float64
        require_same(loss, exact, logits_C, size=max(1.0, float(logits_C.abs().max())) if is_wide else 1.0)
        if loss.isfinite():
            loss.backward()
            target_C = torch.full_like(exact_C, smoothing / len(exact_C))
            target_C[label] += 1 - smoothing
            require_same(weight.grad[:, 0], exact_C.exp() - target_C, logits_C)


@given(rows_of_logits(), st.sampled_from(["none", "conditional", "importance"]))
def test_a_sample_of_all_classes(logits_C, correction):
    exact_C = exact_log_probs(logits_C)
    hidden, weight = one_hidden(logits_C)
    every = Candidates(torch.arange(len(logits_C)), torch.zeros(len(logits_C)), torch.zeros(1))
    for label in (int(logits_C.argmin()), int(logits_C.argmax())):
        loss = sampled_softmax_loss(hidden, weight, torch.tensor([label]), every, correction=correction)
        require_same(loss, -exact_C[label, None], logits_C)


@pytest.mark.parametrize("size", [1e5, 1e12, 1e37])
@pytest.mark.parametrize("form", FORMS)
def test_many_tiles(monkeypatch, form, size):
    for limit, value in {
        "TILE_ELEMENTS": 64,
        "SMALL_TILE_ELEMENTS": 64,
        "BLOCK_ELEMENTS": 64,
        "MIN_TILE_WIDTH": 8,
    }.items():
        monkeypatch.setattr(budget, limit, value)
    generator = torch.Generator().manual_seed(0)
    logits_C = size * torch.randint(-3, 4, (1000,), generator=generator).float()
    logits_C[8:16] = -torch.inf  # a whole tile
    hidden, weight = one_hidden(logits_C)
    exact_C = exact_log_probs(logits_C)
    label = int(logits_C.argmax())
    loss = exact_softmax_loss(hidden, weight, torch.tensor([label]), reduction="sum", impl=form)
    require_same(loss, -exact_C[label], logits_C)
    nothing = Pairs(torch.arange(0), torch.arange(0))
    found = stream_classes(hidden, weight, None, nothing, nothing, k=5)
    require_same(found.log_probs(found.topk_logits_BK)[0], exact_C[found.topk_ids_BK[0]], logits_C)


@pytest.mark.parametrize("size", MAGNITUDES[2:-1])
@pytest.mark.parametrize("kind", sorted(heads))
def test_every_head_gives_probabilities(kind, size):
    torch.manual_seed(0)
    options = {"num_sampled": 64, "sampler": "uniform"} if kind == "sampled" else {}
    head = heads[kind](23, 5, **options)
    hidden, labels = torch.randn(6, 5), torch.arange(6)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape).sign() * size)
    log_probs_BC = head.log_probs(hidden, torch.arange(23))
    assert not log_probs_BC.isnan().any()
    if head.normalizer == "softmax":
        torch.testing.assert_close(log_probs_BC.exp().sum(1), torch.ones(6))
    assert not head.topk(hidden, 23).log_probs.isnan().any()
    answers = head.answer(hidden, labels, k=3)
    assert not answers.label_log_probs.isnan().any()
    assert not head(hidden, labels).isnan()

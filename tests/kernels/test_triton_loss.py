"""The kernels of Triton, run by its interpreter on the CPU, give the plain loss and its gradients."""

import os
import sys
from importlib.util import find_spec

import pytest
import torch

# Read once, when Triton is loaded; where there is a GPU the kernels run on it.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

from widemax import kernels
from widemax.errors import UsageError
from widemax.kernels import linear_cross_entropy, triton_loss

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_triton = pytest.mark.skipif(not find_spec("triton"), reason="no Triton: pip install 'widemax[triton]'")


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tiles of each kind, and several chunks of rows, in small layers."""
    for name in ("ROWS", "CLASSES", "DEPTH"):
        monkeypatch.setattr(triton_loss, name, 16)
    monkeypatch.setattr(triton_loss, "MOST_LOGITS", 16 * 37)


def layer(
    num_rows: int, num_classes: int, dim: int, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    hidden, weight, bias = (
        torch.randn(*shape).to(DEVICE, dtype).requires_grad_()
        for shape in ((num_rows, dim), (num_classes, dim), (num_classes,))
    )
    return hidden, weight, bias, torch.randint(num_classes, (num_rows,)).to(DEVICE)


def both(layer, options):
    """Loss, log Z and gradients by Triton and by the plain form."""
    hidden, weight, bias, labels = layer
    for impl in ("triton", "plain"):
        loss, log_z = linear_cross_entropy(
            *(hidden, weight, bias, labels), **options, impl=impl, return_log_partition=True
        )
        asked = [x for x in (hidden, weight, bias) if x is not None]
        yield loss.detach(), log_z, *torch.autograd.grad(3 * loss, asked)


@needs_triton
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"reduction": "sum"},
        {"reduction": "mean", "temperature": 0.7},
        {"reduction": "mean", "label_smoothing": 0.1},
        {"reduction": "mean", "softcap": 2.0},
        {"reduction": "sum", "z_loss": 0.1},
        {"reduction": "mean", "ignore_index": 5},
        {
            "reduction": "mean",
            "temperature": 1.5,
            "label_smoothing": 0.2,
            "softcap": 3.0,
            "z_loss": 0.01,
            "ignore_index": 5,
            "sample_weight": torch.arange(21.0, device=DEVICE),
        },
    ],
    ids=lambda options: "+".join(options),
)
def test_loss_and_gradients_are_those_of_the_plain_form(small_tiles, options, has_bias: bool) -> None:
    hidden, weight, bias, labels = layer(21, 37, 19)
    labels[[0, 4, 20]] = 5
    for found, expected in zip(
        *both((hidden, weight, bias if has_bias else None, labels), options), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@needs_triton
@pytest.mark.parametrize("shape", [(1, 1, 1), (16, 16, 16), (17, 2, 3), (3, 33, 40)])
def test_sizes_at_the_edges_of_tiles(small_tiles, shape: tuple[int, int, int]) -> None:
    for found, expected in zip(*both(layer(*shape), {"reduction": "mean"}), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@needs_triton
def test_weights_in_bfloat16(small_tiles) -> None:
    for found, expected in zip(*both(layer(21, 37, 19, torch.bfloat16), {"reduction": "mean"}), strict=True):
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found.float(), expected.float(), rtol=2e-2, atol=1e-2)


@needs_triton
def test_sure_rows_leave_tiles_out_within_the_resolution(small_tiles) -> None:
    hidden, weight, bias, labels = layer(16, 64, 8)
    with torch.no_grad():
        weight.zero_()
        weight[3], labels[:] = 1.0, 3
        hidden.fill_(4.0)  # class 3 has logit 32, the others 0
        bias.zero_()
    found, expected = both((hidden, weight, bias, labels), {"reduction": "sum"})
    for value, exact in zip(found, expected, strict=True):
        torch.testing.assert_close(value, exact, rtol=0, atol=1e-6)
    assert (found[3][16:] == 0).all()
    assert (expected[3][16:] != 0).all()


@needs_triton
def test_rows_that_are_all_ignored_and_no_rows_at_all(small_tiles) -> None:
    hidden, weight, bias, labels = layer(5, 37, 4)
    for rows in (slice(0, 5), slice(0, 0)):
        loss = linear_cross_entropy(
            *(hidden[rows], weight, bias, torch.full_like(labels, 9)[rows]),
            ignore_index=9,
            reduction="mean",
            impl="triton",
        )
        assert loss == 0
        assert not any(gradient.any() for gradient in torch.autograd.grad(loss, (weight, bias)))


def test_what_is_refused() -> None:
    hidden, weight, bias, labels = layer(4, 5, 3)
    with pytest.raises(UsageError, match="impl 'triton' needs reduction 'mean' or 'sum'; got 'none'"):
        linear_cross_entropy(hidden, weight, bias, labels, impl="triton")
    with pytest.raises(UsageError, match="impl 'fused' has no softcap"):
        linear_cross_entropy(hidden, weight, bias, labels, softcap=3.0, reduction="mean", impl="fused")
    with pytest.raises(UsageError, match="are of a softmax with one label a row"):
        linear_cross_entropy(hidden, weight, bias, labels, softcap=3.0, normalizer="sigmoid")
    with pytest.raises(UsageError, match="z_loss is of a softmax"):
        linear_cross_entropy(hidden, weight, bias, labels, z_loss=0.1, normalizer="sigmoid")


def test_without_triton_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, triton_loss.__name__)  # so that it is loaded anew
    monkeypatch.setattr(kernels, "triton_loss", triton_loss)  # and put back afterwards
    ones = torch.ones(2, 3)
    with pytest.raises(UsageError, match="impl 'triton' needs Triton; install it with pip install"):
        linear_cross_entropy(ones, ones, None, torch.tensor([0, 1]), reduction="mean", impl="triton")


@needs_triton
def test_without_a_gpu_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    ones = torch.ones(2, 3)
    with pytest.raises(UsageError, match="needs tensors on a GPU that torch calls cuda; got cpu"):
        linear_cross_entropy(ones, ones, None, torch.tensor([0, 1]), reduction="mean", impl="triton")

"""The same candidates and expected counts give the same losses and gradients as TensorFlow's samplers.

The vectors were written by tests/references/make_tensorflow.py.
"""

import json
from pathlib import Path

import pytest
import torch

from widemax.heads import SeveralLabels, sampled_sigmoid_loss, sampled_softmax_loss
from widemax.samplers import Candidates, LogUniform

REFERENCE = json.loads(
    (Path(__file__).parents[1] / "references" / "tensorflow.json").read_text(encoding="utf-8")
)
LOSSES = {"softmax": sampled_softmax_loss, "sigmoid": sampled_sigmoid_loss}
CASES = {f"{case['loss']} of {len(case['labels'][0])}": case for case in REFERENCE["cases"]}


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def answer(case, correction):
    leaves = [tensor(REFERENCE[name]).requires_grad_() for name in ("hidden", "weight", "bias")]
    counts = tensor(REFERENCE["expected_counts"])
    ids = torch.tensor(REFERENCE["candidates"]).sort().values
    labels = torch.tensor(case["labels"])
    candidates = Candidates(ids, counts[ids].log(), counts[labels.flatten()].log())
    offsets = torch.arange(0, labels.numel() + 1, labels.shape[1])
    several = SeveralLabels(labels.flatten(), offsets)
    hidden, weight, bias = leaves
    loss_B = LOSSES[case["loss"]](hidden, weight, several, candidates, bias=bias, correction=correction)
    loss_B.sum().backward()
    return loss_B.detach(), [leaf.grad.to_dense() for leaf in leaves]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_losses_and_gradients_equal_those_of_tensorflow(case):
    loss_B, gradients = answer(case, "conditional")
    torch.testing.assert_close(loss_B, tensor(case["loss_B"]), rtol=1e-12, atol=1e-12)
    for gradient, expected in zip(gradients, case["gradients"], strict=True):
        torch.testing.assert_close(gradient, tensor(expected), rtol=1e-12, atol=1e-12)
    for correction in ("none", "importance"):
        assert not torch.allclose(answer(case, correction)[0], loss_B)


def test_log_uniform_counts_equal_those_of_tensorflow():
    drawn = REFERENCE["log_uniform"]
    sampler = LogUniform(drawn["num_classes"], duplicates="keep")
    ids = torch.tensor(drawn["ids"])
    draw = sampler.draw(ids, drawn["num_sampled"], generator=torch.Generator())
    # TensorFlow returns float32.
    torch.testing.assert_close(
        draw.label_log_expected_count.exp(), tensor(drawn["expected_counts"]), rtol=1e-6, atol=0
    )

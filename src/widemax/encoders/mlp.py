"""A multilayer perceptron whose number of inputs is learned from data."""

from collections.abc import Iterator, Sequence
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers with GELU and dropout between them: x ← dropout(gelu(W x + b)), the last one linear.

    Args:
        widths: width of each hidden layer and of the output, at least one.
        dropout: probability of dropping a hidden unit in training, from torch's global generator.

    Example:
        >>> mlp = MLP((8, 2), dropout=0.0)
        >>> mlp.initialize(3, generator=torch.Generator().manual_seed(0))
        >>> mlp(torch.ones(5, 3)).shape
        torch.Size([5, 2])
    """

    def __init__(self, widths: Sequence[int], *, dropout: float) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.dropout = dropout
        fan_ins = (0, *self.widths[:-1])  # the number of inputs is not known yet
        shapes = zip(self.widths, fan_ins, strict=True)
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(shape)) for shape in shapes)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(width)) for width in self.widths)

    def initialize(self, num_inputs: int, *, generator: torch.Generator) -> None:
        """Draws the weights from N(0, 1/fan-in) and sets the biases to zero."""
        for layer, bias in enumerate(self.biases):
            fan_in = self.weights[layer].shape[1] if layer else num_inputs
            weight = torch.randn(len(bias), fan_in, generator=generator) / sqrt(max(fan_in, 1))
            self.weights[layer] = nn.Parameter(weight)
            nn.init.zeros_(bias)

    def laws(self, num_inputs: int) -> Iterator[tuple[bool, str]]:
        """That the first layer takes as many inputs, as `Encoder.laws`."""
        yield self.weights[0].shape[1] == num_inputs, f"{num_inputs} inputs of its first layer"

    def forward(self, inputs: Tensor, shift: Tensor | None = None) -> Tensor:
        """Inputs [B, N] to [B, widths[-1]]; ``shift`` [B, widths[0]] is added to the first layer's result."""
        hidden = inputs
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if layer:
                hidden = F.dropout(F.gelu(hidden), self.dropout, self.training)
            hidden = F.linear(hidden, weight, bias)
            if layer == 0 and shift is not None:
                hidden = hidden + shift
        return hidden

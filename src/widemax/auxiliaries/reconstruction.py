"""The loss of an autoencoder. Shapes: B rows, D elements."""

from typing import Annotated, Literal, final

from pydantic import Field
from torch import Tensor, nn

from widemax.auxiliaries.base import auxiliaries
from widemax.errors import ShapeError
from widemax.numerics import log_sigmoid
from widemax.numerics.arrays import widened_tensor


@final
@auxiliaries.register("reconstruction")
class Reconstruction(nn.Module):
    """How badly outputs repeat the inputs, summed over the elements of a row.

    "squared_error": ℓ_b = (λ/2) ‖x̂_b − x_b‖². "binary_cross_entropy": ℓ_b = λ Σ_i x_bi softplus(−x̂_bi) +
    (1 − x_bi) softplus(x̂_bi), for inputs between 0 and 1 and outputs that are log odds.

    Use: beside a classification loss, where labels are few and inputs many, to keep what the labels do not
    ask for. With plenty of labels it takes capacity from them: leave it out.

    Args:
        strength: λ, the weight of the loss beside the main one.
        kind: "squared_error" or "binary_cross_entropy".

    Example:
        >>> import torch
        >>> Reconstruction()(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0]]))
        tensor([2.])

    Source: Squared error: Hinton and Salakhutdinov, "Reducing the Dimensionality of Data with Neural
    Networks" (Science 2006). Cross-entropy: Vincent et al. (JMLR 2010), §2.2.
    """

    def __init__(
        self,
        *,
        strength: Annotated[float, Field(ge=0.0)] = 1.0,
        kind: Literal["squared_error", "binary_cross_entropy"] = "squared_error",
    ) -> None:
        super().__init__()
        self.strength = strength
        self.kind = kind

    def forward(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """The loss of each row.

        Args:
            outputs: [B, D] or more axes: what the decoder gave, log odds for "binary_cross_entropy".
            inputs: the same shape, what it should have given.

        Returns:
            [B] losses, λ included.

        Raises:
            ShapeError: outputs and inputs of different shapes, or of fewer than two axes.
        """
        if outputs.shape != inputs.shape or inputs.ndim < 2:
            raise ShapeError(
                f"outputs and inputs must have the same shape [rows, ...]; got {tuple(outputs.shape)} and "
                f"{tuple(inputs.shape)}."
            )
        outputs, inputs = widened_tensor(outputs), widened_tensor(inputs)
        if self.kind == "squared_error":
            terms = (outputs - inputs).square() / 2
        else:
            terms = -(inputs * log_sigmoid(outputs) + (1 - inputs) * log_sigmoid(-outputs))
        return self.strength * terms.flatten(1).sum(1)

"""Class weights that follow from what is known of the classes. Shapes: C classes, N of them, D hidden."""

import torch
from torch import Tensor, nn

from widemax.encoders.base import Encoder
from widemax.encoders.features import Features, take, to_tensors


class ClassTower(nn.Module):
    """Class weights w_c = E(x_c) + e_c from columns x_c of the classes and a row e_c of each class's own.

    A head takes it as its ``weight``. What the encoder learns of some classes it says of others too: of those
    that are rare, of those that no row has, and of those that come later.

    Args:
        encoder: E, fitted; its hidden vectors are as long as those of the rows.
        features: indexed features of the C classes, in their order.
        generator: where tables that begin at zero begin instead, at variance 1 / D, since e_c does.

    Source: Yi et al. 2019, "Sampling-bias-corrected neural modeling for large corpus item recommendations".

    Example:
        >>> import pyarrow as pa
        >>> from widemax.encoders import TextEncoder
        >>> encoder = TextEncoder([("name", "text")], dim=64)
        >>> names = encoder.featurize({"name": pa.array(["green tea", "black tea", "ink"])})
        >>> encoder.fit([names], generator=torch.Generator())
        >>> tower = ClassTower(encoder, encoder.index(names), generator=torch.Generator()).eval()
        >>> weight = tower(torch.zeros(3, 64))
        >>> (weight @ weight[0]).argsort(descending=True).tolist()
        [0, 1, 2]
    """

    def __init__(self, encoder: Encoder, features: Features, *, generator: torch.Generator) -> None:
        super().__init__()
        self.encoder = encoder
        self.features = features
        for parameter in encoder.parameters():
            if parameter.ndim == 2 and not parameter.any():
                nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5, generator=generator)

    def forward(self, own_rows: Tensor, class_ids: Tensor | None = None) -> Tensor:
        """Weights [N, D] of ``class_ids`` [N], or of all classes, from their own rows [N, D]."""
        features = self.features if class_ids is None else take(self.features, class_ids.cpu().numpy())
        encoded_ND: Tensor = self.encoder(to_tensors(features, own_rows.device))
        return encoded_ND + own_rows

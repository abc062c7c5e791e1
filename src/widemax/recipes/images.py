"""Gray images of labeled classes, a classifier of them, and the training loop of the recipes that read them.

Shapes: N images, H rows of pixels, W pixels a row, C classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from widemax.encoders import ImageEncoder
from widemax.heads import ExactHead
from widemax.numerics import softmax
from widemax.optim import linear_decay
from widemax.recipes.base import Array


@dataclass(frozen=True)
class Images:
    """Some gray images, in bytes, 0 for black, and their class ids."""

    pixels_NHW: Tensor
    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.labels_N)

    def take(self, places: Tensor | slice) -> "Images":
        return Images(self.pixels_NHW[places], self.labels_N[places])

    @property
    def features(self) -> dict[str, Tensor]:
        """What an image encoder takes."""
        return {"image": self.pixels_NHW[..., None]}

    @property
    def unit(self) -> Tensor:
        """[N, H, W] pixels between 0 and 1, in float32."""
        return self.pixels_NHW.float() / 255


class ImageClassifier(nn.Module):
    """The library's convolutional encoder, standardized by some images, under an exact head."""

    def __init__(
        self,
        images: Images,
        num_classes: int,
        *,
        seed: int,
        head: Mapping[str, Any] | None = None,
        **encoder: Any,
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = ImageEncoder([("image", "image")], **encoder)
        generator = torch.Generator().manual_seed(seed)
        self.encoder.fit([{"image": images.pixels_NHW[..., None].numpy()}], generator=generator)
        self.head = ExactHead(num_classes, self.encoder.dim, **(head or {}))

    def forward(self, images: Images) -> Tensor:
        return self.head(self.encoder(images.features), images.labels_N)  # type: ignore[no-any-return]  # torch calls forward

    @torch.no_grad()
    def logits(self, images: Images) -> Tensor:
        """[N, C]."""
        return self.head.logits(self.encoder(images.features))

    def probs(self, images: Images) -> Array:
        """[N, C] probability of each class."""
        return np.asarray(softmax(self.logits(images)))

    def accuracy(self, images: Images) -> float:
        """Share of images whose class the head names."""
        return float((self.logits(images).argmax(1) == images.labels_N).double().mean())


def descend(
    net: nn.Module,
    images: Images,
    loss: Callable[[Images], Tensor],
    *,
    epochs: int,
    rate: float,
    seed: int,
    after_epoch: Callable[[], None] = lambda: None,
) -> list[float]:
    """AdamW over shuffled batches of 128, the rate falling to 0; the mean of ``loss`` in each epoch."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(seed)
    step, num_steps = 0, epochs * -(-len(images) // 128)
    means = []
    for _ in range(epochs):
        net.train()
        total = 0.0
        for places in torch.split(torch.randperm(len(images), generator=generator), 128):
            for group in optimizer.param_groups:
                group["lr"] = rate * linear_decay(step, num_steps)
            optimizer.zero_grad()
            mean = loss(images.take(places))
            mean.backward()  # type: ignore[no-untyped-call]  # torch has no type for backward
            optimizer.step()
            step += 1
            total += mean.item() * len(places)
        means.append(total / len(images))
        net.eval()
        after_epoch()
    return means

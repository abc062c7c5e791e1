"""Gray images of labeled classes, an encoder for them, and the training loop of the recipes that read them.

Shapes: N images, H rows of pixels, W pixels a row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from widemax.encoders import ImageEncoder
from widemax.optim import linear_decay


@dataclass(frozen=True)
class Images:
    """Some gray images and their classes.

    Attributes:
        pixels_NHW: bytes, 0 for black.
        labels_N: class ids.
    """

    pixels_NHW: Tensor
    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.labels_N)

    def take(self, places: Tensor | slice) -> "Images":
        """Some of the images."""
        return Images(self.pixels_NHW[places], self.labels_N[places])

    @property
    def features(self) -> dict[str, Tensor]:
        """What an image encoder takes."""
        return {"image": self.pixels_NHW[..., None]}

    @property
    def unit(self) -> Tensor:
        """[N, H, W] pixels between 0 and 1, in float32."""
        return self.pixels_NHW.float() / 255


def image_encoder(images: Images, *, seed: int, **options: Any) -> ImageEncoder:
    """The library's convolutional encoder, standardized by these images."""
    encoder = ImageEncoder([("image", "image")], **options)
    encoder.fit(
        [{"image": images.pixels_NHW[..., None].numpy()}], generator=torch.Generator().manual_seed(seed)
    )
    return encoder


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

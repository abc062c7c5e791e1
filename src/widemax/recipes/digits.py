"""MNIST as arrays, and pictures of digits, for the recipes that classify them.

Shapes: N images, H rows of pixels, W pixels a row, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from widemax.data import resolve
from widemax.encoders import ImageEncoder
from widemax.optim import linear_decay
from widemax.recipes import figures
from widemax.recipes.base import Results

NAMES = tuple("0123456789")


@dataclass(frozen=True)
class Digits:
    """Some images and what they show.

    Attributes:
        pixels_NHW: bytes, 0 for black.
        labels_N: 0 to 9.
    """

    pixels_NHW: Tensor
    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.labels_N)

    def take(self, places: Tensor | slice) -> "Digits":
        """Some of the images."""
        return Digits(self.pixels_NHW[places], self.labels_N[places])

    @property
    def features(self) -> dict[str, Tensor]:
        """What an image encoder takes."""
        return {"image": self.pixels_NHW[..., None]}

    @property
    def unit(self) -> Tensor:
        """[N, H, W] pixels between 0 and 1, in float32."""
        return self.pixels_NHW.float() / 255


def read_digits(split: str, rows: int | None = None) -> Digits:
    """The first images of a split, "train" or "test"; all of them by default."""
    (path,) = resolve([f"mnist:{split}"])
    table = pq.read_table(path)[:rows]
    pixels_NHW = table["image"].combine_chunks().to_numpy_ndarray()[..., 0]
    return Digits(torch.tensor(pixels_NHW), torch.tensor(table["label"].to_numpy().astype(np.int64)))


def image_encoder(digits: Digits, *, seed: int, **options: Any) -> ImageEncoder:
    """The library's convolutional encoder, standardized by these images."""
    encoder = ImageEncoder([("image", "image")], **options)
    encoder.fit(
        [{"image": digits.pixels_NHW[..., None].numpy()}], generator=torch.Generator().manual_seed(seed)
    )
    return encoder


def descend(
    net: nn.Module,
    digits: Digits,
    loss: Callable[[Digits], Tensor],
    *,
    epochs: int,
    rate: float,
    seed: int,
    after_epoch: Callable[[], None] = lambda: None,
) -> list[float]:
    """AdamW over shuffled batches of 128, the rate falling to 0; the mean of ``loss`` in each epoch."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(seed)
    step, num_steps = 0, epochs * -(-len(digits) // 128)
    means = []
    for _ in range(epochs):
        net.train()
        total = 0.0
        for places in torch.split(torch.randperm(len(digits), generator=generator), 128):
            for group in optimizer.param_groups:
                group["lr"] = rate * linear_decay(step, num_steps)
            optimizer.zero_grad()
            mean = loss(digits.take(places))
            mean.backward()  # type: ignore[no-untyped-call]  # torch has no type for backward
            optimizer.step()
            step += 1
            total += mean.item() * len(places)
        means.append(total / len(digits))
        net.eval()
        after_epoch()
    return means


@figures.styled
def signed_images(
    values_NHW: NDArray[Any], titles: Sequence[str], *, columns: int, unit: str
) -> figures.Figure:
    """Images of positive and negative numbers, white at 0, with one color bar; a few largest ones are cut."""
    figure, axes = figures.panels(*titles, columns=columns, width=1.5, height=1.5 + 0.25 * any(titles))
    limit = float(np.quantile(np.abs(values_NHW), 0.998))
    for panel, values_HW in zip(axes, values_NHW, strict=True):
        drawn = panel.imshow(values_HW, cmap="PuOr_r", vmin=-limit, vmax=limit)
        panel.set_axis_off()
    figure.colorbar(drawn, ax=axes, label=unit, shrink=0.85, extend="both")
    return figure


def draw_mistakes(results: Results, digits: Digits, probs_NC: NDArray[Any], *, name: str, title: str) -> None:
    """The twenty digits whose wrong class is surest."""
    labels_N, guesses_N, sure_N = digits.labels_N.numpy(), probs_NC.argmax(axis=1), probs_NC.max(axis=1)
    wrong = np.flatnonzero(guesses_N != labels_N)
    worst = wrong[np.argsort(-sure_N[wrong], kind="stable")][:20]
    titles = [f"{labels_N[n]}, not {guesses_N[n]}\n{100 * sure_N[n]:.1f} %" for n in worst]
    results.draw(
        figures.images(digits.pixels_NHW[worst].numpy(), titles, columns=10, size=1.1),
        name,
        title=title,
        caption="Right digit, digit given, and the probability it was given with.",
        alt="Badly written digits: " + "; ".join(titles).replace("\n", " with ") + ".",
    )

"""MNIST as images, and pictures of its mistakes. Shapes: N images, H by W pixels, C classes."""

from collections.abc import Sequence

import numpy as np
import pyarrow.parquet as pq
import torch

from widemax import charts
from widemax.charts import Drawing
from widemax.data import resolve
from widemax.recipes.base import Array, Results
from widemax.recipes.images import Images

NAMES = tuple("0123456789")


def read_digits(split: str, rows: int | None = None) -> Images:
    """The first images of a split, "train" or "test"; all of them by default."""
    (path,) = resolve([f"mnist:{split}"])
    table = pq.read_table(path)[:rows]
    pixels_NHW = table["image"].combine_chunks().to_numpy_ndarray()[..., 0]
    return Images(torch.tensor(pixels_NHW), torch.tensor(table["label"].to_numpy().astype(np.int64)))


def signed_images(values_NHW: Array, titles: Sequence[str], *, columns: int, unit: str) -> Drawing:
    """Images of positive and negative numbers, white at 0, with one color bar; a few largest ones are cut."""
    limit = float(np.quantile(np.abs(values_NHW), 0.998))
    colors_NHW3 = charts.diverging(values_NHW / limit)
    return charts.images(colors_NHW3, titles, columns=columns, size=700 / columns, bar=(limit, unit))


def draw_mistakes(results: Results, digits: Images, probs_NC: Array, *, name: str, title: str) -> None:
    """The twenty digits whose wrong class is surest."""
    labels_N, guesses_N, sure_N = digits.labels_N.numpy(), probs_NC.argmax(axis=1), probs_NC.max(axis=1)
    wrong = np.flatnonzero(guesses_N != labels_N)
    worst = wrong[np.argsort(-sure_N[wrong], kind="stable")][:20]
    titles = [f"{labels_N[n]}, not {guesses_N[n]}\n{100 * sure_N[n]:.1f} %" for n in worst]
    results.draw(
        charts.images(digits.pixels_NHW[worst].numpy(), titles, columns=10),
        name,
        title=title,
        caption="Right digit, digit given, and the probability it was given with.",
        alt="Badly written digits: " + "; ".join(titles).replace("\n", " with ") + ".",
    )

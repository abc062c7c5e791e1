"""Images that a small net learns in seconds."""

import torch

from widemax.recipes.images import Images


def some_digits(num_rows=256, seed=0):
    """Images of noise with a bar whose height is the class."""
    generator = torch.Generator().manual_seed(seed)
    labels_N = torch.arange(num_rows) % 10
    pixels_NHW = torch.randint(0, 60, (num_rows, 28, 28), generator=generator)
    rows_H, starts_N1 = torch.arange(28), 4 + 2 * labels_N[:, None]
    pixels_NHW += 150 * ((rows_H >= starts_N1) & (rows_H < starts_N1 + 4))[..., None]
    return Images(pixels_NHW.to(torch.uint8), labels_N)

"""Omniglot: handwritten characters of 30 alphabets."""

from math import prod
from pathlib import Path

import numpy as np

from widemax.data.images import image_array
from widemax.data.sets import sets
from widemax.data.sets.base import PublicSet

_TRAIN_WRITERS = 15


@sets.register("omniglot_background")
class OmniglotBackground(PublicSet):
    """19,280 drawings of 964 characters in 30 alphabets, 28 × 28 pixels, black on white.

    Each character is drawn by 20 people: drawings 1 to 15 to train, 16 to 20 to test. A label is the
    alphabet, a slash, and the character.
    """

    title = "Omniglot, its background set"
    licence = "MIT"
    attribution = (
        "Brenden M. Lake, Ruslan Salakhutdinov, Joshua B. Tenenbaum: Human-level concept learning through "
        "probabilistic program induction, Science 350, 2015. Changed: resized from 105 × 105 pixels."
    )
    url = "https://github.com/brendenlake/omniglot"
    files = {"omniglot28_background.npz": "1bd36d54a75b16e15d2988e54559cb06db8e17a13a8e0fc774866810cdd13850"}
    by_hand = (
        "No address offers these small drawings; take python/images_background.zip from "
        "https://github.com/brendenlake/omniglot and give it as a folder of images by class."
    )
    inputs = ("image",)
    target = "label"

    def prepare(self, source: Path, into: Path) -> None:
        with np.load(source / "omniglot28_background.npz", allow_pickle=False) as arrays:
            shape = tuple(arrays["shape"].tolist())
            bits_BHW = np.unpackbits(arrays["x_packed"], count=prod(shape)).reshape(shape)
            labels_B, writers_B = arrays["class_names"][arrays["y"]], arrays["writer"]
        for split, kept_B in (("train", writers_B <= _TRAIN_WRITERS), ("test", writers_B > _TRAIN_WRITERS)):
            pixels_BHWC = 255 * bits_BHW[kept_B, :, :, None]
            self.write(into, split, {"image": image_array(pixels_BHWC), "label": labels_B[kept_B].tolist()})

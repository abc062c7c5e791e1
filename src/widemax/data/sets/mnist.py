"""MNIST: handwritten digits."""

from pathlib import Path

from widemax.data.formats.idx import read_idx
from widemax.data.sets import sets
from widemax.data.sets.base import PublicSet


@sets.register("mnist")
class Mnist(PublicSet):
    """60,000 training and 10,000 test digits, 28 × 28 gray pixels, white on black."""

    name = "mnist"
    title = "MNIST, handwritten digits"
    licence = "CC BY-SA 3.0, https://creativecommons.org/licenses/by-sa/3.0/"
    attribution = (
        "Yann LeCun, Corinna Cortes, Christopher J.C. Burges: The MNIST database of handwritten digits, 1998."
    )
    url = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    files = {
        "train-images-idx3-ubyte.gz": "71524e2cd1ad2968737f7f2f2ff69cbfc32df8ccddff51593f7cb2d4e0eb5b64",
        "train-labels-idx1-ubyte.gz": "fe03b8bd7915f70bf5aa08be480aa413fbd85afcaa58b35d230d335f284fd88e",
        "t10k-images-idx3-ubyte.gz": "5634745efa576a17e7d4cf5cd9d09123c75e6538e5114267c2d156edaf519341",
        "t10k-labels-idx1-ubyte.gz": "ae18e77e031ccde52407f794d123116439864147d33ac992975f85dd4dc42af6",
    }
    inputs = ("image",)
    target = "label"

    def prepare(self, source: Path, into: Path) -> None:
        for split, prefix in (("train", "train"), ("test", "t10k")):
            self.write(into, split, read_idx(source / f"{prefix}-images-idx3-ubyte.gz"))

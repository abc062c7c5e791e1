"""Fashion-MNIST: articles of clothing, in the format of MNIST."""

from widemax.data.sets import sets
from widemax.data.sets.mnist import Mnist


@sets.register("fashion_mnist")
class FashionMnist(Mnist):
    """60,000 training and 10,000 test articles of clothing, 28 × 28 gray pixels.

    Labels: 0 T-shirt/top, 1 trouser, 2 pullover, 3 dress, 4 coat, 5 sandal, 6 shirt, 7 sneaker, 8 bag, 9
    ankle boot.
    """

    name = "fashion_mnist"
    title = "Fashion-MNIST, articles of clothing"
    licence = "MIT, Zalando SE"
    attribution = (
        "Han Xiao, Kashif Rasul, Roland Vollgraf: Fashion-MNIST: a Novel Image Dataset for Benchmarking "
        "Machine Learning Algorithms, 2017, arXiv:1708.07747."
    )
    url = "https://github.com/zalandoresearch/fashion-mnist"
    files = {
        "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
        "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
        "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
        "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
    }

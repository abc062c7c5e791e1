"""Fashion-MNIST: articles of clothing, in the format of MNIST."""

from widemax.data.sets import sets
from widemax.data.sets.base import on_github
from widemax.data.sets.mnist import Mnist


@sets.register("fashion_mnist")
class FashionMnist(Mnist):
    """60,000 training and 10,000 test articles of clothing, 28 × 28 gray pixels.

    Labels: 0 T-shirt/top, 1 trouser, 2 pullover, 3 dress, 4 coat, 5 sandal, 6 shirt, 7 sneaker, 8 bag, 9
    ankle boot.
    """

    title = "Fashion-MNIST, articles of clothing"
    licence = "MIT, Zalando SE"
    attribution = (
        "Han Xiao, Kashif Rasul, Roland Vollgraf: Fashion-MNIST: a Novel Image Dataset for Benchmarking "
        "Machine Learning Algorithms, 2017, arXiv:1708.07747."
    )
    url = "https://github.com/zalandoresearch/fashion-mnist"
    files = {
        "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    }
    downloads = on_github(
        "zalandoresearch/fashion-mnist", "b2617bb6d3ffa2e429640350f613e3291e10b141", "data/fashion/", *files
    )
    download_bytes = 26_421_880 + 29_515 + 4_422_102 + 5_148

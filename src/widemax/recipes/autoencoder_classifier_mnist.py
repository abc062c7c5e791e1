"""One convolutional encoder with two outputs: the digit, and the image again.

Shapes: B images of H by W pixels, D hidden, C classes, N epochs.
"""

from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from widemax import charts
from widemax.auxiliaries import Reconstruction
from widemax.charts import Panel
from widemax.encoders.image import augment
from widemax.recipes.base import Array, Recipe, Results, recipes
from widemax.recipes.digits import draw_mistakes, read_digits
from widemax.recipes.images import ImageClassifier, Images, descend
from widemax.recipes.known import Known

DIM = 30
STRENGTH = 0.01
HINTON = (
    "Hinton and Salakhutdinov, Reducing the Dimensionality of Data with Neural Networks, Science 313, 2006, "
    "fig. 2B: 30 numbers an image leave a squared error of 3.00 by autoencoder and 13.87 by PCA"
)
ACCURACY = "test accuracy"
BY_NET = f"squared error of a test image from {DIM} numbers"
BY_PCA = f"squared error of a test image from {DIM} principal components"
KNOWN = {
    ACCURACY: Known.at_least(
        0.99,
        digits=4,
        source="Chollet, Keras examples, mnist_cnn.py: a classifier alone, 99.25 % after 12 epochs",
    ),
    BY_PCA: Known.printed(13.87, digits=2, source=HINTON),
}


@recipes.register("autoencoder-classifier-mnist")
class AutoencoderClassifierMnist(Recipe):
    """A code of 30 numbers from which both the digit and its image are read."""

    title = "A classifier that can also draw: one encoder, two outputs"
    description = (
        f"Convolutions turn a digit into {DIM} numbers. A softmax reads the class from them; a decoder draws "
        "the image, a sigmoid a pixel. Both are trained together on shifted images, by the cross-entropy of "
        f"the class plus {STRENGTH} times that of the pixels."
    )
    data = ("mnist",)
    full_time = "3 min"
    known = KNOWN

    def run(self, results: Results, *, quick: bool, seed: int) -> None:
        train = read_digits("train", 6_000 if quick else None)
        test = read_digits("test", 1_000 if quick else None)
        net = Net(train, seed=seed)
        parts_N2: list[tuple[float, float]] = []
        descend(
            net,
            train,
            net,
            epochs=14 if quick else 12,
            rate=4e-3 if quick else 2e-3,
            seed=seed,
            after_epoch=lambda: parts_N2.append(net.errors(test)),
        )
        results.obtain(ACCURACY, net.accuracy(test))
        drawn_BHW, flat_BHW = net.drawn(test), by_pca(train, test)
        errors = [squared_error(images_BHW, test) for images_BHW in (drawn_BHW, flat_BHW)]
        results.obtain(BY_PCA, errors[1])
        source = f"PCA in this run; {HINTON}"
        results.obtain(BY_NET, errors[0], known=Known.at_most(errors[1], digits=2, source=source))
        _draw_images(results, test, drawn_BHW, flat_BHW)
        _draw_training(results, parts_N2)
        draw_mistakes(results, test, net.probs(test), name="mistakes", title="The surest mistakes")


class Net(ImageClassifier):
    """The library's image encoder under an exact head and a decoder of two transposed convolutions."""

    def __init__(self, digits: Images, *, seed: int) -> None:
        super().__init__(digits, 10, seed=seed, channels=(16, 32, 64), kernel=3, hidden=(), dim=DIM)
        self.decoder = nn.Sequential(
            nn.Linear(DIM, 32 * 7 * 7),
            nn.ReLU(),
            nn.Unflatten(1, (32, 7, 7)),
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1),
            nn.Flatten(1, 2),
        )
        self.reconstruction = Reconstruction(strength=STRENGTH, kind="binary_cross_entropy")

    def forward(self, digits: Images) -> Tensor:
        """The joint loss on digits moved by up to a pixel; the moved image is the one to be drawn."""
        moved = Images(augment(digits.pixels_NHW[..., None], shift=1, flip=False)[..., 0], digits.labels_N)
        hidden_BD = self.encoder(moved.features)
        class_loss_B = self.head(hidden_BD, moved.labels_N, reduction="none")
        loss_B: Tensor = class_loss_B + self.reconstruction(self.decoder(hidden_BD), moved.unit)
        return loss_B.mean()

    @torch.no_grad()
    def drawn(self, digits: Images) -> Array:
        """[B, H, W] what the decoder draws."""
        return np.asarray(self.decoder(self.encoder(digits.features)).sigmoid())

    def errors(self, digits: Images) -> tuple[float, float]:
        """Share of wrong classes, and mean squared error of an image."""
        return 1 - self.accuracy(digits), squared_error(self.drawn(digits), digits)


def squared_error(images_BHW: Array, digits: Images) -> float:
    """Σ over the pixels of (drawn − right)², the mean over the images."""
    return float(np.square(images_BHW - digits.unit.numpy()).sum(axis=(1, 2)).mean())


def by_pca(train: Images, test: Images) -> Array:
    """[B, H, W] the test images from as many principal components of the training images."""
    pca = PCA(DIM, svd_solver="covariance_eigh").fit(train.unit.flatten(1).numpy())
    rows_BD = pca.inverse_transform(pca.transform(test.unit.flatten(1).numpy()))
    return np.asarray(rows_BD).reshape(test.pixels_NHW.shape)


def _draw_images(results: Results, test: Images, drawn_BHW: Array, flat_BHW: Array) -> None:
    places = [int(torch.argmax((test.labels_N == label).int())) for label in range(10)]
    rows = {"original": test.unit.numpy(), "by the net": drawn_BHW, "by PCA": flat_BHW}
    pictures_NHW = np.concatenate([images_BHW[places] for images_BHW in rows.values()])
    results.draw(
        charts.images(pictures_NHW, columns=10, rows=list(rows)),
        "images",
        title=f"Test digits, and what {DIM} numbers keep of them",
        caption="The first test image of each digit, what the decoder makes of it, and what PCA.",
        alt="Three rows of ten digits. The net's are clean and a little smoother than the originals; "
        "those of PCA have gray shadows around the strokes.",
    )


def _draw_training(results: Results, parts_N2: list[tuple[float, float]]) -> None:
    epochs_N = np.arange(1, len(parts_N2) + 1)
    wrong_N, squared_N = np.array(parts_N2).T
    panels = []
    for heading, values_N, label in (
        ("The digit", 100 * wrong_N, "wrong test digits (%)"),
        ("The image", squared_N, "squared error of a test image"),
    ):
        axes: dict[str, Any] = {
            "x_ticks": {n: str(n) for n in epochs_N},
            "y_range": (0, 1.08 * values_N.max()),
        }
        panels.append(Panel(heading, x="epoch", y=label, **axes))
        panels[-1].lines({label: (epochs_N, values_N)}, markers=True)
    results.draw(
        charts.figure(*panels),
        "training",
        title="Both outputs learn together",
        caption="After each epoch, on the test images.",
        alt=f"Two falling curves: wrong digits from {100 * wrong_N[0]:.1f} to {100 * wrong_N[-1]:.1f} %, the "
        f"squared error from {squared_N[0]:.1f} to {squared_N[-1]:.1f}.",
    )

"""Classic classifiers on real data reach the accuracies that are known for them."""

import gzip

import numpy as np
import pytest

from widemax.estimators import LinearSVM, NearestNeighborsClassifier, SampledSoftmaxClassifier, TwoLayerNet

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mnist(widemax_data):
    folder = widemax_data / "mnist"
    if not folder.is_dir():
        pytest.skip(f"no MNIST: {folder} is absent")

    def part(name, kind, skipped):
        data = gzip.decompress((folder / f"{name}-{kind}-ubyte.gz").read_bytes())
        return np.frombuffer(data, np.uint8)[skipped:]

    return [
        values
        for name in ("train", "t10k")
        for values in (
            part(name, "images-idx3", 16).reshape(-1, 784).astype(np.float32) / 255,
            part(name, "labels-idx1", 8),
        )
    ]


@pytest.fixture(scope="module")
def cifar10(widemax_data):
    path = widemax_data / "cifar10" / "cifar10_10k_2k_dx.npz"
    if not path.is_file():
        pytest.skip(f"no CIFAR-10: {path} is absent")
    arrays = np.load(path)

    def pixels(name):
        images = np.cumsum(arrays[f"dx_{name}"], axis=-1, dtype=np.uint8)
        return images.reshape(len(images), -1).astype(np.float32)

    return pixels("train"), arrays["y_train"], pixels("test"), arrays["y_test"]


def test_nearest_neighbors_on_mnist(mnist):
    X, y, test_X, test_y = mnist
    model = NearestNeighborsClassifier(n_neighbors=5).fit(X, y)
    assert model.score(test_X, test_y) == pytest.approx(0.9688, abs=5e-5)


def test_nearest_neighbor_on_cifar10(cifar10):
    X, y, test_X, test_y = cifar10
    model = NearestNeighborsClassifier(n_neighbors=1).fit(X, y)
    assert model.score(test_X, test_y) == pytest.approx(0.284, abs=1e-3)


def test_two_layers_on_mnist(mnist):
    X, y, test_X, test_y = mnist
    model = TwoLayerNet(hidden_units=128, epochs=12, batch_size=128).fit(X, y)
    assert model.score(test_X, test_y) >= 0.977  # known: about .979


def test_softmax_by_steps_on_mnist(mnist):
    X, y, test_X, test_y = mnist
    assert SampledSoftmaxClassifier().fit(X, y).score(test_X, test_y) >= 0.922  # at the optimum .926


def test_support_vectors_on_cifar10(cifar10):
    X, y, test_X, test_y = cifar10
    mean, scale = X.mean(axis=0), X.std()
    model = LinearSVM(loss="weston_watkins", C=3e-4, tol=0.02).fit((X - mean) / scale, y)
    assert model.score((test_X - mean) / scale, test_y) >= 0.36  # known: .35 to .39

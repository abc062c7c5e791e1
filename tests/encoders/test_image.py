"""Images: standardized by channel, convolved as defined, and varied in training only."""

from math import prod

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F

from widemax.encoders import to_tensors
from widemax.encoders.image import ImageEncoder, augment
from widemax.errors import DataError


def column(pixels: np.ndarray) -> pa.Array:
    kind = pa.fixed_shape_tensor(pa.uint8(), pixels.shape[1:])
    flat = pa.FixedSizeListArray.from_arrays(pa.array(pixels.ravel()), prod(pixels.shape[1:]))
    return pa.ExtensionArray.from_storage(kind, flat)


def random_pixels(rows=6, height=11, width=9, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (rows, height, width, channels), np.uint8)


def fitted(pixels, **options):
    encoder = ImageEncoder([("x", "image")], **{"dim": 5, "channels": (4, 6), "hidden": (7,), **options})
    encoder.fit([encoder.featurize({"x": column(pixels)})], generator=torch.Generator().manual_seed(0))
    return encoder


def hidden(encoder, pixels):
    return encoder(to_tensors(encoder.encode({"x": column(pixels)})))


def by_definition(encoder, pixels):
    """Convolution, pooling and averaging by loops in float64."""
    mean, scale = pixels.mean(axis=(0, 1, 2)), pixels.std(axis=(0, 1, 2))
    maps = (pixels - mean) / scale
    for weight, bias in zip(encoder.filters, encoder.biases, strict=True):
        w, pad = weight.detach().double().numpy(), weight.shape[2] // 2
        padded = np.pad(maps, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
        rows, height, width, _ = maps.shape
        new = np.empty((rows, height, width, len(w)))
        for y in range(height):
            for x in range(width):
                patch = padded[:, y : y + w.shape[2], x : x + w.shape[3]]
                new[:, y, x] = np.einsum("byxc,ocyx->bo", patch, w) + bias.detach().double().numpy()
        maps = np.empty((rows, -(-height // 2), -(-width // 2), len(w)))
        for y in range(maps.shape[1]):
            for x in range(maps.shape[2]):
                maps[:, y, x] = new[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].max(axis=(1, 2)).clip(0)
    hidden = torch.from_numpy(maps.transpose(0, 3, 1, 2).reshape(len(maps), -1))
    weights = [tensor.detach().double() for tensor in (*encoder.mlp.weights, *encoder.mlp.biases)]
    hidden = F.gelu(F.linear(hidden, weights[0], weights[2]))
    return F.linear(hidden, weights[1], weights[3])


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("channels", [1, 3])
def test_hidden_is_what_the_formula_says(kernel, channels):
    pixels = random_pixels(channels=channels)
    encoder = fitted(pixels, kernel=kernel).eval()
    expected = by_definition(encoder, pixels).float()
    torch.testing.assert_close(hidden(encoder, pixels), expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        encoder.filters[0].copy_(encoder.filters[0].flip(2).clone())  # true convolution would flip the filter
    assert not torch.allclose(hidden(encoder, pixels), expected, rtol=1e-2, atol=1e-2)


def test_without_gradients_in_parts_the_result_is_the_same(monkeypatch):
    pixels = random_pixels()
    encoder = fitted(pixels).eval()
    whole = hidden(encoder, pixels)
    monkeypatch.setattr("widemax.encoders.image.PIXELS_AT_ONCE", 2 * pixels[0].size)
    with torch.no_grad():
        torch.testing.assert_close(hidden(encoder, pixels), whole)
        assert hidden(encoder, pixels[:0]).shape == (0, 5)


def test_large_images_keep_the_last_layer_small():
    pixels = random_pixels(rows=2, height=70, width=12)
    encoder = fitted(pixels)
    assert encoder.mlp.weights[0].shape == (7, 6 * 8 * 3)
    assert hidden(encoder, pixels).isfinite().all()
    assert fitted(random_pixels(height=1, width=1)).mlp.weights[0].shape == (7, 6)


def test_columns_are_stacked_and_sizes_held():
    left, right = random_pixels(channels=1), random_pixels(channels=2, seed=1)
    encoder = ImageEncoder([("left", "image"), ("right", "image")], dim=5, channels=(4,))
    features = encoder.featurize({"left": column(left), "right": column(right)})
    encoder.fit([features], generator=torch.Generator())
    np.testing.assert_array_equal(encoder.index(features)["image"], np.concatenate([left, right], axis=3))
    assert encoder.filters[0].shape[1] == 3
    narrow = encoder.featurize({"left": column(left), "right": column(right[:, :, 1:])})
    with pytest.raises(DataError, match="must be of one height and width"):
        encoder.index(narrow)
    with pytest.raises(DataError, match=r"\(11, 9, 3\) as in training; got \(11, 8, 3\)"):
        hidden(fitted(random_pixels()), random_pixels(width=8))
    with pytest.raises(DataError, match="must be complete; column 'x' has 1 nulls"):
        fitted(left).featurize({"x": column(left).take(pa.array([0, None]))})


# Augmentation.


def moved(image, down, right):
    """``image`` [H, W] seen through a window that is moved, edges repeated."""
    size = max(abs(down), abs(right))
    padded = np.pad(image, size, mode="edge")
    height, width = image.shape
    return padded[size + down : size + down + height, size + right : size + right + width]


def test_shifts_are_moves_of_every_length_with_the_edge_repeated():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    torch.manual_seed(0)
    many = augment(torch.from_numpy(np.repeat(image[None, ..., None], 500, axis=0)), shift=2, flip=False)
    expected = {moved(image, down, right).tobytes() for down in range(-2, 3) for right in range(-2, 3)}
    assert {each.numpy().tobytes() for each in many[..., 0]} == expected


def test_flip_mirrors_left_and_right_half_of_the_time():
    image = torch.arange(12, dtype=torch.uint8).reshape(1, 3, 4, 1)
    torch.manual_seed(0)
    many = augment(image.repeat(1000, 1, 1, 1), shift=0, flip=True)
    mirrored_B = (many == image.flip(2)).flatten(1).all(1)
    assert (mirrored_B | (many == image).flatten(1).all(1)).all()
    assert 430 < int(mirrored_B.sum()) < 570


def test_only_training_is_varied_and_by_the_global_generator():
    pixels = random_pixels()
    encoder = fitted(pixels, shift=2, flip=True, dropout=0.5)
    plain = hidden(encoder.eval(), pixels)
    assert torch.equal(hidden(encoder, pixels), plain)
    encoder.train()
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(hidden(encoder, pixels))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert not torch.equal(results[0], plain)
    still = fitted(pixels).train()
    state = torch.get_rng_state()
    assert torch.equal(hidden(still, pixels), hidden(still.eval(), pixels))
    assert torch.equal(torch.get_rng_state(), state)

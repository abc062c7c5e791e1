"""idx files: images find their labels, every byte is accounted for, and damage is named."""

import gzip
import re

import numpy as np
import pytest

from widemax.data import Dataset, infer_schema, resolve
from widemax.data.formats import format_of
from widemax.data.formats.idx import Idx, read_idx
from widemax.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 3, 2), np.uint8)
LABELS = np.array([5, 0, 255, 1, 1, 2, 3], np.uint8)


def idx_bytes(values):
    return bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">u4").tobytes() + values.tobytes()


def write(folder, prefix="train", *, pixels=PIXELS, labels=LABELS, zipped=True):
    pack, ending = (gzip.compress, ".gz") if zipped else (bytes, "")
    images = folder / f"{prefix}-images-idx3-ubyte{ending}"
    images.write_bytes(pack(idx_bytes(pixels)))
    (folder / f"{prefix}-labels-idx1-ubyte{ending}").write_bytes(pack(idx_bytes(labels)))
    return images


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("block_bytes", [1, 13, 10**6])
def test_every_image_with_its_label_and_row(tmp_path, zipped, block_bytes):
    path = write(tmp_path, zipped=zipped)
    reader = Idx(block_bytes=block_bytes)
    chunks = list(reader.chunks(path, ["label", "image"]))
    assert len(chunks) == {1: 7, 13: 4}.get(block_bytes, 1)
    pixels = np.concatenate([chunk.columns["image"].to_numpy_ndarray() for chunk in chunks])
    np.testing.assert_array_equal(pixels, PIXELS[..., None])
    assert [label for chunk in chunks for label in chunk.columns["label"].to_pylist()] == LABELS.tolist()
    assert [int(at) for chunk in chunks for at in chunk.positions_B] == list(range(1, 8))
    assert type(format_of(path)) is Idx
    assert reader.columns(path) == ["image", "label"]
    assert read_idx(path)["label"].to_pylist() == LABELS.tolist()


def test_labels_are_read_without_the_images(tmp_path):
    path = write(tmp_path, zipped=False)
    path.write_bytes(path.read_bytes()[:20])
    (chunk,) = Idx().chunks(path, ["label"])
    assert chunk.columns["label"].to_pylist() == LABELS.tolist()


def test_images_without_labels_can_be_predicted_but_not_trained_on(tmp_path):
    path = write(tmp_path)
    path.with_name("train-labels-idx1-ubyte.gz").unlink()
    assert len(list(Idx().chunks(path, ["image"]))) == 1
    with pytest.raises(DataError, match=r"put train-labels-idx1-ubyte or train-labels-idx1-ubyte\.gz into"):
        infer_schema([path])
    other = path.rename(tmp_path / "digits.idx3-ubyte.gz")
    assert Idx().columns(other) == ["image"]


def test_the_kind_is_image_and_vector_on_demand(tmp_path):
    path = write(tmp_path)
    schema = infer_schema([path])
    (column,) = schema.inputs
    assert (column.name, column.kind, column.shape) == ("image", "image", (3, 2, 1))
    assert (schema.target, schema.target_type) == ("label", "int64")
    flat = infer_schema([path], kinds={"image": "vector"})
    assert flat.inputs[0].width == 6
    (batch,) = Dataset([path], flat).batches()
    assert batch.columns["image"].to_pylist() == PIXELS.reshape(7, 6).tolist()


def changed(raw, start, new):
    return raw[:start] + bytes(new) + raw[start + len(new) :]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw[:-1], "is cut off: it must hold 7 images, got 6"),
        (lambda raw: raw + b"x", "goes on after its 7 images"),
        (lambda raw: raw[:9], r"has no complete idx header, got the sizes \[7\]"),
        (lambda raw: changed(raw, 11, [0]), r"has no complete idx header, got the sizes \[7, 0, 2\]"),
        (lambda raw: b"", r"must start with the bytes \[0, 0, 8, 3\] of an idx file of images, got \[\]"),
        (lambda raw: changed(raw, 2, [13]), r"must start with the bytes .* got \[0, 0, 13, 3\]"),
        (lambda raw: changed(raw, 7, [8]), "must be equally many"),
        (lambda raw: idx_bytes(LABELS), "holds labels; name the file of images beside it"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_damage_is_named(tmp_path, change, message, zipped):
    path = write(tmp_path, zipped=zipped)
    raw = change(idx_bytes(PIXELS))
    path.write_bytes(gzip.compress(raw) if zipped else raw)
    with pytest.raises(DataError, match=message) as failure:
        list(Idx().chunks(path, ["image", "label"]))
    assert str(path) in str(failure.value)


def test_a_cut_gzip_stream_is_named(tmp_path):
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=re.escape(f"{path} cannot be read as idx")):
        list(Idx().chunks(path, ["image"]))
    labels = tmp_path / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(b"no gzip")
    with pytest.raises(DataError, match=re.escape(f"{labels} cannot be read as idx")):
        list(Idx().chunks(path, ["label"]))


def test_a_folder_gives_its_splits(tmp_path, monkeypatch):
    train, test = write(tmp_path), write(tmp_path, "t10k")
    assert resolve([str(tmp_path)]) == resolve([f"{tmp_path}:train"]) == [train]
    assert resolve([f"{tmp_path}:test"]) == [test]
    monkeypatch.chdir(tmp_path.parent)
    assert resolve([f"{tmp_path.name}:test"])[0].samefile(test)
    with pytest.raises(DataError, match="has no split 'tset'; did you mean 'test'"):
        resolve([f"{tmp_path}:tset"])
    test.unlink()
    with pytest.raises(DataError, match="has no split 'test'"):
        resolve([f"{tmp_path}:test"])


def test_changed_labels_change_the_fingerprint(tmp_path):
    path = write(tmp_path)
    dataset = Dataset([path], infer_schema([path]))
    before = dataset.fingerprint()
    assert before == dataset.fingerprint()
    write(tmp_path, labels=LABELS[::-1])
    assert dataset.fingerprint() != before

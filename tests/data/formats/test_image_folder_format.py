"""Folders of images: classes in order, one size, gray or color, and bad files named."""

import sys

import numpy as np
import pytest

from widemax.data import Dataset, check, infer_schema, resolve
from widemax.data.formats import format_of
from widemax.data.formats.image_folder import ImageFolder
from widemax.errors import BadRowError, DataError, UsageError

GRAY = np.arange(6, dtype=np.uint8).reshape(2, 3)
COLOR = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 10


@pytest.fixture
def image():
    return pytest.importorskip("PIL.Image", reason="Pillow is absent: pip install 'widemax[images]'")


@pytest.fixture
def folder(tmp_path, image):
    """Three classes, with files in another order than their names."""
    for name, value in [("cat/2.png", 2), ("cat/10.PNG", 1), ("ant/1.bmp", 0), ("bee/x.png", 3)]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        image.fromarray(GRAY + np.uint8(value)).save(path)
    (tmp_path / "notes.txt").write_text("no image", encoding="utf-8")
    (tmp_path / "cat" / "notes.txt").write_text("no image", encoding="utf-8")
    (tmp_path / ".hidden").mkdir()
    image.fromarray(GRAY).save(tmp_path / ".hidden" / "a.png")
    image.fromarray(GRAY).save(tmp_path / "outside.png")
    return tmp_path


def read(path, **options):
    chunks = list(ImageFolder(**options).chunks(path, ["image", "label"]))
    pixels = np.concatenate([chunk.columns["image"].to_numpy_ndarray() for chunk in chunks])
    return pixels, [label for chunk in chunks for label in chunk.columns["label"].to_pylist()], chunks


@pytest.mark.parametrize("block_bytes", [1, 10**6])
def test_classes_then_names_in_order(folder, block_bytes):
    assert resolve([str(folder)]) == [folder]
    assert type(format_of(folder)) is ImageFolder
    assert ImageFolder().columns(folder) == ["image", "label"]
    pixels, labels, chunks = read(folder, block_bytes=block_bytes)
    assert len(chunks) == (4 if block_bytes == 1 else 1)
    assert labels == ["ant", "bee", "cat", "cat"]
    np.testing.assert_array_equal(pixels[..., 0], GRAY + np.array([0, 3, 1, 2], np.uint8)[:, None, None])
    (labels_only,) = ImageFolder().chunks(folder, ["label"])
    assert labels_only.columns["label"].to_pylist() == labels
    assert infer_schema([folder]).inputs[0].shape == (2, 3, 1)


def test_one_image_in_color_makes_all_red_green_and_blue(folder, image):
    image.fromarray(COLOR).save(folder / "cat" / "z.png")
    pixels, _, _ = read(folder)
    assert pixels.shape == (5, 2, 3, 3)
    np.testing.assert_array_equal(pixels[-1], COLOR)
    np.testing.assert_array_equal(pixels[0], np.repeat(GRAY[..., None], 3, axis=2))


def test_transparency_is_dropped_and_palettes_are_colors(tmp_path, image):
    (tmp_path / "a").mkdir()
    image.fromarray(COLOR).convert("RGBA").save(tmp_path / "a" / "1.png")
    image.fromarray(GRAY).convert("P").save(tmp_path / "a" / "2.png")
    pixels, _, _ = read(tmp_path)
    np.testing.assert_array_equal(pixels[0], COLOR)
    np.testing.assert_array_equal(pixels[1], np.repeat(GRAY[..., None], 3, axis=2))


def test_jpeg(tmp_path, image):
    (tmp_path / "a").mkdir()
    image.fromarray(np.full((8, 8), 77, np.uint8)).save(tmp_path / "a" / "1.jpeg")
    pixels, _, _ = read(tmp_path)
    assert pixels.shape == (1, 8, 8, 1)
    assert abs(pixels.astype(int) - 77).max() <= 1


def test_bad_files_are_rows_named_by_their_path(folder, image):
    image.fromarray(GRAY.T.copy()).save(folder / "bee" / "turned.png")
    (folder / "cat" / "20.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    image.fromarray(GRAY.astype(np.uint16)).save(folder / "cat" / "deep.png")
    schema = infer_schema([folder])
    with pytest.raises(BadRowError) as failure:
        list(Dataset([folder], schema).batches())
    sentence = str(failure.value)
    assert sentence.startswith(f"{folder / 'bee' / 'turned.png'}: is of 2 × 3 pixels, but ")
    assert (
        f"{folder / 'ant' / '1.bmp'}, the first, is of 3 × 2. Correct it, or drop such rows: --drop-bad"
        in sentence
    )
    dataset = Dataset([folder], schema, drop_bad=True)
    (batch,) = dataset.batches()
    assert batch.labels.to_pylist() == ["ant", "bee", "cat", "cat"]
    assert batch.rows_B.tolist() == [0, 2, 3, 4]
    assert dataset.num_bad_rows == 3
    assert "20.png: cannot be read as an image" in dataset.bad_rows[1]
    assert "deep.png: cannot be read as an image: it has more than 8 bits" in dataset.bad_rows[2]


def test_images_without_classes_can_be_predicted(folder):
    ants = folder / "ant"
    assert resolve([str(ants)]) == [ants]
    assert ImageFolder().columns(ants) == ["image"]
    assert format_of(ants / "1.bmp").columns(ants / "1.bmp") == ["image"]
    schema = infer_schema([folder])
    with pytest.raises(DataError, match="has no column 'label'"):
        list(Dataset([ants], schema).batches())


def test_another_label_changes_the_fingerprint(folder):
    dataset = Dataset([folder], infer_schema([folder]))
    before = dataset.fingerprint()
    (folder / "ant").rename(folder / "aunt")
    assert dataset.fingerprint() != before


def test_without_pillow_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UsageError, match=r"pip install 'widemax\[images\]'"):
        read(tmp_path)


def test_a_folder_of_other_things_is_refused(tmp_path):
    with pytest.raises(DataError, match="or hold idx files or images by class"):
        resolve([str(tmp_path)])
    with pytest.raises(DataError, match="holds no images; it must have a subfolder a class"):
        ImageFolder().columns(tmp_path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_stand_as_their_camera_was_held(tmp_path, image, orientation):
    upright = np.array([[0, 80], [160, 240], [40, 120]], np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    turned = {  # how the pixels lie in the file, by the standard's table of orientations
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: np.rot90(upright, 2).T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = image.Exif()
    exif[0x0112] = orientation
    image.fromarray(np.ascontiguousarray(turned)).save(tmp_path / "a.png", exif=exif)
    (chunk,) = ImageFolder().chunks(tmp_path / "a.png", ["image"])
    np.testing.assert_array_equal(chunk.columns["image"].to_numpy_ndarray()[0, ..., 0], upright)


def test_images_that_are_not_read_are_counted(folder, image):
    assert "1 images of" in Dataset([folder], infer_schema([folder])).passed_over()[0]  # outside.png
    (folder / "cat" / "deeper").mkdir()
    for name in ("cat/deeper/1.png", "cat/2.gif", "cat/3.webp", "ant/4.tiff"):
        image.fromarray(COLOR).save(folder / name)
    (sentence,) = Dataset([folder], infer_schema([folder])).passed_over()
    assert sentence.startswith(f"5 images of {folder} are passed over, such as {folder / 'ant' / '4.tiff'}")
    report = check([folder], schema=infer_schema([folder]))
    assert f"{sentence}." in report.warnings
    assert not Dataset([folder / "cat" / "2.png"], infer_schema([folder])).passed_over()

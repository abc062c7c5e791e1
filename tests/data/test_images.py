"""Images as tensors of bytes, and what else is taken for one."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from widemax.data import Column, Dataset, Schema, check, columns_of, infer_schema
from widemax.data.convert import convert
from widemax.data.images import image_array, tensor_shape
from widemax.errors import BadRowError, DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 4, 3, 1), np.uint8)
SHAPE = (4, 3, 1)
WRONG_SIZE = "must be an image of 4 × 3 × 1 numbers, flat or nested"
WRONG_VALUE = "must hold whole numbers from 0 to 255"


def as_array(column):
    assert column.type == pa.fixed_shape_tensor(pa.uint8(), SHAPE)
    return column.to_numpy_ndarray()


FORMS = {
    "tensor": image_array(PIXELS),
    "flat": pa.array(PIXELS.reshape(5, -1).tolist()),
    "flat floats": pa.array(PIXELS.reshape(5, -1).astype(float).tolist(), pa.list_(pa.float32(), 12)),
    "rows": pa.array(PIXELS[..., 0].tolist()),
    "rows of pixels": pa.array(PIXELS.tolist(), pa.large_list(pa.large_list(pa.list_(pa.uint8(), 1)))),
    "JSON": pa.array([json.dumps(image) for image in PIXELS.tolist()]),
    "cells": pa.array([" ".join(map(str, image)) for image in PIXELS.reshape(5, -1).tolist()]),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_image(form):
    for values, expected in ((FORMS[form], PIXELS), (FORMS[form][2:4], PIXELS[2:4]), (FORMS[form][:0], [])):
        column, reasons = convert(values, kind="image", shape=SHAPE)
        assert not reasons
        np.testing.assert_array_equal(as_array(column), np.reshape(expected, (-1, *SHAPE)))


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (None, "has no value"),
        ([], WRONG_SIZE),
        (PIXELS[0, :, :, 0].T.tolist(), WRONG_SIZE),
        ([*PIXELS[0, :3, :, 0].tolist(), [1, 2]], WRONG_SIZE),
        ([[1, 2, 3]] * 5, WRONG_SIZE),
        ([[1, 2, None]] * 4, WRONG_VALUE),
        ([[1, 2, 256]] * 4, WRONG_VALUE),
        ([[1, 2, -1]] * 4, WRONG_VALUE),
        ([[1, 2, 0.5]] * 4, WRONG_VALUE),
        ([[1, 2, float("nan")]] * 4, WRONG_VALUE),
    ],
)
def test_bad_images_are_named_and_spare_their_neighbors(bad, reason):
    rows = PIXELS[..., 0].tolist()
    column, reasons = convert(pa.array([rows[0], bad, rows[2]]), kind="image", shape=SHAPE)
    assert reasons == {1: reason}
    np.testing.assert_array_equal(as_array(column)[[0, 2]], PIXELS[[0, 2]])


def test_a_bad_cell_and_columns_that_are_no_lists():
    assert convert(pa.array(["[[1, 2]]", "x", ""]), kind="image", shape=SHAPE)[1] == dict.fromkeys(
        range(3), WRONG_SIZE
    )
    assert convert(pa.nulls(2), kind="image", shape=SHAPE)[1] == dict.fromkeys(range(2), "has no value")
    with pytest.raises(DataError, match="values of type int64 cannot be of kind 'image'"):
        convert(pa.array([1, 2]), kind="image", shape=SHAPE)


def test_channels_come_last():
    assert tensor_shape(pa.fixed_shape_tensor(pa.uint8(), (8, 9, 3))) == (8, 9, 3)
    assert tensor_shape(pa.fixed_shape_tensor(pa.uint8(), (8, 9))) == (8, 9, 1)
    assert tensor_shape(pa.fixed_shape_tensor(pa.uint8(), (3, 8, 9))) is None
    assert tensor_shape(pa.fixed_shape_tensor(pa.uint8(), (8, 9, 3), permutation=[2, 0, 1])) is None
    assert tensor_shape(pa.fixed_shape_tensor(pa.float32(), (8, 9, 3))) is None
    assert tensor_shape(pa.list_(pa.uint8(), 9)) is None


def test_parquet_keeps_the_shape_and_reports_overlap(tmp_path):
    for name, pixels in (("train", PIXELS), ("valid", PIXELS[3:])):
        table = pa.table({"image": image_array(pixels), "label": list(range(len(pixels)))})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    schema = infer_schema([tmp_path / "train.parquet"])
    assert (schema.inputs[0].kind, schema.inputs[0].shape) == ("image", SHAPE)
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema
    dataset = Dataset([tmp_path / "train.parquet"], schema)
    (batch,) = dataset.batches()
    np.testing.assert_array_equal(as_array(batch.take(np.array([4, 0])).columns["image"]), PIXELS[[4, 0]])
    sample = dataset.sample(2, seed=0)
    np.testing.assert_array_equal(as_array(sample.columns["image"]), PIXELS[sample.rows_B])
    report = check([tmp_path / "train.parquet"], schema=schema, valid=[tmp_path / "valid.parquet"])
    assert report.valid.overlap_rows == 2


def test_nested_lists_are_images(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"image": image, "label": 1}) for image in PIXELS[..., 0].tolist()]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    schema = infer_schema([path])
    assert (schema.inputs[0].kind, schema.inputs[0].shape) == ("image", SHAPE)
    (batch,) = Dataset([path], schema).batches()
    rows = [{"image": PIXELS[0].tolist()}, {"image": PIXELS[1].ravel().tolist()}]
    np.testing.assert_array_equal(as_array(columns_of(schema, rows)["image"]), PIXELS[:2])
    np.testing.assert_array_equal(as_array(batch.columns["image"]), PIXELS)
    with pytest.raises(DataError, match="row 1: column 'image' must be an image of 4 × 3 × 1"):
        columns_of(schema, [rows[0], {"image": [1, 2, 3]}])


def test_a_flat_list_has_no_shape(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"x": PIXELS.reshape(5, 12).tolist(), "label": [1] * 5}), path)
    with pytest.raises(DataError, match="must hold each image as a list of rows of pixels"):
        infer_schema([path], kinds={"x": "image"})


COLOR = (4, 3, 3)


def test_gray_images_are_images_in_color_for_a_model_of_colors(tmp_path):
    schema = Schema((Column("image", "image", shape=COLOR),), target=None)
    pq.write_table(pa.table({"image": image_array(PIXELS)}), tmp_path / "gray.parquet")
    (batch,) = Dataset([tmp_path / "gray.parquet"], schema).batches()
    expected = np.repeat(PIXELS, 3, axis=3)
    np.testing.assert_array_equal(batch.columns["image"].to_numpy_ndarray(), expected)
    rows = [{"image": pixels.tolist()} for pixels in PIXELS[..., 0]]
    np.testing.assert_array_equal(columns_of(schema, rows)["image"].to_numpy_ndarray(), expected)


@pytest.mark.parametrize("shape", [(3, 4, 1), (2, 6, 1), (12, 1, 1), (6, 2, 1)])
def test_images_of_as_many_pixels_and_another_size_are_bad(tmp_path, shape):
    schema = Schema((Column("image", "image", shape=SHAPE),), target=None)
    pq.write_table(pa.table({"image": image_array(PIXELS.reshape(-1, *shape))}), tmp_path / "a.parquet")
    with pytest.raises(BadRowError, match=f"of 4 × 3 × 1 numbers, got one of {shape[0]} × {shape[1]} × 1"):
        list(Dataset([tmp_path / "a.parquet"], schema).batches())

"""Digits are read as they stand."""

import pytest
import torch

from widemax.recipes.digits import read_digits


@pytest.mark.slow
def test_the_first_digits_of_both_splits(widemax_data, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("WIDEMAX_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    train, test = read_digits("train", 10), read_digits("test", 5)
    assert train.labels_N.tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert test.labels_N.tolist() == [7, 2, 1, 0, 4]
    assert train.pixels_NHW.shape == (10, 28, 28)
    # The bar of the 4 crosses its middle row, ink is bright.
    assert train.pixels_NHW[2].amax() == 255
    assert train.pixels_NHW[:, 0].amax() == 0
    assert len(train.take(torch.tensor([0, 2]))) == 2
    assert train.unit.max() == 1

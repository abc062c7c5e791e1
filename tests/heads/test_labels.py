"""One or several labels a row."""

import pytest
import torch

from widemax.errors import LabelError, ShapeError
from widemax.heads import SeveralLabels
from widemax.heads.labels import label_pairs, no_pairs, training_pairs


def test_several_labels_become_pairs():
    labels = SeveralLabels(torch.tensor([5, 2, 7]), torch.tensor([0, 0, 2, 3, 3]))
    assert len(labels) == 4
    rows, ids = labels.to("cpu").pairs()
    assert rows.tolist() == [1, 1, 2]
    assert ids.tolist() == [5, 2, 7]


def test_single_labels_become_pairs():
    rows, ids = label_pairs(torch.tensor([4, 4], dtype=torch.int32), torch.zeros(2, 3))
    assert rows.tolist() == [0, 1]
    assert ids.dtype == torch.int64
    assert [len(part) for part in no_pairs(torch.device("cpu"))] == [0, 0]


@pytest.mark.parametrize(
    "labels",
    [
        torch.tensor([1]),
        torch.tensor([[1], [2]]),
        SeveralLabels(torch.tensor([1]), torch.tensor([0, 1])),
    ],
)
def test_other_numbers_of_rows_are_refused(labels):
    with pytest.raises(ShapeError, match="the 2 rows of hidden"):
        label_pairs(labels, torch.zeros(2, 3))


def test_rows_are_taken_in_the_given_order_and_put_together():
    labels = SeveralLabels(torch.tensor([5, 2, 7]), torch.tensor([0, 0, 2, 3, 3]))
    taken = labels.take(torch.tensor([2, 0, 1, 2]))
    assert taken.ids_P.tolist() == [7, 5, 2, 7]
    assert taken.offsets_B1.tolist() == [0, 1, 1, 3, 4]
    both = SeveralLabels.concatenate([labels, taken])
    assert both.ids_P.tolist() == [5, 2, 7, 7, 5, 2, 7]
    assert both.offsets_B1.tolist() == [0, 0, 2, 3, 3, 4, 4, 6, 7]
    assert len(labels.take(torch.arange(0))) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64], ids=str)
def test_labels_that_are_no_whole_numbers_are_refused(dtype):
    labels = torch.tensor([1, 0]).to(dtype)
    for given in (labels, SeveralLabels(labels, torch.tensor([0, 1, 2]))):
        with pytest.raises(ShapeError, match=rf"labels must be class ids, whole numbers; got {dtype}"):
            label_pairs(given, torch.zeros(2, 3))


def test_a_class_twice_in_a_row_is_refused():
    labels = SeveralLabels(torch.tensor([2, 1, 2, 1]), torch.tensor([0, 1, 4]))
    with pytest.raises(LabelError, match="row 1 has class 1 twice"):
        training_pairs(labels, torch.zeros(2, 3), 3)
    with pytest.raises(LabelError, match="must lie in"):
        training_pairs(labels, torch.zeros(2, 3), 2)


def test_one_label_a_row_is_several_of_length_one():
    several = SeveralLabels.of(torch.tensor([5, 2, 5]))
    assert several.ids_P.tolist() == [5, 2, 5]
    assert several.offsets_B1.tolist() == [0, 1, 2, 3]
    assert SeveralLabels.of(several) is several

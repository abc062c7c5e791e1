import numpy as np
import pytest
from evaluation_rows import several_label_rows

from widemax.errors import ShapeError
from widemax.evaluation import OneLabelRows, SeveralLabelRows

IDS = np.zeros((2, 3), np.int64)
ONE = {
    "labels_B": np.array([0, 1]),
    "ranks_B": np.array([1, 2]),
    "log_probs_B": np.zeros(2),
    "topk_ids_BK": IDS,
    "topk_log_probs_BK": np.zeros((2, 3)),
    "square_sums_B": np.ones(2),
}
SEVERAL = {
    "label_ids_P": np.array([0, 1, 2]),
    "offsets_B1": np.array([0, 1, 3]),
    "ranks_P": np.array([1, 2, 3]),
    "topk_ids_BK": IDS,
}


@pytest.mark.parametrize("field", ONE)
def test_one_label_rows_refuse_arrays_of_other_rows(field: str) -> None:
    OneLabelRows(**ONE)
    with pytest.raises(ShapeError, match=r"must be .* got shape"):
        OneLabelRows(**{**ONE, field: ONE[field][:1]})


@pytest.mark.parametrize("field", SEVERAL)
def test_several_label_rows_refuse_arrays_of_other_rows(field: str) -> None:
    SeveralLabelRows(**SEVERAL)
    with pytest.raises(ShapeError, match=r"must be .* got shape"):
        SeveralLabelRows(**{**SEVERAL, field: SEVERAL[field][:1]})


def test_offsets_must_span_all_labels() -> None:
    with pytest.raises(ShapeError, match="offsets from 0 to 3"):
        SeveralLabelRows(**{**SEVERAL, "offsets_B1": np.array([0, 1, 2])})
    with pytest.raises(ShapeError, match="offsets from 0 to 3"):
        SeveralLabelRows(**{**SEVERAL, "offsets_B1": np.array([1, 1, 3])})


def test_views_of_ragged_rows() -> None:
    scores = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [1.0, 1.0, 1.0]])
    rows = several_label_rows(scores, [[0, 2], [], [-1]])
    assert len(rows) == 3
    assert rows.num_unseen == 1
    assert rows.num_labels_B.tolist() == [2, 0, 1]
    assert rows.row_of_label_P.tolist() == [0, 0, 2]
    assert rows.hits_P(3).tolist() == [True, True, False]
    assert rows.sum_by_row(rows.hits_P(3)).tolist() == [2, 0, 0]

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from widemax.errors import UsageError
from widemax.evaluation import auroc

# Few distinct values make many ties.
scores = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=30).map(np.array)


@given(positive=scores, negative=scores)
def test_agrees_with_scikit_learn(positive: np.ndarray, negative: np.ndarray) -> None:
    truth = np.r_[np.ones(positive.size), np.zeros(negative.size)]
    expected = roc_auc_score(truth, np.r_[positive, negative])
    assert auroc(positive, negative) == pytest.approx(expected, abs=1e-12)


def test_infinite_scores_are_ordered() -> None:
    assert auroc(np.array([np.inf, 0.0]), np.array([-np.inf])) == 1.0


@pytest.mark.parametrize("bad", [np.array([]), np.array([0.5, np.nan])])
def test_refuses_what_has_no_answer(bad: np.ndarray) -> None:
    with pytest.raises(UsageError, match="negative_scores must hold"):
        auroc(np.array([1.0]), bad)

"""F1 of suggestions against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from widemax.artifact import Prediction
from widemax.recipes.subject_indexing import answered, f1_above, f1_of_firsts

SUBJECTS = [["a", "c"], ["b"], [], ["a", "b", "c", "d"]]
ORDER = ["abcd", "dbac", "bdac", "cabd"]
PROBS = [[0.9, 0.6, 0.3, 0.1], [0.8, 0.5, 0.4, 0.2], [0.3, 0.2, 0.1, 0.1], [0.7, 0.7, 0.5, 0.5]]


def truth(given: list[set[str]]) -> float:
    is_label, is_given = (
        [[letter in row for letter in "abcd"] for row in rows] for rows in (map(set, SUBJECTS), given)
    )
    return f1_score(np.array(is_label), np.array(is_given), average="micro")


def test_f1_is_that_of_scikit_learn():
    suggested = [
        [Prediction(label, prob, 0.0) for label, prob in zip(*row, strict=True)]
        for row in zip(ORDER, PROBS, strict=True)
    ]
    probs_BK, right_BK = answered(suggested, SUBJECTS)
    expected = [truth([set(row[:k]) for row in ORDER]) for k in range(1, 5)]
    assert f1_of_firsts(right_BK, 7).tolist() == pytest.approx(expected)
    thresholds = np.array([0.15, 0.5, 0.85])
    expected = [
        truth([{p.label for p in row if p.probability >= threshold} for row in suggested])
        for threshold in thresholds
    ]
    assert f1_above(probs_BK, right_BK, 7, thresholds).tolist() == pytest.approx(expected)

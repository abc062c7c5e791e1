"""The dual point of liblinear, read off features that only one row has."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix, random

from widemax.solvers.liblinear import dual_coordinate_descent


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(("num_classes", "crammer_singer"), [(2, False), (2, True), (3, False), (3, True)])
def test_the_parts_of_rows_make_the_weights_and_are_a_dual_point(num_classes, crammer_singer, fit_intercept):
    generator = np.random.default_rng(0)
    X = csr_matrix(random(80, 30, 0.2, random_state=0))
    y = generator.permutation(np.arange(80) % num_classes)
    row_weight, C = generator.uniform(0.5, 2, 80), 3.0
    weight_FK, part_NK, passes = dual_coordinate_descent(
        X,
        y,
        row_weight,
        crammer_singer=crammer_singer,
        C=C,
        fit_intercept=fit_intercept,
        violation=1e-3,
        max_iter=10_000,
    )
    rows_NF = np.concatenate([X.toarray(), np.ones((80, int(fit_intercept)))], axis=1)
    np.testing.assert_allclose(rows_NF.T @ part_NK, weight_FK, atol=1e-9)
    assert part_NK.shape == (80, 1 if num_classes == 2 else num_classes)
    assert passes > 1
    share_NK = part_NK / (C * row_weight[:, None])
    if num_classes == 2:
        own_NK = share_NK * np.where(y == 1, 1, -1)[:, None]
    elif crammer_singer:
        np.testing.assert_allclose(share_NK.sum(1), 0, atol=1e-9)
        own_NK = np.where(y[:, None] == range(3), share_NK, -share_NK)
    else:
        own_NK = np.where(y[:, None] == range(3), share_NK, -share_NK)
    assert own_NK.min() >= -1e-9
    assert 1 - 1e-3 < own_NK.max() <= 1 + 1e-9

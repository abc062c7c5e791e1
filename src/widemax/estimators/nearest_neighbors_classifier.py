"""Exact k nearest neighbors, as a scikit-learn classifier.

Shapes: N fitted rows, D features, B query rows, K neighbors, C classes.
"""

from typing import Any, Literal, Self, final

import numpy as np
from sklearn.utils.validation import check_is_fitted, validate_data

from widemax.estimators.base import (
    DTYPES,
    Array,
    ProbabilisticClassifier,
    check_classes,
    dense,
    given_labels,
    of_known_type,
)
from widemax.estimators.options import check_options, with_options
from widemax.options import AtLeast1
from widemax.search import ExactIndex


@final
@with_options
class NearestNeighborsClassifier(ProbabilisticClassifier):
    """The majority among the k nearest rows: p_c = share of class c in them.

    Rows are found by :class:`widemax.search.ExactIndex`: neighbors are exact in float64, at equal distance
    the row fitted first is nearer. A scan of 8-bit codes of all rows, which is one matrix product a block,
    rules out nearly all of them. Equal shares go to the first class. A neighbor further away counts as much
    as a near one. Sparse rows are made dense.

    ``decision_function`` gives the shares too, as a neighbor has no score of its own.

    Args:
        n_neighbors: k; all rows if there are fewer.
        metric: "euclidean", or "cosine" for the largest cosine.

    Attributes:
        rows_: the fitted rows, [N, D].
        labels_: the place of each row's class in ``classes_``, [N].

    Example:
        >>> model = NearestNeighborsClassifier(n_neighbors=3)
        >>> model.fit([[0.0], [1.0], [2.0], [9.0]], ["near", "near", "far", "far"]).predict([[0.5]])
        array(['near'], dtype='<U4')
        >>> model.predict_proba([[0.5]]).round(2)
        array([[0.33, 0.67]])

    Source: Cover and Hart, "Nearest neighbor pattern classification", IEEE Trans. Inf. Theory 1967.
    """

    n_neighbors: AtLeast1 = 5
    metric: Literal["euclidean", "cosine"] = "euclidean"

    def fit(self, X: Any, y: Any) -> Self:
        """Keep the rows.

        Args:
            X: features, [N, D], dense or sparse.
            y: class of each row, [N].

        Raises:
            ConfigError: an option out of its range.
            DataError: a number beyond float32's range.
        """
        check_options(self)
        X, y = validate_data(self, X, given_labels(y), accept_sparse="csr", dtype=DTYPES)
        check_classes(y)
        self.classes_, self.labels_ = np.unique(y, return_inverse=True)
        self.rows_ = dense(X)
        self._restored()
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        """Add rows after those fitted; classes may be new.

        Args:
            X: features, [N, D].
            y: class of each row, [N].
            classes: further classes that later rows may have.

        Raises:
            ConfigError: an option out of its range.
            DataError: classes of another type than before.
        """
        check_options(self)
        is_first = not hasattr(self, "rows_")
        X, y = validate_data(self, X, given_labels(y), accept_sparse="csr", dtype=DTYPES, reset=is_first)
        check_classes(y)
        known = y if is_first else self.classes_
        y = of_known_type(y, known)
        named = y if classes is None else np.concatenate([y, of_known_type(classes, known)])
        rows_ND, y_N = dense(X), y
        if not is_first:
            rows_ND = np.concatenate([self.rows_, rows_ND])
            y_N = np.concatenate([self.classes_[self.labels_], y])
            named = np.concatenate([self.classes_, named])
        self.classes_ = np.unique(named)
        self.labels_ = np.searchsorted(self.classes_, y_N)
        self.rows_ = rows_ND
        self._restored()
        return self

    def _restored(self) -> None:
        self._index = ExactIndex(self.rows_, metric=self.metric)

    def kneighbors(self, X: Any) -> tuple[Array, Array]:
        """Distances (for "cosine" 1 − cosine) and numbers of the nearest rows, [B, K], nearest first."""
        check_is_fitted(self)
        return self._nearest(self._checked(X))

    def _nearest(self, X: Any) -> tuple[Array, Array]:
        nearest = self._index.topk(dense(X), min(self.n_neighbors, len(self.rows_)))
        scores_BK: Array = nearest.scores.numpy()
        return scores_BK if self.metric == "euclidean" else 1 - scores_BK, nearest.ids.numpy()

    def _scores(self, X: Any) -> Array:
        labels_BK = self.labels_[self._nearest(X)[1]]
        votes_BC = np.zeros((len(labels_BK), len(self.classes_)))
        np.add.at(votes_BC, (np.arange(len(labels_BK))[:, None], labels_BK), 1)
        votes_BC /= labels_BK.shape[1]
        return votes_BC

    def _log_probs(self, X: Any) -> Array:
        with np.errstate(divide="ignore"):
            return np.log(self._scores(X))

    def _ranked(self, X: Any) -> Array:
        return self._scores(X)

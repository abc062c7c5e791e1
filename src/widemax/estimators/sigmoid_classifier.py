"""A yes-or-no question a label, as a scikit-learn classifier.

Shapes: N rows, D features, L labels, K = L vectors of weights (1 for two classes).
"""

from typing import Any, Self, final

import numpy as np
import scipy.sparse
from sklearn.utils import column_or_1d
from sklearn.utils.validation import validate_data

from widemax.errors import DataError
from widemax.estimators.base import DTYPES, Array, encoded_labels, weights_of_rows
from widemax.estimators.options import check_options, with_options
from widemax.estimators.regression import Regression
from widemax.numerics import log_sigmoid, log_softmax


@final
@with_options
class SigmoidClassifier(Regression):
    """Linear multi-label classification: a logistic regression a label, all solved at once to a proven gap.

    Minimizes Σ_l Σ_i ω_i (softplus(s_il) − y_il s_il) + λ ((1 − r)/2 ‖W‖² + r ‖W‖₁) with s = W x + b, ω_i the
    share of row i in all weights, λ = 1 / (C Σ_i w_i), r = l1_ratio, and b unpenalized: for each label the
    objective of ``sklearn.linear_model.LogisticRegression``.

    y is an indicator matrix, [N, L], or holds one class a row. In the first case ``predict`` gives an
    indicator matrix, 1 where a probability exceeds ½, and the probabilities of a row are those of each label.
    In the second case each class is a question against the rest, of which the likeliest is predicted, and
    probabilities are divided by their sum. There is no ``partial_fit``: an optimum belongs to all rows
    together; ``warm_start`` begins at the previous one.

    Attributes:
        classes_: the classes, sorted; the labels 0 to L − 1 for an indicator matrix.
        multilabel_: whether y was an indicator matrix.

    Example:
        >>> import numpy as np
        >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        >>> model = SigmoidClassifier(C=10.0).fit(X, X > 0)
        >>> model.predict([[1.0, 0.2]]), model.top_k([[1.0, 0.2]], 1)[0]
        (array([[1, 0]]), array([[0]]))

    Source: Zhang and Zhou, "A Review on Multi-Label Learning Algorithms", TKDE 2014, sec. 3.1 (binary
        relevance).
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Find the optimum.

        Args:
            X: features, [N, D], dense or sparse; float32 and float64 stay as they are.
            y: an indicator matrix, [N, L], dense or sparse; or the class of each row, [N].
            sample_weight: weight of each row, [N].

        Raises:
            ConfigError: an option out of its range.
            DataError: answers other than 0 and 1, fewer than two classes, or no row of positive weight.
            ShapeError: a warm start from other features or labels.
        """
        check_options(self)
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=DTYPES, order="C", multi_output=True)
        weight_N = weights_of_rows(X, sample_weight)
        self.multilabel_ = y.ndim == 2 and y.shape[1] > 1
        if self.multilabel_:
            answers_NK = _checked_answers(y)
            classes = np.arange(answers_NK.shape[1])
        else:
            classes, labels_N = encoded_labels(column_or_1d(y, warn=True))
            answers_NK = labels_N[:, None] == (
                np.arange(len(classes)) if len(classes) > 2 else np.ones(1, int)
            )
        start_FK = self._start(X.shape[1], answers_NK.shape[1], classes)
        return self._keep(self._solve(X, answers_NK, weight_N, start_FK), classes, X.dtype)

    def decision_function(self, X: Any) -> Array:
        """Logits, [N, L]; for two classes those of the second, [N]."""
        logits_NC = self._scores(self._checked(X))
        return logits_NC if self.multilabel_ or logits_NC.shape[1] > 2 else logits_NC[:, 1]

    def predict(self, X: Any) -> Array:
        """An indicator matrix of the likely labels, [N, L]; or the likeliest class of each row, [N]."""
        logits = self.decision_function(X)
        return (logits > 0).astype(int) if self.multilabel_ else super().predict(X)

    def _log_probs(self, X: Any) -> Array:
        logits_NC = self._scores(X)
        if self.multilabel_:
            return log_sigmoid(logits_NC)
        return log_softmax(logits_NC if len(self.classes_) == 2 else log_sigmoid(logits_NC))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _checked_answers(y: Any) -> Array:
    answers = y.data if scipy.sparse.issparse(y) else y
    if not np.isin(answers, (0, 1)).all():
        raise DataError(
            "y must be an indicator matrix of 0 and 1, [N, L], or hold one class a row; got other numbers in "
            f"shape {y.shape}. Give lists of labels as sklearn.preprocessing.MultiLabelBinarizer makes them."
        )
    answers_NL: Array = (y.toarray() if scipy.sparse.issparse(y) else y).astype(bool)
    return answers_NL

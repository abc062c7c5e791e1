"""Probabilities set right by one temperature, as a scikit-learn classifier. Shapes: N rows, C classes."""

from typing import Any, Self, final

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import check_cv
from sklearn.utils.validation import check_is_fitted, has_fit_parameter, validate_data

from widemax.errors import DataError
from widemax.estimators.base import (
    Array,
    ProbabilisticClassifier,
    encoded_labels,
    given_labels,
    weights_of_rows,
)
from widemax.estimators.softmax_regression import SoftmaxRegression
from widemax.evaluation.calibration import fit_temperature
from widemax.numerics import log_softmax

_NEVER = 1e-12
"""What a probability of 0 counts as, which no temperature could mend."""


@final
class CalibratedTemperature(ProbabilisticClassifier):
    """A classifier whose logits are divided by the temperature that suits rows it was not fitted to.

    The classifier is fitted on each training part of ``cv``; the logits of the parts left out, together,
    decide T by the least weighted mean of −log softmax(logits / T)_y, as
    :func:`widemax.evaluation.calibration.fit_temperature` does. Then the classifier is
    fitted once more, to all rows. One that is fitted already comes as
    ``sklearn.frozen.FrozenEstimator(classifier)``: it stays as it is, and all rows of ``fit`` decide T.

    Logits are log-probabilities where the classifier has them (a probability of 0 counts as 1e-12), else
    its decision values. No temperature changes what is predicted. There is no ``partial_fit``: T is for the
    classifier as it is; fit again, frozen, after its own ``partial_fit``.

    Args:
        estimator: the classifier; ``SoftmaxRegression()`` without.
        cv: number of parts, or a splitter, or (training rows, held-out rows) pairs.

    Attributes:
        classes_: the classes of the classifier.
        estimator_: the classifier, fitted to all rows.
        temperature_: T.
        n_features_in_: number of features.

    Example:
        >>> from sklearn.frozen import FrozenEstimator
        >>> import numpy as np
        >>> X, y = np.arange(8.0)[:, None], [0, 0, 0, 1, 0, 1, 1, 1]
        >>> sure = SoftmaxRegression(C=1e6).fit(X[::2], y[::2])
        >>> CalibratedTemperature(FrozenEstimator(sure), cv=2).fit(X, y).temperature_ > 1
        True

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, sec. 4.2.
    """

    def __init__(self, estimator: Any = None, *, cv: Any = 5) -> None:
        self.estimator = estimator
        self.cv = cv

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the temperature, and the classifier unless it is frozen.

        Args:
            X: features, [N, D], dense or sparse.
            y: class of each row, [N].
            sample_weight: weight of each row, [N]; the classifier gets it where it takes weights.

        Raises:
            DataError: fewer than two classes, or no held-out row of positive weight whose class was fitted.
        """
        estimator = SoftmaxRegression() if self.estimator is None else self.estimator
        X, y = validate_data(self, X, given_labels(y), accept_sparse="csr")
        encoded_labels(y)
        weight_N = weights_of_rows(X, sample_weight)

        def fitted(rows: Any) -> Any:
            takes = sample_weight is not None and has_fit_parameter(estimator, "sample_weight")
            options = {"sample_weight": weight_N[rows]} if takes else {}
            return clone(estimator).fit(X[rows], y[rows], **options)

        every_row = np.arange(len(y))
        is_frozen = isinstance(estimator, FrozenEstimator)
        splits = [(every_row, every_row)] if is_frozen else check_cv(self.cv, y, classifier=True).split(X, y)
        parts = []
        for train, rest in splits:
            model = fitted(train)
            rest = rest[np.isin(y[rest], model.classes_) & (weight_N[rest] > 0)]
            if len(rest):
                parts.append(
                    (_logits(model, X[rest]), np.searchsorted(model.classes_, y[rest]), weight_N[rest])
                )
        if not parts:
            raise DataError("no held-out row has a class that the classifier was fitted to; give more rows.")

        held_out_N = np.concatenate([weight for _, _, weight in parts])

        def nll(temperature: float) -> float:
            losses = (
                -weight @ log_softmax(logits / temperature)[np.arange(len(labels)), labels]
                for logits, labels, weight in parts
            )
            return float(sum(losses) / held_out_N.sum())

        self.estimator_ = fitted(slice(None))
        self.classes_ = self.estimator_.classes_
        self.temperature_ = fit_temperature(nll, num_rows=held_out_N.sum())
        return self

    def _scores(self, X: Any) -> Array:
        scores_NC: Array = _logits(self.estimator_, X) / self.temperature_
        return scores_NC

    def _checked(self, X: Any) -> Any:
        check_is_fitted(self)
        return validate_data(self, X, accept_sparse="csr", reset=False)


def _logits(model: Any, X: Any) -> Array:
    if hasattr(model, "predict_log_proba"):
        with np.errstate(divide="ignore"):
            log_probs_NC = np.asarray(model.predict_log_proba(X), np.float64)
        return np.where(log_probs_NC == -np.inf, np.log(_NEVER), log_probs_NC)
    scores = np.asarray(model.decision_function(X), np.float64)
    return scores if scores.ndim == 2 else np.stack([np.zeros_like(scores), scores], axis=1)

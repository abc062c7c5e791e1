"""What the classifiers share: from scores to answers. Shapes: N rows, D features, C classes, K kept."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from numbers import Real
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from widemax.errors import ConfigError, DataError, did_you_mean
from widemax.estimators.files import StoredEstimator
from widemax.numerics import log_softmax
from widemax.options import AtLeast1

Array = npt.NDArray[Any]

ClassWeight = Mapping[Any, Any] | Literal["balanced"] | None
"""Weights by class, 1 for those without; "balanced" makes all classes of positive weight count alike."""

_MOST_SHOWN = 5

DTYPES = [np.float64, np.float32]
"""Precisions of features that stay as they are; others become the first."""


class Classifier(ClassifierMixin, StoredEstimator, ABC):  # type: ignore[misc]  # scikit-learn has no types
    """A classifier with a score a class.

    Attributes:
        classes_: the classes, sorted.
        n_features_in_: D.
    """

    classes_: Array

    @abstractmethod
    def _scores(self, X: Any) -> Array:
        """Scores of all classes, [N, C], of features that were checked."""

    def _checked(self, X: Any) -> Any:
        check_is_fitted(self)
        return validate_data(self, X, accept_sparse="csr", dtype=DTYPES, reset=False)

    def decision_function(self, X: Any) -> Array:
        """Scores, [N, C]; for two classes the second's minus the first's, [N]."""
        scores_NC = self._scores(self._checked(X))
        return scores_NC[:, 1] - scores_NC[:, 0] if len(self.classes_) == 2 else scores_NC

    def predict(self, X: Any) -> Array:
        """The class of the largest score of each row, [N]; the first of equal ones."""
        best_N = self._scores(self._checked(X)).argmax(axis=1)
        classes_N: Array = self.classes_[best_N]
        return classes_N

    def top_k(self, X: Any, k: AtLeast1) -> tuple[Array, Array]:
        """The k best classes of each row (all if there are fewer), best first, equal ones in class order.

        Args:
            X: features, [N, D].
            k: how many, at least 1.

        Returns:
            Classes [N, K], and what ranks them, [N, K]: probabilities, or scores where there are none.

        Raises:
            OptionError: a k that is no whole number of at least 1.
        """
        ranked_NC = self._ranked(self._checked(X))
        best_NK = np.argsort(-ranked_NC, axis=1, kind="stable")[:, :k]
        return self.classes_[best_NK], np.take_along_axis(ranked_NC, best_NK, axis=1)

    def _ranked(self, X: Any) -> Array:
        return self._scores(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class ProbabilisticClassifier(Classifier, ABC):
    """A classifier whose scores are logits: probabilities are their softmax."""

    def _log_probs(self, X: Any) -> Array:
        return log_softmax(self._scores(X))

    def _ranked(self, X: Any) -> Array:
        probs_NC: Array = np.exp(self._log_probs(X))
        return probs_NC

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of the class probabilities, [N, C]."""
        return self._log_probs(self._checked(X))

    def predict_proba(self, X: Any) -> Array:
        """Class probabilities, [N, C], in the order of ``classes_``."""
        return self._ranked(self._checked(X))


def check_classes(y: Any) -> None:
    """Refuses targets that are no classes; as many classes as rows, of which scikit-learn warns, are."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        check_classification_targets(y)


def given_labels(y: Any) -> Any:
    """Targets, with NumPy's whole numbers for those of pandas that may be missing: scikit-learn rounds them.

    Raises:
        DataError: one is missing.
    """
    dtype = getattr(getattr(y, "dtype", None), "numpy_dtype", None)  # pandas has one for its own
    if getattr(dtype, "kind", "") not in ("i", "u", "b"):
        return y
    if y.isna().any():
        raise DataError("a label of y is missing; drop such rows.")
    return y.to_numpy(dtype)


def of_known_type(y: Any, known: Array) -> Array:
    """Labels in the type of the classes that are known, so that equal ones are found equal.

    Raises:
        DataError: they are of another type.
    """
    given: Array = np.asarray(y)
    kinds = {_kind(given), _kind(known)}
    if kinds == {"number"} and np.result_type(given, known).kind == "f":  # which holds not every integer
        cast: Array = given.astype(known.dtype)
        if (cast == given).all():
            return cast
    elif len(kinds) == 1:
        return given
    raise DataError(
        f"classes must stay of one type; got {given.dtype} after {known.dtype}. Convert y and classes."
    )


def _kind(labels: Array) -> str:
    """Text or numbers, whatever their widths."""
    if labels.dtype.kind in "iuf":
        return "number"
    return "text" if all(isinstance(label, str) for label in labels.flat) else labels.dtype.kind


def encoded_labels(y: Any) -> tuple[Array, Array]:
    """The classes, sorted, and each row's place among them, [N].

    Raises:
        DataError: fewer than two classes.
    """
    check_classes(y)
    classes, labels_N = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise DataError(f"y must hold at least two classes; got one class, {classes.tolist()[0]!r}.")
    return classes, labels_N


def weights_of_rows(X: Any, sample_weight: Any) -> Array:
    """The weights in float64, [N]; 1 where none are given.

    Raises:
        ValueError: as many weights as rows were not given, or one is negative or not finite.
        DataError: no row of positive weight, or a sum that is not finite.
    """
    weight_N: Array = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    return _checked_sum(weight_N, "sample_weight")


def with_class_weight(weight_N: Array, class_weight: ClassWeight, classes: Array, labels_N: Array) -> Array:
    """The weights of rows times those of their classes, [N].

    Raises:
        ConfigError: a class that y lacks, or a weight that is no finite number of at least 0.
        DataError: no row of positive weight, or a sum that is not finite.
    """
    if class_weight is None:
        return weight_N
    if class_weight == "balanced":
        total_C = np.bincount(labels_N, weight_N, minlength=len(classes))
        mean = total_C.sum() / np.count_nonzero(total_C)
        weight_C = np.divide(mean, total_C, out=np.zeros(len(classes)), where=total_C > 0)
    else:
        weight_C = _weights_by_class(class_weight, classes.tolist())
    with np.errstate(over="ignore"):
        return _checked_sum(weight_N * weight_C[labels_N], "sample_weight and class_weight")


def _weights_by_class(class_weight: Mapping[Any, float], classes: list[Any]) -> Array:
    for name, weight in class_weight.items():
        if name not in classes:
            raise ConfigError(
                f"class_weight must name classes of y; got {name!r}; "
                f"{did_you_mean(str(name), list(map(str, classes[:_MOST_SHOWN])))}"
            )
        if not (isinstance(weight, Real) and 0 <= weight < float("inf")):
            raise ConfigError(
                f"class_weight must give finite numbers of at least 0; got {weight!r} for class {name!r}."
            )
    return np.array([class_weight.get(name, 1.0) for name in classes], np.float64)


def _checked_sum(weight_N: Array, names: str) -> Array:
    with np.errstate(over="ignore"):
        total = float(weight_N.sum())
    if not 0 < total < np.inf:
        raise DataError(
            f"{names} must leave a row of positive weight, and a finite sum; the sum is {total:g}."
        )
    return weight_N


def dense(X: Any) -> Array:
    """The same features as an array."""
    array: Array = X.toarray() if scipy.sparse.issparse(X) else X
    return array

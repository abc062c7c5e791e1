"""scikit-learn's face: estimators with fit and predict on arrays."""

from widemax.estimators.softmax_regression import SoftmaxRegression

__all__ = ["SoftmaxRegression"]

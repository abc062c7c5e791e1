"""scikit-learn's face: estimators with fit and predict on arrays."""

from widemax.estimators.calibrated_temperature import CalibratedTemperature
from widemax.estimators.linear_svm import LinearSVM
from widemax.estimators.nearest_neighbors_classifier import NearestNeighborsClassifier
from widemax.estimators.sampled_softmax_classifier import SampledSoftmaxClassifier
from widemax.estimators.sigmoid_classifier import SigmoidClassifier
from widemax.estimators.softmax_regression import SoftmaxRegression
from widemax.estimators.two_layer_net import TwoLayerNet

__all__ = [
    "CalibratedTemperature",
    "LinearSVM",
    "NearestNeighborsClassifier",
    "SampledSoftmaxClassifier",
    "SigmoidClassifier",
    "SoftmaxRegression",
    "TwoLayerNet",
]

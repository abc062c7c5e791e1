"""The metrics by name; one file a metric."""

from widemax.evaluation.metrics.base import MeanMetric, Metric, TrainingCounts
from widemax.registry import Registry

metrics: Registry[type[Metric]] = Registry("metric", "widemax.evaluation.metrics")

__all__ = ["MeanMetric", "Metric", "TrainingCounts", "metrics"]

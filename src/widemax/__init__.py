"""Softmax classification at any width.

Importing widemax is cheap; torch is imported by the first name that needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from widemax.artifact import Model, Prediction
    from widemax.config import Config
    from widemax.errors import WidemaxError
    from widemax.predictor import Predictor
    from widemax.training.coverage import Covering, covering
    from widemax.training.evaluate import evaluate
    from widemax.training.loop import resume, train
    from widemax.training.runs import Outcome

__all__ = [
    "Config",
    "Covering",
    "Model",
    "Outcome",
    "Prediction",
    "Predictor",
    "WidemaxError",
    "covering",
    "evaluate",
    "resume",
    "train",
]

_HOMES = {
    "Config": "widemax.config",
    "Covering": "widemax.training.coverage",
    "Model": "widemax.artifact",
    "Outcome": "widemax.training.runs",
    "Prediction": "widemax.artifact",
    "Predictor": "widemax.predictor",
    "WidemaxError": "widemax.errors",
    "covering": "widemax.training.coverage",
    "evaluate": "widemax.training.evaluate",
    "resume": "widemax.training.loop",
    "train": "widemax.training.loop",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("widemax")
    if name not in _HOMES:
        raise AttributeError(f"module 'widemax' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

"""What classifiers trained by mini-batches share: passes over rows, and classes that come later.

Shapes: N rows, B of a batch, D features, H hidden, C classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data
from torch import Tensor, nn

from widemax.devices import device_of, repeatable
from widemax.estimators.base import (
    DTYPES,
    Array,
    ProbabilisticClassifier,
    check_classes,
    dense,
    encoded_labels,
    given_labels,
    of_known_type,
    weights_of_rows,
)
from widemax.estimators.options import Device, check_options
from widemax.heads.linear import LinearHead
from widemax.optim import RowOptimizer, linear_decay
from widemax.threads import threads_for, using_threads

_BLOCK = 4096
"""Rows that are answered at once."""


class MinibatchClassifier(ProbabilisticClassifier, ABC):
    """A hidden vector a row, and a head with a row of weights a class on it.

    Args:
        epochs: passes over the rows in ``fit``.
        batch_size: B, rows a step.
        device: what ``fit`` and ``partial_fit`` compute on: "cpu", "cuda" (a GPU of NVIDIA or AMD), or "auto"
            for the GPU where there is one. Answers are computed on the CPU.

    Attributes:
        classes_: the classes, sorted; those that came later after them.
        coef_: weights of the classes, [C, H], in the precision of the first features.
        intercept_: their biases, [C].
        moments_: what the optimizer remembers of each parameter.
        num_calls_: how many calls of ``fit`` and ``partial_fit`` there were.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    random_state: Any
    device: Device
    coef_: Array
    intercept_: Array

    def _start(self, num_features: int, generator: np.random.Generator, dtype: Any) -> int:
        """Set the attributes of the layers below the head; returns H. Without layers it is D."""
        return num_features

    def _layers(self) -> list[nn.Parameter]:
        """Parameters below the head, which share memory with the attributes."""
        return []

    def _keep(self, layers: list[nn.Parameter]) -> None:
        """Set the attributes of the layers below the head to what was trained."""

    def _hidden(self, layers: list[nn.Parameter], features_BD: Tensor) -> Tensor:
        """Hidden vectors, [B, H]."""
        return features_BD

    @abstractmethod
    def _new_head(self, num_classes: int, weight: nn.Parameter) -> LinearHead: ...

    @abstractmethod
    def _new_optimizer(self, parameters: list[nn.Parameter]) -> RowOptimizer: ...

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for ``epochs`` passes over the rows.

        Args:
            X: features, [N, D], dense or sparse; float32 and float64 stay as they are.
            y: class of each row, [N].
            sample_weight: weight of each row in the loss, [N].

        Raises:
            ConfigError: an option out of its range, or a device that is not there.
            DataError: fewer than two classes, or no row of positive weight.
        """
        check_options(self)
        device_of(self.device)
        X, y = validate_data(self, X, given_labels(y), accept_sparse="csr", dtype=DTYPES)
        classes, _ = encoded_labels(y)
        weight_N = weights_of_rows(X, sample_weight)
        self._begin(X, classes)
        return self._train(X, y, weight_N, epochs=self.epochs, decays=True)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """One further pass, over these rows; classes may be new, and stand after the known ones then.

        Args:
            X: features, [N, D], dense or sparse.
            y: class of each row, [N].
            classes: further classes that later rows may have.
            sample_weight: weight of each row in the loss, [N].

        Raises:
            ConfigError: an option out of its range, or a device that is not there.
            DataError: no row of positive weight, or classes of another type than before.
        """
        check_options(self)
        device_of(self.device)
        is_first = not hasattr(self, "coef_")
        X, y = validate_data(self, X, given_labels(y), accept_sparse="csr", dtype=DTYPES, reset=is_first)
        check_classes(y)
        weight_N = weights_of_rows(X, sample_weight)
        known = y if is_first else self.classes_
        y = of_known_type(y, known)
        named = np.unique(y if classes is None else np.concatenate([y, of_known_type(classes, known)]))
        if is_first:
            self._begin(X, named)
        new_classes = np.setdiff1d(named, self.classes_)
        return self._train(X, y, weight_N, epochs=1, new_classes=new_classes)

    def _begin(self, X: Any, classes: Array) -> None:
        self.classes_, self.num_calls_ = classes, 0
        dim = self._start(X.shape[1], self._generator(), X.dtype)
        self.coef_ = np.zeros((len(classes), dim), X.dtype)
        self.intercept_ = np.zeros(len(classes), X.dtype)
        self.moments_: list[dict[str, Any]] = []

    def _generator(self) -> np.random.Generator:
        return np.random.default_rng([check_random_state(self.random_state).randint(2**31), self.num_calls_])

    def _train(
        self,
        X: Any,
        y: Array,
        weight_N: Array,
        *,
        epochs: int,
        decays: bool = False,
        new_classes: Array | tuple[()] = (),
    ) -> Self:
        share_N = torch.from_numpy((weight_N / weight_N.mean()).astype(X.dtype))
        self.num_calls_ += 1
        generator = self._generator()
        device = device_of(self.device)
        layers = [nn.Parameter(layer.detach().to(device)) for layer in self._layers()]
        head = self._head().to(device)
        assert head.bias is not None
        head.seed(int(generator.integers(2**62)))
        parameters = [*layers, head.weight, head.bias]
        optimizer = self._new_optimizer(parameters)
        for parameter, moments in zip(parameters, self.moments_, strict=False):
            optimizer.state[parameter] = {
                name: torch.from_numpy(value).to(device) if isinstance(value, np.ndarray) else value
                for name, value in moments.items()
            }
        if len(new_classes):
            head.extend(len(new_classes), init="zeros", optimizer=optimizer)
            self.classes_ = np.concatenate([self.classes_, new_classes])
        labels_N = torch.from_numpy(self._places(y))
        num_steps = epochs * -(-len(y) // self.batch_size)
        operations = 6 * self.batch_size * sum(parameter.numel() for parameter in parameters)
        with using_threads(threads_for(operations)), repeatable(device, 0):
            for step, ids_B in enumerate(self._batches(len(y), epochs, generator)):
                factor = linear_decay(step, num_steps) if decays else 1.0
                optimizer.param_groups[0]["lr"] = factor * self.learning_rate
                features_BD = self._tensor(X[ids_B]).to(device)
                labels_B, share_B = labels_N[ids_B].to(device), share_N[ids_B].to(device)
                hidden_BH = self._hidden(layers, features_BD)
                loss = head(hidden_BH, labels_B, sample_weight=share_B, reduction="sum")
                optimizer.zero_grad()
                (loss / len(ids_B)).backward()
                optimizer.step()
        optimizer.catch_up()
        self._keep(layers)
        self.coef_, self.intercept_ = as_array(head.weight), as_array(head.bias)
        self.moments_ = [
            {
                name: as_array(value) if isinstance(value, Tensor) else value
                for name, value in optimizer.state[parameter].items()
            }
            for parameter in parameters
        ]
        return self

    def _places(self, y: Array) -> Array:
        """Where each class stands in ``classes_``, which is not sorted once classes came later."""
        order = np.argsort(self.classes_)
        places_N: Array = order[np.searchsorted(self.classes_, y, sorter=order)]
        return places_N

    def _batches(self, num_rows: int, epochs: int, generator: np.random.Generator) -> Iterator[Array]:
        for _ in range(epochs):
            order_N = generator.permutation(num_rows)
            for start in range(0, num_rows, self.batch_size):
                yield order_N[start : start + self.batch_size]

    def _head(self) -> LinearHead:
        head = self._new_head(len(self.classes_), nn.Parameter(_shared(self.coef_)))
        head.bias = nn.Parameter(_shared(self.intercept_))
        return head

    def _tensor(self, X: Any) -> Tensor:
        return _shared(dense(X).astype(self.coef_.dtype, copy=False))

    def _hidden_blocks(self, X: Any) -> Iterator[Tensor]:
        layers = self._layers()
        for start in range(0, X.shape[0], _BLOCK):
            with torch.no_grad():
                yield self._hidden(layers, self._tensor(X[start : start + _BLOCK]))

    def _scores(self, X: Any) -> Array:
        head = self._head()
        return np.concatenate(
            [head.logits(hidden_BH).detach().numpy() for hidden_BH in self._hidden_blocks(X)]
        )


def as_array(tensor: Tensor) -> Array:
    """A trained tensor as an attribute, on the CPU."""
    array: Array = tensor.detach().cpu().numpy()
    return array


def _shared(array: Array) -> Tensor:
    # Copied where it is read-only, which torch does not accept.
    return torch.from_numpy(np.require(array, requirements="W"))

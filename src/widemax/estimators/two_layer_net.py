"""A net with one hidden layer, as a scikit-learn classifier.

Shapes: B rows, D features, H hidden, C classes.
"""

from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from widemax.estimators.minibatch import MinibatchClassifier, as_array
from widemax.estimators.options import Device, NonNegative, Positive, Seed, with_options
from widemax.heads import ExactHead
from widemax.heads.linear import LinearHead
from widemax.optim import LazyAdam, RowOptimizer
from widemax.options import AtLeast1


@final
@with_options
class TwoLayerNet(MinibatchClassifier):
    """logits = W₂ relu(W₁ x + b₁) + b₂, trained on the mean cross-entropy by AdamW.

    Features should be of one scale, such as pixels divided by 255. Hidden weights start normal with variance
    2/D, all others at 0. The same ``random_state`` gives the same net on the same machine.

    Args:
        hidden_units: H.
        learning_rate: of AdamW; falls to 0 during ``fit``, constant in ``partial_fit``.
        weight_decay: decoupled decay of all parameters; learning_rate · weight_decay below 1.
        random_state: seed of the hidden weights and of the order of rows.

    Attributes:
        hidden_coef_: W₁, [H, D], in the precision of the first features.
        hidden_intercept_: b₁, [H].
        coef_: W₂, [C, H].
        intercept_: b₂, [C].

    Example:
        >>> X, y = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], ["same", "other", "other", "same"]
        >>> TwoLayerNet(hidden_units=16, epochs=300, learning_rate=0.02).fit(X, y).predict(X).tolist()
        ['same', 'other', 'other', 'same']

    Source: Kingma and Ba, "Adam", ICLR 2015; He et al., "Delving Deep into Rectifiers", ICCV 2015, eq. 10.
    """

    hidden_units: AtLeast1 = 128
    epochs: AtLeast1 = 30
    batch_size: AtLeast1 = 64
    learning_rate: Positive = 2e-3
    weight_decay: NonNegative = 0.0
    random_state: Seed = 0
    device: Device = "cpu"

    def _start(self, num_features: int, generator: np.random.Generator, dtype: Any) -> int:
        scale = np.sqrt(2 / num_features)
        self.hidden_coef_ = generator.normal(0, scale, (self.hidden_units, num_features)).astype(dtype)
        self.hidden_intercept_ = np.zeros(self.hidden_units, dtype)
        return self.hidden_units

    def _layers(self) -> list[nn.Parameter]:
        return [nn.Parameter(self._tensor(array)) for array in (self.hidden_coef_, self.hidden_intercept_)]

    def _keep(self, layers: list[nn.Parameter]) -> None:
        self.hidden_coef_, self.hidden_intercept_ = map(as_array, layers)

    def _hidden(self, layers: list[nn.Parameter], features_BD: Tensor) -> Tensor:
        weight_HD, bias_H = layers
        return torch.relu(nn.functional.linear(features_BD, weight_HD, bias_H))

    def _new_head(self, num_classes: int, weight: nn.Parameter) -> LinearHead:
        return ExactHead(num_classes, weight.shape[1], weight=weight)

    def _new_optimizer(self, parameters: list[nn.Parameter]) -> RowOptimizer:
        return LazyAdam(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)

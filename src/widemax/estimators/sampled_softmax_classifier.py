"""Softmax regression over very many classes, as a scikit-learn classifier.

Shapes: N rows, B of a batch, D features, C classes, K kept.
"""

from typing import Any, final

import numpy as np
from torch import nn

from widemax.estimators.base import Array
from widemax.estimators.minibatch import MinibatchClassifier
from widemax.estimators.options import Device, Positive, Seed, with_options
from widemax.heads import ExactHead, SampledHead
from widemax.heads.linear import LinearHead
from widemax.optim import RowOptimizer, RowwiseAdagrad
from widemax.options import AtLeast1
from widemax.samplers.base import SamplerSpec, build_sampler


@final
@with_options
class SampledSoftmaxClassifier(MinibatchClassifier):
    """A linear softmax classifier for up to millions of classes: a training step costs the classes it draws.

    logits = W x + b; a step minimizes the softmax loss over the labels of its rows and a shared draw of
    classes, each logit corrected by its expected count (``widemax.heads.SampledHead``), with row-wise
    Adagrad, whose rate falls to 0 during ``fit``. Where there are no more classes than draws the loss is that
    of all classes. Answers are exact over all classes: ``predict`` and ``top_k`` read W once and never hold
    [N, C] numbers; ``decision_function``, ``predict_proba`` and ``predict_log_proba`` give all of them.

    Weights take C · D numbers, so features are to be few, such as an embedding; batches of sparse rows are
    made dense. For text and tables ``widemax train`` learns such features.

    Args:
        num_sampled: classes drawn a step.
        sampler: what draws them: a name of ``widemax.samplers``, a table with kind and options, its class, or
            itself; one that needs no class counts.
        learning_rate: of row-wise Adagrad, constant in ``partial_fit``.
        random_state: seed of the draws and of the order of rows.

    Attributes:
        coef_: W, [C, D], in the precision of the first features; float32 halves it.
        intercept_: b, [C].

    Example:
        >>> model = SampledSoftmaxClassifier().fit([[0.0, 1.0], [1.0, 0.0]], ["up", "right"])
        >>> model.partial_fit([[-1.0, 0.0]] * 50, ["left"] * 50).classes_.tolist()
        ['right', 'up', 'left']
        >>> model.top_k([[-1.0, 0.1]], 1)[0].tolist()
        [['left']]

    Source: Jean et al., "On Using Very Large Target Vocabulary for Neural Machine Translation", ACL 2015,
        sec. 3.
    """

    num_sampled: AtLeast1 = 4096
    sampler: SamplerSpec = "uniform"
    epochs: AtLeast1 = 10
    batch_size: AtLeast1 = 256
    learning_rate: Positive = 0.1
    random_state: Seed = 0
    device: Device = "cpu"

    def _new_head(self, num_classes: int, weight: nn.Parameter) -> LinearHead:
        dim = weight.shape[1]
        build_sampler(self.sampler, num_classes)  # which may be wrong where it is not drawn from, too
        if num_classes <= self.num_sampled:
            return ExactHead(num_classes, dim, weight=weight)
        return SampledHead(
            num_classes, dim, weight=weight, num_sampled=self.num_sampled, sampler=self.sampler
        )

    def _new_optimizer(self, parameters: list[nn.Parameter]) -> RowOptimizer:
        return RowwiseAdagrad(parameters, lr=self.learning_rate)

    def predict(self, X: Any) -> Array:
        return self.top_k(X, 1)[0][:, 0]

    def top_k(self, X: Any, k: AtLeast1) -> tuple[Array, Array]:
        X = self._checked(X)
        head = self._head()
        best = [head.topk(hidden_BH, k) for hidden_BH in self._hidden_blocks(X)]
        ids_NK = np.concatenate([topk.class_ids.numpy() for topk in best])
        probs_NK = np.concatenate([topk.log_probs.exp().numpy() for topk in best])
        return self.classes_[ids_NK], probs_NK

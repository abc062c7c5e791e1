"""The loss of a softmax over sums of n-grams with its gradients, which takes less time than autograd's calls.

Shapes: B rows, D hidden, C classes, F n-grams.
"""

import torch
from torch import Tensor
from torch.nn.functional import linear, nll_loss

from widemax.artifact import Model
from widemax.encoders import TextEncoder
from widemax.encoders.bag import TableRows, weight_gradient, weighted_sums
from widemax.heads import ExactHead
from widemax.training.feed import EncodedRows


@torch.no_grad()
def direct_loss(model: Model, rows: EncodedRows) -> Tensor | None:
    """The mean loss of training rows, whose gradients become those of all parameters.

    Returns:
        None where the model is another one, or the rows are: autograd finds their gradients.
    """
    encoder, head, labels_B = model.encoder, model.head, rows.labels
    if not (
        type(encoder) is TextEncoder  # others may have a forward of their own
        and type(encoder.rows) is TableRows
        and type(head) is ExactHead
        and head.takes_few(labels_B, len(labels_B))
        and head.temperature == 1
        and not head.label_smoothing
        and encoder.weight_FD.is_cpu
        and encoder.weight_FD.shape[1]
        and not torch.is_autocast_enabled("cpu")
        and int(labels_B.min()) >= 0
    ):
        return None
    table_FD, weight_CD, bias_C = encoder.weight_FD, head.weight, head.bias
    offsets_B1, ids_P, values_P = encoder.training_bag(rows.features)
    hidden_BD = weighted_sums(table_FD, offsets_B1, ids_P, values_P)
    log_probs_BC = linear(hidden_BD, weight_CD, bias_C).log_softmax(1)
    loss = nll_loss(log_probs_BC, labels_B)
    grad_BC = log_probs_BC.exp_()
    grad_BC.scatter_add_(1, labels_B[:, None], grad_BC.new_full((len(grad_BC), 1), -1))
    grad_BC /= len(grad_BC)
    weight_CD.grad = grad_BC.T @ hidden_BD
    if bias_C is not None:
        bias_C.grad = grad_BC.sum(0)
    table_FD.grad = weight_gradient(grad_BC @ weight_CD, offsets_B1, ids_P, values_P, len(table_FD))
    return loss

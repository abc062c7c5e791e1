"""Logits, labels drawn from their softmax, and what a head would say of them."""

import numpy as np
from scipy.special import log_softmax, logsumexp

from widemax.evaluation import OneLabelRows
from widemax.evaluation.calibration import KnownLogits


def drawn(seed: int, num_rows: int, num_classes: int, scale: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Normal logits, and labels drawn from their softmax."""
    generator = np.random.default_rng(seed)
    logits_BC = generator.normal(size=(num_rows, num_classes)) * scale
    return logits_BC, draw_labels(logits_BC, generator)


def draw_labels(logits_BC: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return (logits_BC + generator.gumbel(size=logits_BC.shape)).argmax(1)


def order(logits_BC: np.ndarray) -> np.ndarray:
    return np.argsort(-logits_BC, axis=1, kind="stable")


def known(logits_BC: np.ndarray, k: int, labels: np.ndarray | None = None) -> KnownLogits:
    """What is left of the matrix when only k logits of each row are kept."""
    ids = order(logits_BC)[:, :k]
    return KnownLogits(
        ids,
        np.take_along_axis(logits_BC, ids, 1),
        logsumexp(logits_BC, axis=1),
        logits_BC.shape[1],
        labels,
        None if labels is None else logits_BC[np.arange(len(labels)), labels],
    )


def answered(logits_BC: np.ndarray, labels: np.ndarray, k: int) -> OneLabelRows:
    """The same rows as metrics and conformal sets see them."""
    log_probs_BC, ids_BC = log_softmax(logits_BC, axis=1), order(logits_BC)
    return OneLabelRows(
        labels_B=labels,
        ranks_B=(ids_BC == labels[:, None]).argmax(1) + 1,
        log_probs_B=log_probs_BC[np.arange(len(labels)), labels],
        topk_ids_BK=ids_BC[:, :k],
        topk_log_probs_BK=np.take_along_axis(log_probs_BC, ids_BC[:, :k], 1),
        square_sums_B=np.exp(2 * log_probs_BC).sum(1),
    )


def mean_nll(logits_BC: np.ndarray, labels: np.ndarray) -> float:
    return float(-log_softmax(logits_BC, axis=1)[np.arange(len(labels)), labels].mean())

"""Rows of a random model with real ranks, for the tests of the evaluation room."""

import numpy as np

from widemax.evaluation import OneLabelRows, SeveralLabelRows


def ranking(scores_BC: np.ndarray) -> np.ndarray:
    """Class ids, best first, ties by class id."""
    return np.argsort(-scores_BC, axis=1, kind="stable")


def rank_of(ranking_BC: np.ndarray, row: int, label: int) -> int:
    return 0 if label < 0 else int(np.flatnonzero(ranking_BC[row] == label)[0]) + 1


def one_label_rows(probs_BC: np.ndarray, labels: list[int], k: int = 10) -> OneLabelRows:
    best_BC = ranking(probs_BC)
    labels_B = np.array(labels, np.int64)
    log_probs_B = np.array(
        [np.log(p[y]) if y >= 0 else np.nan for p, y in zip(probs_BC, labels, strict=True)]
    )
    topk = best_BC[:, :k]
    return OneLabelRows(
        labels_B=labels_B,
        ranks_B=np.array([rank_of(best_BC, b, y) for b, y in enumerate(labels)], np.int64),
        log_probs_B=log_probs_B.reshape(len(labels)),
        topk_ids_BK=topk,
        topk_log_probs_BK=np.log(np.take_along_axis(probs_BC, topk, axis=1)),
        square_sums_B=(probs_BC**2).sum(1),
    )


def several_label_rows(scores_BC: np.ndarray, labels: list[list[int]], k: int = 20) -> SeveralLabelRows:
    best_BC = ranking(scores_BC)
    return SeveralLabelRows(
        label_ids_P=np.array([y for row in labels for y in row], np.int64),
        offsets_B1=np.cumsum([0] + [len(row) for row in labels]),
        ranks_P=np.array([rank_of(best_BC, b, y) for b, row in enumerate(labels) for y in row], np.int64),
        topk_ids_BK=best_BC[:, :k],
    )


def random_probs(seed: int, num_rows: int, num_classes: int) -> np.ndarray:
    probs_BC: np.ndarray = np.random.default_rng(seed).dirichlet(np.full(num_classes, 0.3), num_rows)
    return probs_BC


def random_label_lists(
    seed: int, num_rows: int, num_classes: int, *, unseen_share: float = 0.1, fewest: int = 1
) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    lists = []
    for _ in range(num_rows):
        size = int(generator.integers(fewest, 7))
        ids = generator.choice(num_classes, size, replace=False)
        ids[generator.random(size) < unseen_share] = -1
        lists.append(ids.tolist())
    return lists


def slice_one(rows: OneLabelRows, start: int, stop: int) -> OneLabelRows:
    return OneLabelRows(
        rows.labels_B[start:stop],
        rows.ranks_B[start:stop],
        rows.log_probs_B[start:stop],
        rows.topk_ids_BK[start:stop],
        rows.topk_log_probs_BK[start:stop],
        rows.square_sums_B[start:stop],
    )


def slice_several(rows: SeveralLabelRows, start: int, stop: int) -> SeveralLabelRows:
    first, last = rows.offsets_B1[start], rows.offsets_B1[stop]
    return SeveralLabelRows(
        rows.label_ids_P[first:last],
        rows.offsets_B1[start : stop + 1] - first,
        rows.ranks_P[first:last],
        rows.topk_ids_BK[start:stop],
    )

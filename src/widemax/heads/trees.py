"""Binary trees whose leaves are the classes.

A tree is an int64 array [N, 2] of the children of each inner node: a class id, or C + n for inner node n.
Inner nodes are numbered level by level from the root, 0: every level is a run of nodes, and its inner
children, in order, are the next level. Shapes: C classes, N = C − 1 inner nodes, S segments, E features.
"""

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.floating]

# Rounds of 2-means at each level of a tree.
ROUNDS = 5


def balanced_tree(class_order: Int64Array) -> Int64Array:
    """The tree that halves the classes in the given order; no path is longer than ⌈log2 C⌉.

    Example:
        >>> balanced_tree(np.array([2, 0, 1])).tolist()
        [[2, 4], [0, 1]]
    """
    num_classes = len(class_order)
    start_S, stop_S = _root_segment(num_classes)
    levels, num_nodes = [np.empty((0, 2), np.int64)], 1
    while len(start_S):
        start_S, stop_S = _halves(start_S, stop_S)
        is_inner_S = stop_S - start_S > 1
        numbers_S = num_classes + num_nodes + is_inner_S.cumsum() - 1
        levels.append(np.where(is_inner_S, numbers_S, class_order[start_S]).reshape(-1, 2))
        start_S, stop_S = start_S[is_inner_S], stop_S[is_inner_S]
        num_nodes += len(start_S)
    return np.concatenate(levels)


def huffman_tree(class_counts: Int64Array) -> Int64Array:
    """The tree of least mean path length Σ_c n_c · depth_c; of those, one whose longest path is shortest.

    Source: Huffman 1952, "A Method for the Construction of Minimum-Redundancy Codes"; with two queues, van
    Leeuwen 1976, "On the Construction of Huffman Trees".

    Example:
        >>> huffman_tree(np.array([5, 1, 2])).tolist()
        [[4, 0], [1, 2]]
    """
    num_classes = len(class_counts)
    classes = class_counts.argsort(kind="stable")
    # Both queues are ascending: leaves were sorted, and each merged node weighs no less than the one before.
    leaf_weights: list[float] = [*class_counts[classes].tolist(), np.inf]
    node_weights: list[float] = []
    merged: list[int] = []
    leaf = node = 0
    for number in range(num_classes - 1):
        weight = 0.0
        for _ in range(2):
            if node == number or leaf_weights[leaf] <= node_weights[node]:
                weight += leaf_weights[leaf]
                merged.append(int(classes[leaf]))
                leaf += 1
            else:
                weight += node_weights[node]
                merged.append(num_classes + node)
                node += 1
        node_weights.append(weight)
    return _by_level(np.array(merged, np.int64).reshape(-1, 2), num_classes)


def kmeans_order(class_vectors: FloatArray, *, seed: int = 0) -> Int64Array:
    """An order of the classes for :func:`balanced_tree` that keeps similar classes together.

    Every segment of the order is split into halves of equal size by 2-means: with centers a and b the best
    such split cuts the order of ⟨x, b − a⟩ in the middle. All segments of a level are split at once.

    Example:
        >>> first_half = kmeans_order(np.array([[0.0], [10.0], [1.0], [11.0]]))[:2]
        >>> set(first_half.tolist()) in ({0, 2}, {1, 3})
        True
    """
    generator = np.random.default_rng(seed)
    order_C = np.arange(len(class_vectors))
    start_S, stop_S = _root_segment(len(order_C))
    while len(start_S):
        segment_P = np.repeat(np.arange(len(start_S)), stop_S - start_S)
        places_P = np.arange(len(segment_P)) + (start_S - _starts(stop_S - start_S))[segment_P]
        shape = len(start_S), class_vectors.shape[1]
        direction_SE: FloatArray = generator.standard_normal(shape).astype(class_vectors.dtype)
        classes_P = order_C[places_P]
        for _ in range(ROUNDS):
            score_P = np.einsum("pe,pe->p", class_vectors[classes_P], direction_SE[segment_P])
            classes_P = classes_P[np.lexsort((score_P, segment_P))]
            direction_SE = _directions(class_vectors[classes_P], start_S, stop_S)
        order_C[places_P] = classes_P
        start_S, stop_S = _halves(start_S, stop_S)
        is_inner_S = stop_S - start_S > 1
        start_S, stop_S = start_S[is_inner_S], stop_S[is_inner_S]
    return order_C


def level_starts(children: Int64Array) -> list[int]:
    """The first node of every level, and N at the end.

    Example:
        >>> level_starts(balanced_tree(np.arange(6)))
        [0, 1, 3, 5]
    """
    num_nodes = len(children)
    num_inner_N1 = np.append(0, (children > num_nodes).sum(1).cumsum())
    starts = [0]
    while starts[-1] < num_nodes:
        # The root and all inner children of the levels so far.
        starts.append(1 + int(num_inner_N1[starts[-1]]))
    return starts


def node_masses(children: Int64Array, class_masses: FloatArray) -> FloatArray:
    """[N, 2] what the classes below each child weigh together.

    Example:
        >>> node_masses(balanced_tree(np.arange(3)), np.array([1.0, 2.0, 4.0])).tolist()
        [[1.0, 6.0], [2.0, 4.0]]
    """
    mass = np.concatenate([class_masses, np.zeros(len(children))])
    starts = level_starts(children)
    for start, stop in zip(starts[-2::-1], starts[:0:-1], strict=True):
        mass[len(class_masses) + start : len(class_masses) + stop] = mass[children[start:stop]].sum(1)
    return mass[children]


def _root_segment(num_classes: int) -> tuple[Int64Array, Int64Array]:
    """The segment of all classes; none where there is nothing to split."""
    one_or_none = slice(0, int(num_classes > 1))
    return np.array([0])[one_or_none], np.array([num_classes])[one_or_none]


def _halves(start_S: Int64Array, stop_S: Int64Array) -> tuple[Int64Array, Int64Array]:
    middle_S = (start_S + stop_S) // 2
    return np.stack([start_S, middle_S], 1).reshape(-1), np.stack([middle_S, stop_S], 1).reshape(-1)


def _starts(sizes_S: Int64Array) -> Int64Array:
    return sizes_S.cumsum() - sizes_S


def _directions(vectors_PE: FloatArray, start_S: Int64Array, stop_S: Int64Array) -> FloatArray:
    """[S, E] from the center of each segment's first half to that of its second."""
    starts, stops = _halves(start_S, stop_S)
    sizes = stops - starts
    centers: FloatArray = np.add.reduceat(vectors_PE, _starts(sizes)) / sizes[:, None]
    return (centers[1::2] - centers[::2]).astype(vectors_PE.dtype)


def _by_level(children_N2: Int64Array, num_classes: int) -> Int64Array:
    """Number inner nodes level by level; until now the root is the last one."""
    level_L = np.arange(len(children_N2))[-1:]
    levels, num_nodes = [np.empty((0, 2), np.int64)], 1
    while len(level_L):
        codes = children_N2[level_L].reshape(-1)
        is_inner = codes >= num_classes
        levels.append(
            np.where(is_inner, num_classes + num_nodes + is_inner.cumsum() - 1, codes).reshape(-1, 2)
        )
        level_L = codes[is_inner] - num_classes
        num_nodes += len(level_L)
    return np.concatenate(levels)

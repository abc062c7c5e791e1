"""The hierarchical softmax: a class is reached by yes-or-no decisions down a binary tree.

Shapes: B rows, b rows of one chunk, C classes, N = C − 1 inner nodes, D hidden, E features, P labels,
T decisions of all labels, U distinct nodes, A rows still searched, W nodes expanded together.
"""

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Literal, Self, final

import numpy as np
import torch
from torch import Tensor, nn

from widemax.classes import Classes
from widemax.errors import ShapeError
from widemax.heads.base import Dim, heads
from widemax.heads.normalized import NormalizedHead, Search, Searched, SoftmaxLoss, Temperature
from widemax.heads.tree_search import search_tree
from widemax.heads.trees import balanced_tree, huffman_tree, kmeans_order, level_starts, node_masses
from widemax.kernels import Pairs, gather_rows, not_traced
from widemax.numerics import log_sigmoid
from widemax.numerics.arrays import widened_tensor
from widemax.options import checked

# A search that has expanded this part of all nodes is slower than one product with all of them.
SEARCHED_PART = 1 / 16
# Not zero, since an encoder that starts at zero too would then never leave it.
INITIAL_STD = 0.02


@final
@heads.register("tree")
class TreeHead(NormalizedHead):
    """log P(c | h) = Σ over the nodes n above c of log σ(±(h · w_n + bias_n)), + where c lies to the right.

    A label costs one dot product a level of the tree, in training and in answers; weight and bias receive
    sparse gradients over the nodes above the labels. Top k is found by best-first search, and over all
    classes where that has no end. Weights start near zero, and biases where they alone predict the
    frequencies of the classes, if these are given.

    Use: where the probability of a single class must cost O(log C), in training and in answers. A wrong turn
    high up cannot be mended, so it is usually less accurate than "exact" or "sampled"; "two_level" has one
    turn only.

    Args:
        num_classes: C, or ``Classes`` with their counts; without, all classes are alike.
        tree: "huffman", where frequent classes have short paths, or "balanced" over the class ids. For a
            tree of similar classes see :meth:`~widemax.heads.TreeHead.from_vectors`.
        bias: whether nodes have biases.
        sparse: whether weight and bias receive sparse gradients. Dense ones take any optimizer, gradient
            clipping and distributed training, and the memory of another weight.

    Source: Morin and Bengio 2005, "Hierarchical Probabilistic Neural Network Language Model"; Huffman tree as
    in Mikolov et al. 2013, "Distributed Representations of Words and Phrases", equation 3.

    Example:
        >>> head = TreeHead(1_000_000, 8, tree="balanced")
        >>> head(torch.ones(2, 8), torch.tensor([3, 999_999])).backward()
        >>> head.weight.grad._nnz() <= 2 * 20
        True
    """

    tree: Tensor
    class_edges: Tensor
    node_edges: Tensor

    waits = frozenset({"unique", "select"})

    def __init__(
        self,
        num_classes: int | Classes,
        dim: Dim,
        *,
        loss: SoftmaxLoss = "cross_entropy",
        tree: Literal["huffman", "balanced"] = "huffman",
        bias: bool = True,
        sparse: bool = True,
    ) -> None:
        classes = Classes.of(num_classes)
        num_classes = classes.num
        super().__init__(num_classes, dim, loss=loss, classes_per_label=num_classes.bit_length())
        self.sparse = sparse
        self.weight = self.normal(num_classes - 1, dim, std=INITIAL_STD)
        self.bias = nn.Parameter(torch.zeros(num_classes - 1)) if bias else None
        counts = classes.counts
        counts_C = np.zeros(num_classes, np.int64) if counts is None else counts.cpu().numpy()
        children = huffman_tree(counts_C) if tree == "huffman" else balanced_tree(np.arange(num_classes))
        self._set_tree(children, counts)

    @classmethod
    @checked
    def from_vectors(
        cls, class_vectors: Tensor, dim: int, class_counts: Tensor | None = None, *, bias: bool = True
    ) -> Self:
        """A head whose tree is balanced and keeps classes with similar vectors together, by 2-means.

        Saved models hold the tree itself, so that any head of C classes can be filled from one.

        Args:
            class_vectors: [C, E] a vector a class, such as the mean of its texts.
            dim: D, the length of a hidden vector.
            class_counts: [C] how often each class occurs in the training data; sets the first biases.
            bias: whether nodes have biases.

        Raises:
            ShapeError: vectors without two axes.
        """
        if class_vectors.ndim != 2:
            raise ShapeError(
                f"class_vectors must be [C, E], a vector a class; got shape {tuple(class_vectors.shape)}."
            )
        counts = Classes(len(class_vectors), class_counts).counts
        head = cls(len(class_vectors), dim, tree="balanced", bias=bias)
        head._set_tree(balanced_tree(kmeans_order(class_vectors.detach().cpu().numpy())), counts)
        return head

    @torch.no_grad()
    def _set_tree(self, children: np.ndarray, class_counts: Tensor | None) -> None:
        """Keep a tree from above and from below: edge 2n + side leads from node n to its child."""
        edges = np.full(2 * self.num_classes - 1, -1, np.int64)
        edges[children.reshape(-1)] = np.arange(2 * len(children))
        self.register_buffer("tree", torch.from_numpy(children))
        self.register_buffer("class_edges", torch.from_numpy(edges[: self.num_classes]))
        self.register_buffer("node_edges", torch.from_numpy(edges[self.num_classes :]))
        if self.bias is not None and class_counts is not None:
            masses_N2 = node_masses(children, class_counts.cpu().double().numpy() + 1)
            self.bias.copy_(torch.from_numpy(np.log(masses_N2[:, 1]) - np.log(masses_N2[:, 0])))

    def laws(self) -> Iterator[tuple[bool, str]]:
        yield from super().laws()
        num_classes, nodes = self.num_classes, self.tree.flatten()
        inner = nodes >= num_classes
        yield (
            (
                torch.equal(nodes[~inner].sort().values, torch.arange(num_classes)[: len(nodes)])
                and torch.equal(nodes[inner], torch.arange(num_classes + 1, 2 * num_classes - 1))
                and bool((inner.nonzero().flatten() // 2 < nodes[inner] - num_classes).all())
            ),
            "a tree of all classes whose nodes are numbered level by level",
        )
        edges = torch.full((2 * num_classes - 1,), -1).index_copy(0, nodes, torch.arange(len(nodes)))
        yield torch.equal(edges, torch.cat([self.class_edges, self.node_edges])), "the edges of its tree"

    @not_traced
    def label_log_probs(self, hidden: Tensor, pairs: Pairs, temperature: Temperature) -> Tensor:
        label_T, edge_T = self._paths(pairs.ids_P)
        nodes_U, place_T = torch.unique(edge_T // 2, return_inverse=True)
        weight_TD = gather_rows(self.weight, nodes_U, sparse=self.sparse)[place_T]
        hidden_TD = (hidden / temperature)[pairs.rows_P[label_T]]
        scores_T = widened_tensor(torch.linalg.vecdot(hidden_TD, weight_TD))
        if self.bias is not None:
            scores_T = scores_T + gather_rows(self.bias, nodes_U, sparse=self.sparse)[place_T] / temperature
        log_probs_T = log_sigmoid(torch.where(edge_T % 2 == 1, scores_T, -scores_T))
        return log_probs_T.new_zeros(len(pairs.ids_P)).index_add(0, label_T, log_probs_T)

    def _paths(self, ids_P: Tensor) -> tuple[Tensor, Tensor]:
        """All edges on the way up from the labels: whose they are, and which."""
        label_T, edge_T = torch.arange(len(ids_P), device=ids_P.device), self.class_edges[ids_P]
        labels, edges = [label_T[:0]], [edge_T[:0]]
        while True:
            is_below_root_T = edge_T >= 0
            label_T, edge_T = label_T[is_below_root_T], edge_T[is_below_root_T]
            if not len(edge_T):
                return torch.cat(labels), torch.cat(edges)
            labels.append(label_T)
            edges.append(edge_T)
            edge_T = self.node_edges[edge_T // 2]

    def all_log_probs(self, hidden: Tensor, temperature: Temperature) -> Tensor:
        num_classes = self.num_classes
        scores_Nb = widened_tensor(self.weight @ (hidden / temperature).T)
        if self.bias is not None:
            scores_Nb = scores_Nb + self.bias[:, None] / temperature
        if torch.compiler.is_compiling() or hidden.is_meta:
            return self._traced_log_probs(scores_Nb)
        # The classes, then the inner nodes from the root on, as the tree numbers them.
        reached_Mb = scores_Nb.new_zeros((2 * num_classes - 1, len(hidden)))
        for start, stop in pairwise(level_starts(self.tree.cpu().numpy())):
            scores_nb = scores_Nb[start:stop]
            steps_n2b = log_sigmoid(torch.stack([-scores_nb, scores_nb], 1))
            above_n1b = reached_Mb[num_classes + start : num_classes + stop, None]
            reached_Mb[self.tree[start:stop].flatten()] = (above_n1b + steps_n2b).flatten(0, 1)
        return reached_Mb[:num_classes].T.contiguous()

    def _traced_log_probs(self, scores_Nb: Tensor) -> Tensor:
        """The same in twice as many steps each time, whose number follows C and not the tree."""
        edge_M = torch.cat([self.class_edges, self.node_edges]).to(scores_Nb.device)
        above_M = edge_M.div(2, rounding_mode="floor").clamp(min=0)
        scores_Mb = torch.where((edge_M % 2 == 1)[:, None], scores_Nb[above_M], -scores_Nb[above_M])
        reached_Mb = log_sigmoid(scores_Mb).masked_fill((edge_M < 0)[:, None], 0.0)
        above_M = above_M + self.num_classes
        for _ in range(self.num_classes.bit_length()):
            reached_Mb = reached_Mb + reached_Mb[above_M]
            above_M = above_M[above_M]
        return reached_Mb[: self.num_classes].T

    def searcher(self, k: int) -> Search | None:
        limit = int(SEARCHED_PART * (self.num_classes - 1))
        # An expanded node leads to two classes at most.
        return partial(self.search, k=k, limit=limit) if 0 < k <= 2 * limit else None

    @torch.no_grad()
    def search(self, hidden: Tensor, excluded: Pairs, *, k: int, limit: int) -> Searched:
        """Top k by ``search_tree``, for at least two classes."""
        scaled_BD = hidden / self.calibration_temperature

        def decide(rows_A: Tensor, nodes_AW: Tensor) -> Tensor:
            scores_AW = widened_tensor(torch.einsum("ad,awd->aw", scaled_BD[rows_A], self.weight[nodes_AW]))
            if self.bias is not None:
                scores_AW = scores_AW + self.bias[nodes_AW] / self.calibration_temperature
            return log_sigmoid(torch.stack([-scores_AW, scores_AW], -1))

        dtype = torch.promote_types(hidden.dtype, torch.float32)
        return search_tree(decide, self.tree, excluded, num_rows=len(hidden), k=k, limit=limit, dtype=dtype)

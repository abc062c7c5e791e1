"""The compiled kernels of the distribution widemax-native, where installed and the processor can run them.

All that they do torch does too, in more time. ``WIDEMAX_NATIVE=0`` in the environment leaves them unused.

Shapes: B rows, D dimensions, W classes or codes, C all classes, G blocks of 64 of them, P targets; S slices
of classes, N blocks of 64 rows, E panels of 64 dimensions.
"""

import ctypes
import functools
import importlib.util
import os
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from widemax.errors import ConfigError
from widemax.threads import share

ABI = 15
BLOCK = 64
# Rows that share a pass over the weights; torch's products of more are as fast.
MOST_ROWS = 16
# So many are a part of the work, which threads take one after another.
PART_ELEMENTS = 2**18
# Rows that lie anywhere take so many times as long as those that follow one another.
SCATTERED = 8
# Of the exact loss: classes that are computed together, and slices of classes, whose sums are taken apart
# whatever the number of threads.
GROUP, FEWEST_SLICES, MOST_SLICES = 48, 8, 16
# Parts of the rows of a sparse product.
SPARSE_PARTS = 64
# Of a head that counts, rows that a thread answers in a row.
ANSWERED_ROWS = 8
SOFTMAXES = {
    np.dtype(np.float32): ("widemax_softmax_float", ctypes.c_float),
    np.dtype(np.float64): ("widemax_softmax_double", ctypes.c_double),
}
Sparse: TypeAlias = Any
"""A SciPy array in CSR form."""


@functools.cache
def library() -> tuple[ctypes.CDLL | None, str]:
    """The library, and what is to be said about it."""
    spec = importlib.util.find_spec("widemax_native")
    if spec is None or spec.origin is None:
        return None, "not installed"
    found = ctypes.CDLL(spec.origin)
    abi = found.widemax_native_abi()
    if abi == 0:
        return None, "installed, but this processor lacks AVX-512 with VNNI"
    if abi != ABI:
        return None, "installed in another version than widemax: install both from the same source"
    pointer, number = ctypes.c_void_p, ctypes.c_long
    found.widemax_products.argtypes = [*[pointer] * 3, *[number] * 4, pointer, number, pointer]
    found.widemax_sketch_maxima.argtypes = [*[pointer] * 3, number, pointer]
    found.widemax_sketch_open.argtypes = [*[pointer] * 5, number, *[pointer] * 2]
    found.widemax_blocks.argtypes = [pointer, number, number, ctypes.c_int, *[pointer] * 5]
    found.widemax_exponentials.argtypes = [
        *(pointer, ctypes.c_int, pointer, number, number, ctypes.c_int, pointer, pointer, number, pointer)
    ]
    found.widemax_softplus.argtypes = [
        *(pointer, ctypes.c_int, pointer, pointer, number, number, pointer, number, pointer)
    ]
    found.widemax_sparse_product.argtypes = [*[pointer] * 6, number, *[pointer] * 5, number, pointer]
    found.widemax_count_answers.argtypes = [*[pointer] * 3, number, pointer]
    shape, single, double = [number] * 2, ctypes.c_float, ctypes.c_double
    found.widemax_rowwise_adagrad.argtypes = [*[pointer] * 4, *shape, *[single] * 3, pointer, number, pointer]
    found.widemax_adagrad.argtypes = [*[pointer] * 4, *shape, *[single] * 3, number, pointer]
    found.widemax_lazy_adam.argtypes = [*[pointer] * 6, *shape, *[double] * 4, number, pointer]
    found.widemax_sorted_entries.argtypes = [*[pointer] * 3, number, number, *[pointer] * 6]
    found.widemax_bag_weights.argtypes = [*[pointer] * 5, *shape, pointer, single, *[pointer] * 4]
    for name in ("widemax_sorted_entries", "widemax_bag_weights"):
        getattr(found, name).restype = number
    for name, length in SOFTMAXES.values():
        getattr(found, name).argtypes = [
            *(pointer, pointer, length, pointer, *shape, *[pointer] * 4, number, pointer)
        ]
    found.widemax_group_products.argtypes = [*[pointer] * 3, *shape, *[pointer] * 2]
    found.widemax_separate.argtypes = [pointer, pointer, *shape, pointer]
    found.widemax_log_sums.argtypes = [pointer] * 4
    found.widemax_loss_gradients.argtypes = [*[pointer] * 7, ctypes.c_int, pointer]
    return found, "used"


def state() -> str:
    """Whether the kernels are used, or why not."""
    return "ignored, as WIDEMAX_NATIVE=0 says" if _is_ignored() else library()[1]


def _is_ignored() -> bool:
    asked = os.environ.get("WIDEMAX_NATIVE", "1")
    if asked not in ("0", "1"):
        raise ConfigError(f"the environment's WIDEMAX_NATIVE must be 0 or 1; got {asked!r}.")
    return asked == "0"


def _kernels() -> Any:
    return None if _is_ignored() else library()[0]


def takes_sparse(*matrices: Sparse) -> bool:
    """Whether :func:`sparse_product` is there for such SciPy arrays."""
    return _kernels() is not None and all(
        x.format == "csr" and x.dtype == np.float32 and x.shape[1] < 2**31 for x in matrices
    )


def takes(*matrices: Tensor, dtype: torch.dtype = torch.float32) -> bool:
    """Whether the kernels are there and can read these matrices."""
    return _kernels() is not None and all(
        x.dtype == dtype and x.is_cpu and x.is_contiguous() for x in matrices
    )


def takes_logits(logits_BW: Tensor) -> bool:
    """Whether :func:`exponentials_` and :func:`softplus_` are there for these."""
    return logits_BW.dtype in (torch.float32, torch.bfloat16) and takes(logits_BW, dtype=logits_BW.dtype)


def products_into(hidden_BD: Tensor, weight_WD: Tensor, bias_W: Tensor | None, out_BW: Tensor) -> None:
    """hidden Wᵀ + bias of at most 16 rows, which equal classes get bit for bit alike.

    Args:
        out_BW: may be part of wider rows.
    """
    kernels, (num_classes, dim) = _kernels(), weight_WD.shape
    padded_BD = _padded(hidden_BD, 16, full_rows=2)
    arguments = (
        *(padded_BD.data_ptr(), weight_WD.data_ptr(), None if bias_W is None else bias_W.data_ptr()),
        *(len(hidden_BD), num_classes, dim, out_BW.stride(0), out_BW.data_ptr(), _part(dim)),
    )
    share(lambda place: kernels.widemax_products(*arguments, place), weight_WD.numel())


class _Sketch(ctypes.Structure):
    """The struct of that name."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("codes", "query", "offset", "whole")),
        *((name, ctypes.c_long) for name in ("num_rows", "num_blocks", "slices", "dim")),
    )


class SketchProducts:
    """The integer products of queries with vectors of 4 bits.

    Args:
        query_BD: int8.
        codes_GS: uint8, as :class:`widemax.search.sketch.Sketch` has them.
        codes_ND: int8 of the same vectors.
    """

    def __init__(self, query_BD: Tensor, codes_GS: Tensor, codes_ND: Tensor) -> None:
        query_BD = nn.functional.pad(query_BD, (0, -query_BD.shape[1] % 8)).contiguous()
        offset_B = query_BD.sum(1, dtype=torch.int32).mul_(8)
        self._tensors = codes_GS, query_BD, offset_B, codes_ND
        self._shape = len(query_BD), len(codes_GS)
        numbers = *self._shape, query_BD.shape[1] // 8, codes_ND.shape[1]
        self._sketch = _Sketch(*(x.data_ptr() for x in self._tensors), *numbers)

    def maxima(self) -> tuple[Tensor, Tensor]:
        """[B, G] int32 the largest product of each block, and int64 the first vector that has it."""
        codes_GS = self._tensors[0]
        maxima_BG = torch.empty(self._shape, dtype=torch.int32)
        places_BG = torch.empty(self._shape, dtype=torch.int64)
        part = max(1, PART_ELEMENTS // codes_GS.shape[1])
        arguments = ctypes.byref(self._sketch), maxima_BG.data_ptr(), places_BG.data_ptr(), part
        share(lambda place: _kernels().widemax_sketch_maxima(*arguments, place), codes_GS.numel())
        return maxima_BG, places_BG

    def at_least(self, pairs: tuple[Tensor, Tensor], least: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Rows and places of vectors whose products are large.

        Args:
            pairs: rows and blocks, in which to look.
            least: int32 the least product of each pair, by 4 bits and by 8.
        """
        rows_O = pairs[0]
        counts_O = torch.empty_like(rows_O)
        places = torch.empty(len(rows_O) * BLOCK, dtype=torch.int64)
        inputs = (x.data_ptr() for x in (*pairs, *least))
        outputs = counts_O.data_ptr(), places.data_ptr()
        _kernels().widemax_sketch_open(ctypes.byref(self._sketch), *inputs, len(rows_O), *outputs)
        rows_P = rows_O.repeat_interleave(counts_O)
        return rows_P, places[: len(rows_P)]


def block_maxima(
    logits_BW: Tensor, shift_B: Tensor, sum_B: Tensor, square_sum_B: Tensor, *, powers: int
) -> Tensor:
    """[B, G] the largest logit of each block, which with the sums of powers are added to what is given.

    Args:
        shift_B: the largest logit so far.
        sum_B: float64 Σ exp(s − shift) so far.
        square_sum_B: float64 Σ exp(2 (s − shift)) so far.
        powers: 0 leaves the three as they are, 1 the last.
    """
    kernels, (num_rows, width) = _kernels(), logits_BW.shape
    maxima_BG = logits_BW.new_empty(num_rows, width // BLOCK)

    arguments = (
        *(logits_BW.data_ptr(), num_rows, width, powers),
        *(x.data_ptr() for x in (maxima_BG, shift_B, sum_B, square_sum_B)),
    )
    share(lambda place: kernels.widemax_blocks(*arguments, place), logits_BW.numel())
    return maxima_BG


def exponentials_(logits_BW: Tensor, bias_W: Tensor | None, shift_B: Tensor, *, looks: bool) -> Tensor:
    """[B] float32 sums of the e^(logit + bias − shift) that logits become; those below 2⁻¹²⁵ become 0.

    Args:
        logits_BW: float32 or bfloat16.
        bias_W: float32.
        shift_B: float32; where it looks, brought up to the largest logit first.
    """
    kernels, (num_rows, width), sum_B = _kernels(), logits_BW.shape, torch.empty_like(shift_B)
    arguments = (
        *(logits_BW.data_ptr(), logits_BW.dtype == torch.bfloat16, _pointer(bias_W), num_rows, width, looks),
        *(shift_B.data_ptr(), sum_B.data_ptr(), max(1, PART_ELEMENTS // max(width, 1))),
    )
    share(lambda place: kernels.widemax_exponentials(*arguments, place), logits_BW.numel())
    return sum_B


def softplus_(logits_BW: Tensor, bias_W: Tensor | None, factor_W: Tensor | None = None) -> Tensor:
    """[B] float32 sums of factor · log(1 + e^(logit + bias)) of logits, which become σ(logit + bias).

    Both are 0 below −log 2¹²⁵.

    Args:
        logits_BW: float32 or bfloat16.
        bias_W: float32.
        factor_W: float32, or None for 1.
    """
    kernels, (num_rows, width) = _kernels(), logits_BW.shape
    sum_B = torch.empty(num_rows, dtype=torch.float32)
    arguments = (
        *(logits_BW.data_ptr(), logits_BW.dtype == torch.bfloat16, _pointer(bias_W), _pointer(factor_W)),
        *(num_rows, width, sum_B.data_ptr(), max(1, PART_ELEMENTS // max(width, 1))),
    )
    share(lambda place: kernels.widemax_softplus(*arguments, place), logits_BW.numel())
    return sum_B


def sparse_product(left: Sparse, right: Sparse) -> Sparse:
    """left @ right of SciPy arrays in CSR form and float32, columns ascending, the same sums bit for bit.

    Sums that are 0 are left out.
    """
    kernels, (num_rows, num_columns) = _kernels(), (left.shape[0], right.shape[1])
    operands = [
        np.ascontiguousarray(array)
        for matrix in (left, right)
        for array in (
            matrix.indptr.astype(np.int64),
            matrix.indices.astype(np.int32, copy=False),
            matrix.data,
        )
    ]
    work_P1 = np.concatenate(([0], np.cumsum(np.diff(operands[3])[operands[1]])))
    most_B = np.minimum(np.diff(work_P1[operands[0]]), num_columns)
    part = -(-num_rows // SPARSE_PARTS)
    firsts = np.arange(0, num_rows, max(part, 1))
    starts = np.concatenate(([0], np.cumsum(most_B)))[firsts]
    counts_B = np.zeros(num_rows, np.int64)
    ids, values = (np.empty(most_B.sum(), dtype) for dtype in (np.int32, np.float32))
    arguments = (
        *(x.ctypes.data for x in operands),
        num_rows,
        *(x.ctypes.data for x in (starts, ids, values, counts_B)),
    )

    def work(place: Any) -> None:
        kernels.widemax_sparse_product(*arguments, ctypes.byref(_Room(num_columns)), part, place)

    share(work, int(work_P1[-1]))
    offsets = np.concatenate(([0], np.cumsum(counts_B)))
    found = [
        slice(*ends) for ends in zip(starts, starts + np.diff(offsets[[*firsts, num_rows]]), strict=True)
    ]
    ids, values = (np.concatenate([x[:0], *(x[where] for where in found)]) for x in (ids, values))
    offsets = offsets.astype(np.int32 if offsets[-1] < 2**31 else np.int64)  # or ids would be widened
    return type(left)((values, ids, offsets), shape=(num_rows, num_columns))


class _Room(ctypes.Structure):
    """The struct of that name."""

    _fields_ = ("sums", ctypes.c_void_p), ("marks", ctypes.c_void_p), ("num_blocks", ctypes.c_long)

    def __init__(self, num_columns: int) -> None:
        num_blocks = -(-num_columns // BLOCK**2) * BLOCK
        self.arrays = np.zeros(num_blocks * BLOCK, np.float32), np.zeros(num_blocks, np.uint8)
        super().__init__(*(x.ctypes.data for x in self.arrays), num_blocks)


class _Counts(ctypes.Structure):
    """The struct of that name."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("row_offsets", "features", "values")),
        *((name, ctypes.c_void_p) for name in ("offsets", "ids", "weights")),
        *((name, ctypes.c_void_p) for name in ("prior", "others", "parts")),
        *((name, ctypes.c_void_p) for name in ("label_offsets", "labels", "excluded_offsets", "excluded")),
        *((name, ctypes.c_void_p) for name in ("best", "best_logits", "label_logits")),
        *((name, ctypes.c_void_p) for name in ("ranks", "partitions", "squares")),
        *((name, ctypes.c_double) for name in ("smoothing", "power", "largest", "sum", "square_sum")),
        *((name, ctypes.c_long) for name in ("num_rows", "num_classes", "k")),
    )


class _Named(ctypes.Structure):
    """The struct of that name, for so many classes."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("ids", "logits", "others", "priors", "exponents"))

    def __init__(self, num_classes: int) -> None:
        types = np.int32, *[np.float32] * 3, np.float64
        self.arrays = [np.empty(num_classes + 16, dtype) for dtype in types]
        super().__init__(*(x.ctypes.data for x in self.arrays))


def count_answers(
    features: Sparse,
    weights: tuple[Tensor, Tensor, Tensor],
    smoothed: tuple[NDArray[np.float32], float, NDArray[np.float64], float],
    labels: tuple[Tensor, Tensor],
    excluded: tuple[Tensor, Tensor],
    k: int,
) -> tuple[Tensor, ...]:
    """Exact answers about rows whose logits are power · log(share + smoothing · prior), or others.

    A share is what a class has of a row's sum of features @ weights.

    Args:
        features: in CSR form and float32, none below 0.
        weights: offsets [F + 1], class ids and float32 values above 0 of a matrix [F, C] in CSR form.
        smoothed: prior [C], smoothing, others [C] for classes beside no feature of a row, power.
        labels: rows [P], ascending, and class ids [P]; -1 is none.
        excluded: rows and class ids that are not among the best, nor before a label.

    Returns:
        [B, K] the best classes and [B, K] their logits, equal ones by ascending id; [P] the logits of labels
        and [P] their ranks; [B] the logarithm of Σ exp(logit) over all classes and [B] Σ p².
    """
    prior_C, smoothing, others_C, power = smoothed
    num_rows, num_classes = features.shape[0], len(prior_C)
    largest = others_C.max()
    logits_C, parts_C = others_C.astype(np.float32), np.exp(others_C - largest).astype(np.float32)
    sums = parts_C.sum(dtype=np.float64), (parts_C * parts_C).sum(dtype=np.float64)
    (label_rows_P, label_ids_P), (barred_rows_E, barred_ids_E) = labels, excluded
    barred_E = torch.unique(barred_rows_E * num_classes + barred_ids_E)
    arrays = (
        *(features.indptr.astype(np.int64), features.indices.astype(np.int32), features.data),
        *(x.numpy() for x in weights),
        *(prior_C, logits_C, parts_C),
        *(x.contiguous().numpy() for x in (_offsets(label_rows_P, num_rows), label_ids_P)),
        *(x.numpy() for x in (_offsets(barred_E // num_classes, num_rows), barred_E % num_classes)),
    )
    found = (
        *(torch.empty(num_rows, k, dtype=dtype) for dtype in (torch.int64, torch.float32)),
        *(torch.empty(len(label_ids_P), dtype=dtype) for dtype in (torch.float32, torch.int64)),
        *(torch.empty(num_rows, dtype=torch.float64) for _ in range(2)),
    )
    numbers = smoothing, power, largest, *sums, num_rows, num_classes, k
    counts = _Counts(*(x.ctypes.data for x in arrays), *(x.data_ptr() for x in found), *numbers)

    def work(place: Any) -> None:
        structs = (ctypes.byref(x) for x in (counts, _Room(num_classes), _Named(num_classes)))
        _kernels().widemax_count_answers(*structs, ANSWERED_ROWS, place)

    share(work, int(np.diff(arrays[3])[arrays[1]].sum()))
    return *found[:4], *(x.float() for x in found[4:])


def _offsets(rows_P: Tensor, num_rows: int) -> Tensor:
    """[B + 1] where the pairs of each row begin."""
    return nn.functional.pad(rows_P.bincount(minlength=num_rows).cumsum(0), (1, 0))


class _Rounding(ctypes.Structure):
    """The struct of that name."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("factors", "shifts")),
        *((name, ctypes.c_int64) for name in ("first", "every")),
    )


def takes_weights(weight_FD: Tensor, sums: Tensor, grad_RD: Tensor) -> bool:
    """Whether :func:`adagrad` is there for these, whose rows may be numbers."""
    dtypes = (torch.float32, torch.bfloat16) if sums.dim() == 1 else (torch.float32,)
    is_narrow = weight_FD.dtype in dtypes and sums.dim() in (1, 2) and weight_FD.dim() < 3
    return is_narrow and takes(weight_FD, dtype=weight_FD.dtype) and takes(sums, grad_RD)


def adagrad(
    weight_FD: Tensor,
    sums: Tensor,
    ids_R: Tensor,
    grad_RD: Tensor,
    rounding: tuple[Tensor, int, int] | None,
    *,
    rate: float,
    eps: float,
    kept: float,
) -> None:
    """One step of Adagrad on distinct rows, in place; ``kept`` of the weights is left by decay.

    Args:
        sums: one a row [F], or one an entry [F, D] of weights in float32.
        rounding: of weights in bfloat16: [2, D] what random bits follow from, the place of row 0, and how far
            apart the places of neighbors are.
    """
    shape, struct = (len(grad_RD), grad_RD.shape[1:].numel()), None
    tensors = weight_FD, sums, ids_R, grad_RD
    if sums.dim() == 2:
        _share_rows("widemax_adagrad", tensors, shape, rate, eps, kept)
        return
    if rounding is not None:
        (factor_D, shift_D), first, every = rounding
        struct = ctypes.byref(_Rounding(factor_D.data_ptr(), shift_D.data_ptr(), first, every))
    _share_rows("widemax_rowwise_adagrad", tensors, shape, rate, eps, kept, struct)


def lazy_adam(
    weight_FD: Tensor,
    moments: tuple[Tensor, Tensor],
    touches_F: Tensor,
    ids_R: Tensor,
    grad_RD: Tensor,
    *,
    rate: float,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """One step of Adam on distinct rows, in place: on their weights, two moments and counts of steps."""
    tensors = weight_FD, *moments, touches_F, ids_R, grad_RD
    _share_rows("widemax_lazy_adam", tensors, grad_RD.shape, rate, *betas, eps)


def _share_rows(name: str, tensors: Iterable[Tensor], shape: Sequence[int], *numbers: Any) -> None:
    """Shares a kernel's work on so many rows of so many numbers, which lie anywhere."""
    num_elements = SCATTERED * shape[0] * shape[1]
    part = max(1, PART_ELEMENTS // (SCATTERED * max(shape[1], 1)))
    arguments = *(x.data_ptr() for x in tensors), *shape, *numbers, part
    share(lambda place: getattr(_kernels(), name)(*arguments, place), num_elements)


def sorted_entries(
    offsets_B1: Tensor, ids_P: Tensor, values_P: Tensor, num_ids: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The distinct ids [U], where the entries of each begin [U + 1], and of these rows [P] and values [P]."""
    num = len(ids_P)
    room = torch.empty(2, 2 * num, dtype=torch.int32)
    ids_U, starts_U1, rows_P = (torch.empty(size, dtype=torch.int64) for size in (num, num + 1, num))
    sorted_values_P = torch.empty_like(values_P)
    tensors = [x.contiguous() for x in (offsets_B1.long(), ids_P.long(), values_P)]
    entries = (x.data_ptr() for x in tensors)
    found = (x.data_ptr() for x in (*room, ids_U, starts_U1, rows_P, sorted_values_P))
    num_distinct = _kernels().widemax_sorted_entries(*entries, len(offsets_B1) - 1, num_ids, *found)
    return ids_U[:num_distinct], starts_U1[: num_distinct + 1], rows_P, sorted_values_P


def bag_weights(
    ids_P: Tensor,
    counts_P: Tensor,
    lengths_BV: Tensor,
    idf_F: Tensor,
    scales_V: Tensor,
    draws_P: Tensor | None,
    *,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Offsets [B + 1], ids and weights of the n-grams of rows, as the text encoder has them.

    Args:
        scales_V: the length of each view, of those that a row has.
        draws_P: without entries whose draw is below ``dropout``, the others divided by the rest.
    """
    (num_rows, num_views), num = lengths_BV.shape, len(ids_P)
    offsets_B1, left_P = (torch.empty(size, dtype=torch.int64) for size in (num_rows + 1, num))
    weights_P, room_V = torch.empty_like(counts_P), counts_P.new_empty(num_views)
    tensors = [x.contiguous() for x in (ids_P, counts_P, lengths_BV, idf_F, scales_V)]
    inputs = (x.data_ptr() for x in tensors)
    found = (x.data_ptr() for x in (room_V, offsets_B1, left_P, weights_P))
    num_left = _kernels().widemax_bag_weights(
        *inputs, num_rows, num_views, _pointer(draws_P), 0 if draws_P is None else dropout, *found
    )
    return offsets_B1, left_P[:num_left], weights_P[:num_left]


class _Separation(ctypes.Structure):
    """The struct of that name."""

    _fields_ = (
        *(
            (name, ctypes.c_void_p)
            for name in ("offsets", "ids", "values", "is_own", "sums", "dual", "weight")
        ),
        *((name, ctypes.c_long) for name in ("num_rows", "num_classes", "group")),
        ("ridge", ctypes.c_float),
    )


class SeparatedRows:
    """Rows and their dual coordinates, with the sweep of :mod:`widemax.solvers.separators`.

    Args:
        rows: [B, F], that :func:`takes_sparse` takes.
        is_own_BC: bool, whether a class is the row's own.
        ridge: what is added to a row's product with itself.
        group: how many rows move at once, at most 16.
    """

    def __init__(self, rows: Sparse, is_own_BC: NDArray[Any], ridge: float, group: int) -> None:
        self.is_own_BC, self.num_features = np.ascontiguousarray(is_own_BC), rows.shape[1]
        (num_rows, self._num_classes), sums_B = is_own_BC.shape, np.empty(len(is_own_BC), np.float32)
        dual_BC = np.zeros(is_own_BC.shape, np.float32)
        parts = rows.indptr.astype(np.int64), rows.indices.astype(np.int32, copy=False), rows.data
        entries = tuple(map(np.ascontiguousarray, parts))
        pointers = [x.ctypes.data for x in (*entries, self.is_own_BC, sums_B, dual_BC)]
        room_F = np.zeros(self.num_features, np.float32)
        _kernels().widemax_group_products(
            *pointers[:3], num_rows, group, room_F.ctypes.data, sums_B.ctypes.data
        )
        self._arrays = *entries, sums_B, dual_BC
        self._struct = _Separation(*pointers, None, num_rows, self._num_classes, group, ridge)

    def sweep(self, weight_FC: Tensor, starts: NDArray[np.int64]) -> None:
        """Minimize over the coordinates of the groups that begin at ``starts`` once, in that order."""
        num_vectors = -(-self._num_classes // 16)
        part = -(-num_vectors // -(-num_vectors // 8))
        self._struct.weight = weight_FC.data_ptr()
        arguments = ctypes.byref(self._struct), starts.ctypes.data, len(starts), part
        num_elements = 2 * len(self._arrays[1]) * self._num_classes
        share(lambda place: _kernels().widemax_separate(*arguments, place), num_elements)


def takes_softmax(*arrays: NDArray[Any]) -> bool:
    """Whether :func:`softmax_into` is there for such arrays."""
    return _kernels() is not None and all(x.dtype in SOFTMAXES and x.flags.c_contiguous for x in arrays)


def softmax_into(
    logits_KN: NDArray[Any],
    probs_KN: NDArray[Any],
    along: tuple[NDArray[Any], float, NDArray[Any]] | None = None,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The softmax of each column, or of the logits at a length along a direction.

    Args:
        along: the direction, [K, N], the length, and room for those logits, which are written there.

    Returns:
        Of each column its largest logit, Σ_k exp(logit − largest) and, with a direction, Σ_k p_k direction_k.
    """
    (kernel, _), (num_rows, num_columns) = SOFTMAXES[logits_KN.dtype], logits_KN.shape
    direction_KN, length, moved_KN = along or (None, 0.0, None)
    direction, moved = (None if x is None else x.ctypes.data for x in (direction_KN, moved_KN))
    largest_N, total_N, mean_N = np.empty((3, num_columns), logits_KN.dtype)
    found = (x.ctypes.data for x in (probs_KN, largest_N, total_N, mean_N))
    part = BLOCK * max(1, PART_ELEMENTS // (BLOCK * num_rows))
    arguments = logits_KN.ctypes.data, direction, length, moved, num_rows, num_columns, *found, part
    share(lambda place: getattr(_kernels(), kernel)(*arguments, place), logits_KN.size)
    return largest_N, total_N, mean_N


def loss_pays(hidden_BD: Tensor, weight_CD: Tensor, bias_C: Tensor | None) -> bool:
    """Whether :class:`LossTiles` is there for such a layer, and computes little more than is asked for."""
    (num_rows, dim), num_classes, dtype = hidden_BD.shape, len(weight_CD), hidden_BD.dtype
    if not takes(hidden_BD, weight_CD, dtype=dtype) or not (bias_C is None or takes(bias_C)):
        return False
    if dtype != torch.float32 and (dtype != torch.bfloat16 or dim % 2 or not _multiplies_bfloat16()):
        return False
    rows_pay, dims_pay = (8 * n >= 7 * BLOCK * -(-n // BLOCK) for n in (num_rows, dim))
    return num_rows * num_classes > 0 and rows_pay and (dims_pay or BLOCK // 2 <= dim < BLOCK)


@functools.cache
def _multiplies_bfloat16() -> bool:
    return bool(_kernels().widemax_multiplies_bfloat16())


class _Logits(ctypes.Structure):
    """The struct of that name."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "factor", "columns")),
        *((name, ctypes.c_void_p) for name in ("target_rows", "target_ids", "group_starts", "kept")),
        *((name, ctypes.c_long) for name in ("num_blocks", "num_classes", "dim", "slice")),
        *((name, ctypes.c_long) for name in ("is_softmax", "is_bfloat16")),
    )


class LossTiles:
    """The logits of some rows with all classes in tiles, for the exact loss and its gradient.

    The first pass takes one product, the second two, and that of the first again unless logits are kept.
    Targets have no part in either. Sums are of float32, those over more than 48 classes of float64.

    Args:
        hidden_BD: float32 or bfloat16, at most 2,048 rows, of which those up to a multiple of 64 are computed
            too.
        targets: rows [P] and class ids [P].
        kept: room for B rounded up to a multiple of 64 times C logits, or None.
        factor_C: what the terms of each class are multiplied by, in all that follows; None is 1.
        is_softmax: or of a sigmoid a class.
    """

    def __init__(
        self,
        hidden_BD: Tensor,
        weight_CD: Tensor,
        bias_C: Tensor | None,
        targets: tuple[Tensor, Tensor],
        kept: Tensor | None,
        *,
        factor_C: Tensor | None = None,
        is_softmax: bool = True,
    ) -> None:
        (num_rows, dim), num_classes = hidden_BD.shape, len(weight_CD)
        rows_P, ids_P = targets
        group_P = ids_P.div(GROUP, rounding_mode="floor")
        order_P = (group_P * num_rows + rows_P).argsort()
        num_groups = -(-num_classes // GROUP)
        # The gradient of the hidden vectors is summed in each apart: not in more room than the weights have.
        most_slices = min(max(num_classes // max(num_rows, 1), FEWEST_SLICES), MOST_SLICES)
        slice_groups = -(-num_groups // most_slices)
        self._shape, self._num_slices = hidden_BD.shape, -(-num_groups // slice_groups)
        hidden_NRD = nn.functional.pad(hidden_BD, (0, 0, 0, -num_rows % BLOCK)).view(-1, BLOCK, dim)
        self._hidden_NRD = nn.functional.pad(hidden_NRD, (0, -dim % BLOCK))
        is_bfloat16 = hidden_BD.dtype == torch.bfloat16
        words_NRD = hidden_NRD.view(torch.float32) if is_bfloat16 else hidden_NRD
        self._tensors = {
            "weight": weight_CD,
            "bias": bias_C,
            "factor": factor_C,
            "columns": words_NRD.transpose(1, 2).contiguous(),
            "target_rows": rows_P[order_P],
            "target_ids": ids_P[order_P],
            "group_starts": _offsets(group_P, num_groups),
            "kept": kept,
        }
        numbers = len(hidden_NRD), num_classes, dim, GROUP * slice_groups, is_softmax, is_bfloat16
        self._logits = _Logits(*(_pointer(x) for x in self._tensors.values()), *numbers)

    def log_sums(self) -> tuple[Tensor, Tensor]:
        """[B] the largest logit, and [B] float64 Σ exp(s − largest); of sigmoids, 0 and Σ log(1 + exp(s))."""
        shape = self._num_slices, len(self._hidden_NRD) * BLOCK
        least = torch.finfo(torch.float32).min if self._logits.is_softmax else 0.0
        shift_SB = torch.full(shape, least, dtype=torch.float32)
        sum_SB = torch.zeros(shape, dtype=torch.float64)
        self._share("widemax_log_sums", shift_SB.data_ptr(), sum_SB.data_ptr())
        shift_SB, sum_SB = (x[:, : self._shape[0]] for x in (shift_SB, sum_SB))
        shift_B = shift_SB.amax(0)
        return shift_B, (sum_SB * (shift_SB - shift_B).double().exp()).sum(0)

    def add_gradients(
        self,
        slope_B: Tensor,
        shift_B: Tensor,
        *,
        hidden_grad_BD: Tensor | None,
        weight_grad_CD: Tensor | None,
        bias_grad_C: Tensor | None,
        adds: bool,
    ) -> None:
        """Adds the products of slope exp(s − shift), or of slope σ(s), to what gradients are asked for.

        Args:
            shift_B: no less than the logits; of no matter to sigmoids.
            adds: whether those of weights and biases hold something already.
        """
        num_more = -len(slope_B) % BLOCK
        slope_B = nn.functional.pad(slope_B, (0, num_more))
        shift_B = nn.functional.pad(shift_B, (0, num_more), value=torch.finfo(shift_B.dtype).max)
        hidden_NERD = torch.stack(torch.split(self._hidden_NRD, BLOCK, 2), 1)
        panels = *hidden_NERD.shape[:2], BLOCK, BLOCK
        if self._logits.is_bfloat16:  # two rows side by side
            hidden_NERD = hidden_NERD.view(*panels[:2], -1, 2, BLOCK).transpose(3, 4).contiguous()
        grad_SNERD = None
        if hidden_grad_BD is not None:
            grad_SNERD = torch.zeros(self._num_slices, *panels, dtype=torch.float32)
        gradients = (_pointer(x) for x in (grad_SNERD, weight_grad_CD, bias_grad_C))
        inputs = (x.data_ptr() for x in (hidden_NERD, shift_B, slope_B))
        self._share("widemax_loss_gradients", *inputs, *gradients, adds)
        if hidden_grad_BD is not None and grad_SNERD is not None:
            num_rows, dim = self._shape
            hidden_grad_BD += grad_SNERD.sum(0).transpose(1, 2).flatten(2).flatten(0, 1)[:num_rows, :dim]

    def _share(self, name: str, *arguments: Any) -> None:
        kernel, logits = getattr(_kernels(), name), ctypes.byref(self._logits)
        num_rows, dim = self._shape
        num_elements = num_rows * self._logits.num_classes * dim
        share(lambda place: kernel(logits, *arguments, place), num_elements)


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _padded(rows_BD: Tensor, columns: int, *, full_rows: int) -> Tensor:
    """With zeros up to whole groups of columns, and of 4 rows unless there are at most ``full_rows``."""
    num_rows, dim = rows_BD.shape
    more_rows = 0 if num_rows <= full_rows else -num_rows % 4
    return nn.functional.pad(rows_BD, (0, -dim % columns, 0, more_rows)).contiguous()


def _part(dim: int) -> int:
    """Classes of a part: whole blocks."""
    return BLOCK * max(1, PART_ELEMENTS // (BLOCK * dim))

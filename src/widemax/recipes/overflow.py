"""What float16, float32 and float64 do to exp, and the max trick. Shapes: B rows, C classes, N steps."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from widemax import charts
from widemax.charts import Panel
from widemax.losses import cross_entropy
from widemax.numerics import log_softmax, softmax
from widemax.recipes.base import Array, Recipe, Results, recipes
from widemax.recipes.known import Known

DTYPES: dict[str, type[np.floating[Any]]] = {
    "float16": np.float16,
    "float32": np.float32,
    "float64": np.float64,
}
# The logarithm of half the smallest number above 0: a probability below it is rounded to 0.
SMALLEST = {"float16": 25 * math.log(2), "float32": 150 * math.log(2), "float64": 1075 * math.log(2)}
DRAELOS = (
    "Draelos, Multi-label vs. Multi-class Classification: Sigmoid vs. Softmax, glassboxmedicine.com, 2019 "
    "(digits partly cut, partly rounded)"
)
DEFINITION = "the definition of softmax, computed by hand"
MAX_TRICK = "exp(s_j − m) ≤ 1 for m = max s: Goodfellow, Bengio and Courville, Deep Learning (2016), §4.1"
IEEE = "IEEE 754-2019, §3.6: the logarithm of the largest finite number"
SUBNORMAL = "IEEE 754-2019, §3.6: minus the logarithm of half the smallest number above 0"


KNOWN = {
    "largest x with finite exp(x): float16, float32, float64": Known.printed(
        11.09, 88.72, 709.78, digits=2, source=IEEE
    ),
    "softmax([1, 2, 3])": Known.printed(0.0900, 0.2447, 0.6652, digits=4, source=DEFINITION),
    "softmax([3, 1, −3])": Known.printed(0.88, 0.12, 0.00, digits=2, source=DEFINITION),
    "softmax([−0.5, 1.2, −0.1, 2.4])": Known.near(
        0.04, 0.21, 0.05, 0.70, within=0.01, digits=2, source=DRAELOS
    ),
    "softmax([1e7, 1e8, 2e5, 2e7])": Known.printed(0, 1, 0, 0, digits=2, source=MAX_TRICK),
    "softmax([−1e10, −1e9, −2e10, −1e10])": Known.printed(0, 1, 0, 0, digits=2, source=MAX_TRICK),
    "gradient of the cross-entropy of [2, 3, 4] with label 1": Known.near(
        *(0.0903, -0.7553, 0.665), within=0.0004, digits=4, source="∂(−log a_y)/∂s = a − onehot(y)"
    ),
    "softmax([1e7, 1e8, 2e5, 2e7]) as the textbook writes it has NaN": Known.yes(source="inf/inf = NaN"),
    "largest error at any offset with the maximum subtracted, in eps": Known.at_most(
        4, digits=2, source="softmax(s + c) = softmax(s), and subtracting the maximum is exact here"
    ),
    "distance of logits at which −log(softmax) is inf: the same types": Known.near(
        *SMALLEST.values(), within=0.01, digits=2, source=SUBNORMAL
    ),
    "the same loss from logits is finite there": Known.yes(source="log a_j = s_j − m − log Σ exp(s_i − m)"),
}


@recipes.register("overflow")
class Overflow(Recipe):
    """The limits of exp, the max trick, and why losses take logits."""

    title = "Overflow: what float16, float32 and float64 do to exp"
    description = (
        "exp leaves the range of float16 at 11.09 and that of float32 at 88.72, so a softmax as the textbook "
        "writes it gives inf/inf = NaN. Subtracting the largest logit first does not change the answer and "
        "can never overflow. The logarithm of a probability fails next: a probability too small for its type "
        "is 0, its loss inf and its gradient gone. From logits the same loss is finite and exact."
    )
    full_time = "1 s"
    known = KNOWN

    def run(self, results: Results, *, quick: bool, seed: int) -> None:
        _obtain_worked_values(results)
        _obtain_limits(results)
        _draw_errors(results, 121 if quick else 601, np.random.default_rng(seed))
        _draw_gradients(results)


def textbook_softmax(logits: Array) -> Array:
    """exp(s_j) / Σ_i exp(s_i), as it is written."""
    with np.errstate(all="ignore"):
        exps = np.exp(logits)
        return np.asarray(exps / exps.sum(axis=-1, keepdims=True))


def textbook_log_softmax(logits: Array) -> Array:
    """The logarithm of probabilities that were formed first."""
    with np.errstate(all="ignore"):
        return np.log(textbook_softmax(logits))


def largest(holds: Callable[[float], bool], high: float) -> float:
    """The largest number below ``high`` that holds, if all smaller ones do: by bisection."""
    low = 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _finite_exp(dtype: type[np.floating[Any]]) -> Callable[[float], bool]:
    def holds(x: float) -> bool:
        with np.errstate(over="ignore"):
            return bool(np.isfinite(np.exp(dtype(x))))

    return holds


def _finite_loss(
    dtype: type[np.floating[Any]], log_softmax_of: Callable[[Array], Array]
) -> Callable[[float], bool]:
    return lambda gap: bool(np.isfinite(log_softmax_of(np.array([0, -gap], dtype))).all())


def _obtain_worked_values(results: Results) -> None:
    ordinary = ("[1, 2, 3]", "[3, 1, −3]", "[−0.5, 1.2, −0.1, 2.4]")
    for logits in (*ordinary, "[1e7, 1e8, 2e5, 2e7]", "[−1e10, −1e9, −2e10, −1e10]"):
        results.obtain(f"softmax({logits})", *softmax(_read(logits)))
    logits_BC = torch.tensor([[2.0, 3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    (gradient_BC,) = torch.autograd.grad(cross_entropy(logits_BC, torch.tensor([1])).sum(), logits_BC)
    results.obtain("gradient of the cross-entropy of [2, 3, 4] with label 1", *gradient_BC[0].tolist())
    failed = bool(np.isnan(textbook_softmax(_read("[1e7, 1e8, 2e5, 2e7]"))).any())
    results.obtain("softmax([1e7, 1e8, 2e5, 2e7]) as the textbook writes it has NaN", failed)
    results.find(
        "The gradient is 0.0900, −0.7553, 0.6652 to four digits; the usual print rests on a softmax "
        "rounded on the way."
    )
    results.find(
        "Between exp's upper limit and the distance at which the loss is inf, the loss through probabilities "
        "is finite and its gradient NaN: 1/p leaves the type before p does."
    )
    results.find("float16 ends at 65,504: logits of 1e7 and 1e8 are inf before any softmax sees them.")


def _read(logits: str) -> Array:
    return np.array([float(word) for word in logits.strip("[]").replace("−", "-").split(",")])


def _obtain_limits(results: Results) -> None:
    limits = [float(dtype(largest(_finite_exp(dtype), 1000.0))) for dtype in DTYPES.values()]
    results.obtain("largest x with finite exp(x): float16, float32, float64", *limits)
    gaps = [
        float(dtype(largest(_finite_loss(dtype, textbook_log_softmax), 1000.0))) for dtype in DTYPES.values()
    ]
    results.obtain("distance of logits at which −log(softmax) is inf: the same types", *gaps)
    survives = all(_finite_loss(dtype, log_softmax)(1000.0) for dtype in DTYPES.values())
    results.obtain("the same loss from logits is finite there", survives)


def _errors(function: Callable[[Array], Array], logits_NBC: Array, truth_NBC: Array) -> Array:
    """[N] largest relative error of all rows and classes; NaN where any is."""
    got_NBC = function(logits_NBC).astype(np.float64)
    return np.asarray(np.abs(got_NBC / truth_NBC - 1).max(axis=(1, 2)))


def _draw_errors(results: Results, num_offsets: int, generator: np.random.Generator) -> None:
    base_BC = generator.normal(size=(16, 10))
    worst = 0.0
    panels = []
    for name, dtype in DTYPES.items():
        offsets_N = np.linspace(-1.5, 1.5, num_offsets) * np.log(np.finfo(dtype).max)
        # What the type makes of the logits is given; only what a softmax adds to it is its error.
        logits_NBC = (base_BC + offsets_N[:, None, None]).astype(dtype)
        wide_NBC = logits_NBC.astype(np.longdouble)
        exps_NBC = np.exp(wide_NBC - wide_NBC.max(axis=2, keepdims=True))
        truth_NBC = exps_NBC / exps_NBC.sum(axis=2, keepdims=True)
        stable_N = _errors(softmax, logits_NBC, truth_NBC)
        textbook_N = _errors(textbook_softmax, logits_NBC, truth_NBC)
        precision = float(np.finfo(dtype).eps)
        worst = max(worst, float(stable_N.max()) / precision)
        labels = ("offset added to all logits", "largest relative error")
        limits = (precision / 30, precision * 3e3)
        panels.append(Panel(name, *labels, width=400, log_y=True, y_range=limits))
        series = {"maximum subtracted": stable_N, "as the textbook writes it": textbook_N}
        panels[-1].lines({which: (offsets_N, error_N) for which, error_N in series.items()})
    results.obtain("largest error at any offset with the maximum subtracted, in eps", worst)
    results.draw(
        charts.figure(*panels),
        "errors",
        title="The same logits, moved",
        caption="Relative error of softmax when a number is added to all logits, for each type of number. A "
        "curve ends where it is NaN.",
        alt="Three panels. The curve with the maximum subtracted stays near the precision of the type at "
        "every offset; the textbook's is wrong or NaN beyond ±9 in float16, ±90 in float32, ±700 in float64",
    )


def _gradient(gaps_N: Array, dtype: type[np.floating[Any]], *, from_logits: bool) -> Array:
    """[N] size of the loss's gradient with respect to the right class's logit, which lies below by a gap."""
    logits_N2 = np.stack([np.zeros_like(gaps_N), -gaps_N], axis=1).astype(dtype)
    logits = torch.tensor(logits_N2, requires_grad=True)
    answers = logits if from_logits else softmax(logits)
    right_N = torch.ones(len(gaps_N), dtype=torch.int64)
    loss_N = cross_entropy(answers, right_N, from_logits=from_logits)
    return np.asarray(torch.autograd.grad(loss_N.sum(), logits)[0][:, 1].abs())


def _draw_gradients(results: Results) -> None:
    labels = ("right class: logit below the other by", "size of the gradient")
    panels = [Panel(name, *labels, width=400, height=330, y_range=(-0.05, 1.12)) for name in DTYPES]
    for panel, (name, dtype) in zip(panels, DTYPES.items(), strict=True):
        gaps_N = np.linspace(0, 1.3, 521) * SMALLEST[name]
        through_N = _gradient(gaps_N, dtype, from_logits=False)
        series = {
            "from logits": _gradient(gaps_N, dtype, from_logits=True),
            "through probabilities": through_N,
        }
        panel.lines({form: (gaps_N, size_N) for form, size_N in series.items()})
        panel.mark(SMALLEST[name], "loss inf", height=0.5)
    results.draw(
        charts.figure(*panels),
        "gradients",
        title="What a wrong answer teaches",
        caption="The gradient of −log p for the right class. Through probabilities it becomes NaN, a "
        "gap here, and then 0 just where the model is most wrong.",
        alt="Three panels. From logits the gradient stays 1. Through probabilities it is NaN from 11 and 0 "
        "from 17 in float16, from 89 and 104 in float32, from 710 and 745 in float64.",
    )

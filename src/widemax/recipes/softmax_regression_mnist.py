"""Softmax regression on handwritten digits, as the exercise of the UFLDL tutorial has it.

Shapes: N images, D pixels, C classes.
"""

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import avg_pool2d, one_hot

from widemax.estimators import SoftmaxRegression
from widemax.losses import cross_entropy
from widemax.numerics import softmax
from widemax.recipes.base import Array, Recipe, Results, recipes
from widemax.recipes.digits import NAMES, draw_mistakes, read_digits, signed_images
from widemax.recipes.images import Images
from widemax.recipes.known import Known

DECAY = 1e-4
UFLDL = "Ng et al., UFLDL tutorial, exercise Softmax Regression (Stanford, 2011)"
ACCURACY = "test accuracy"
CHECK = "gradient check, ‖numerical − formula‖ / ‖numerical + formula‖ (10⁻⁹)"
GAP = "objective above the optimum, proven bound (10⁻⁶ of the objective)"
OBJECTIVE = "objective (nats a row)"
KNOWN = {
    ACCURACY: Known.printed(0.926, digits=3, source=f"{UFLDL}: 92.6 %"),
    CHECK: Known.at_most(100, digits=2, source=f"{UFLDL}, softmaxExercise.m: usually less than 1e-7"),
    GAP: Known.at_most(1, digits=2, source="the duality gap, tol = 1e-6"),
}


@recipes.register("softmax-regression-mnist")
class SoftmaxRegressionMnist(Recipe):
    """Pixels, a weight for each pixel and digit, weight decay, and nothing else."""

    title = "Softmax regression on handwritten digits"
    description = (
        "Each digit has a weight a pixel and no bias; the weights minimize the cross-entropy plus λ/2 times "
        "their sum of squares, λ = 1e-4, which makes the optimum unique. The formula of the gradient is "
        "compared with differences of the objective, the estimator with the exercise's 100 iterations of "
        "L-BFGS, and the weights are looked at as images."
    )
    data = ("mnist",)
    full_time = "25 s"
    known = KNOWN

    def run(self, results: Results, *, quick: bool, seed: int) -> None:
        train = read_digits("train", 5_000 if quick else None)
        test = read_digits("test", 2_000 if quick else None)
        results.obtain(CHECK, check_gradient(train.take(slice(100)), seed=seed) * 1e9)
        model = fit(train, seed=seed)
        probs_NC = model.predict_proba(rows_of(test))
        guesses_N, labels_N = probs_NC.argmax(axis=1), test.labels_N.numpy()
        results.obtain(ACCURACY, (guesses_N == labels_N).mean())
        results.obtain(GAP, model.gap_ * 1e6)
        iterations, peer = lbfgs(train)
        source = f"SciPy's L-BFGS, {iterations} iterations from zero on the same objective, in this run"
        results.obtain(OBJECTIVE, model.objective_, known=Known.at_most(peer, digits=6, source=source))
        results.find(f"The estimator took {model.n_iter_} steps to the proven optimum.")
        _draw_weights(results, model.coef_)
        draw_mistakes(results, test, probs_NC, name="mistakes", title="The surest mistakes")


def rows_of(digits: Images) -> Array:
    """[N, D] pixels between 0 and 1."""
    return digits.unit.flatten(1).numpy()


def fit(digits: Images, *, seed: int) -> SoftmaxRegression:
    """The optimum; the estimator's C is 1 / (λ N)."""
    model = SoftmaxRegression(C=1 / (DECAY * len(digits)), fit_intercept=False, tol=1e-6, random_state=seed)
    return model.fit(rows_of(digits), digits.labels_N.numpy())


def cost(weight_CD: Tensor, rows_ND: Tensor, labels_N: Tensor) -> Tensor:
    """J = −(1/N) Σ_i log p_i,y + (λ/2) Σ w²."""
    return cross_entropy(rows_ND @ weight_CD.T, labels_N).mean() + DECAY / 2 * weight_CD.square().sum()


def gradient(weight_CD: Tensor, rows_ND: Tensor, labels_N: Tensor) -> Tensor:
    """∂J/∂w_j = −(1/N) Σ_i x_i (1{y_i = j} − p_ij) + λ w_j."""
    errors_NC = one_hot(labels_N, len(weight_CD)) - softmax(rows_ND @ weight_CD.T)
    return DECAY * weight_CD - errors_NC.T @ rows_ND / len(labels_N)


def check_gradient(digits: Images, *, seed: int) -> float:
    """‖numerical − formula‖ / ‖numerical + formula‖ on images of 7 by 7 pixels, in float64."""
    rows_ND = avg_pool2d(digits.unit.double(), 4).flatten(1)
    generator = torch.Generator().manual_seed(seed)
    weight_CD = torch.randn(10, rows_ND.shape[1], generator=generator, dtype=torch.float64)
    numerical_CD = torch.empty_like(weight_CD)
    step = 1e-4
    for place in np.ndindex(*weight_CD.shape):
        ends = []
        for sign in (1, -1):
            moved_CD = weight_CD.clone()
            moved_CD[place] += sign * step
            ends.append(cost(moved_CD, rows_ND, digits.labels_N))
        numerical_CD[place] = (ends[0] - ends[1]) / (2 * step)
    formula_CD = gradient(weight_CD, rows_ND, digits.labels_N)
    return float((numerical_CD - formula_CD).norm() / (numerical_CD + formula_CD).norm())


def lbfgs(digits: Images) -> tuple[int, float]:
    """Iterations taken, at most 100, and the objective they reach: the way of the exercise."""
    rows_ND, labels_N = digits.unit.flatten(1), digits.labels_N

    def both(weights: Array) -> tuple[float, Array]:
        weight_CD = torch.tensor(weights, dtype=torch.float32).reshape(10, -1)
        ascent_CD = gradient(weight_CD, rows_ND, labels_N)
        return float(cost(weight_CD, rows_ND, labels_N)), ascent_CD.flatten().double().numpy()

    start = np.zeros(10 * rows_ND.shape[1])
    answer = minimize(both, start, jac=True, method="L-BFGS-B", options={"maxiter": 100})
    return int(answer.nit), float(answer.fun)


def _draw_weights(results: Results, weight_CD: Array) -> None:
    results.draw(
        signed_images(weight_CD.reshape(-1, 28, 28), NAMES, columns=5, unit="weight of the pixel"),
        "weights",
        title="What each digit looks for",
        caption="Ink on orange speaks for the digit, ink on purple against it; white pixels do not matter.",
        alt="Ten images of 28 by 28 weights. Orange strokes follow the shape of the digit, purple fills the "
        "places where it must be empty, such as the middle of the 0.",
    )

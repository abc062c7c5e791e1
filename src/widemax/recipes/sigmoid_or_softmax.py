"""The same logits through a sigmoid a class and through one softmax. Shapes: C classes, N steps."""

import numpy as np

from widemax import charts
from widemax.charts import Panel
from widemax.numerics import sigmoid, softmax
from widemax.recipes.base import Recipe, Results, recipes
from widemax.recipes.known import Known

LOGITS_C = np.array([-0.5, 1.2, -0.1, 2.4])
CLASSES = ("pneumonia", "cardiomegaly", "nodule", "abscess")
DRAELOS = (
    "Draelos, Multi-label vs. Multi-class Classification: Sigmoid vs. Softmax, glassboxmedicine.com, 2019 "
    "(digits partly cut, partly rounded)"
)
RAISED = 4.0


KNOWN = {
    "sigmoid of [−0.5, 1.2, −0.1, 2.4]": Known.near(
        *(0.37, 0.77, 0.48, 0.91), within=0.01, digits=2, source=DRAELOS
    ),
    "sum of these sigmoids": Known.near(2.53, within=0.01, digits=2, source=DRAELOS),
    "softmax of the same": Known.near(0.04, 0.21, 0.05, 0.70, within=0.01, digits=2, source=DRAELOS),
    "sum of this softmax": Known.printed(1.0, digits=2, source=DRAELOS),
    "change of the other sigmoids when one logit rises": Known.printed(
        0.0, digits=2, source="the definition: sigmoid(s)_j depends on s_j alone"
    ),
    "the other softmax probabilities fall when one logit rises": Known.yes(
        source="the definition: ∂a_j/∂s_i = −a_i a_j < 0 for i ≠ j"
    ),
    "ratios between the other softmax probabilities change": Known.no(
        source="the definition: a_j/a_k = exp(s_j − s_k)"
    ),
    "sigmoid(s) = softmax([s, 0]) to 1e-15": Known.yes(source="1/(1 + exp(−s)) = exp(s)/(exp(s) + 1)"),
}


@recipes.register("sigmoid-or-softmax")
class SigmoidOrSoftmax(Recipe):
    """Several right classes or exactly one: what either function says of the same four logits."""

    title = "Sigmoid or softmax: independent or exclusive classes"
    description = (
        "Four logits of a chest X-ray model go through a sigmoid a class and through one softmax. A sigmoid "
        "answers a yes-or-no question a class, so its probabilities may sum to anything; a softmax shares "
        "one unit of probability among classes of which exactly one is right. Then one logit is raised, to "
        "see which of the other probabilities notice."
    )
    full_time = "1 s"
    known = KNOWN

    def run(self, results: Results, *, quick: bool, seed: int) -> None:
        raised_C = LOGITS_C.copy()
        raised_C[-1] = RAISED
        before, after = softmax(LOGITS_C)[:-1], softmax(raised_C)[:-1]
        results.obtain("sigmoid of [−0.5, 1.2, −0.1, 2.4]", *sigmoid(LOGITS_C))
        results.obtain("sum of these sigmoids", sigmoid(LOGITS_C).sum())
        results.obtain("softmax of the same", *softmax(LOGITS_C))
        results.obtain("sum of this softmax", softmax(LOGITS_C).sum())
        change = np.abs(sigmoid(raised_C) - sigmoid(LOGITS_C))[:-1].max()
        results.obtain("change of the other sigmoids when one logit rises", change)
        results.obtain(
            "the other softmax probabilities fall when one logit rises", bool((after < before).all())
        )
        results.obtain(
            "ratios between the other softmax probabilities change",
            not np.allclose(after / after[0], before / before[0], rtol=1e-12),
        )
        grid_N = np.linspace(-30, 30, 601)
        pairs_N2 = np.stack([grid_N, np.zeros_like(grid_N)], axis=1)
        difference_N = sigmoid(grid_N) - softmax(pairs_N2)[:, 0]
        results.obtain("sigmoid(s) = softmax([s, 0]) to 1e-15", bool((np.abs(difference_N) <= 1e-15).all()))
        _draw_bars(results)
        _draw_sweep(results)
        results.find(
            f"To four digits the sigmoids are 0.3775, 0.7685, 0.4750 and 0.9168, sum "
            f"{sigmoid(LOGITS_C).sum():.4f}. The source cuts 0.3775 and 0.9168 to 0.37 and 0.91 "
            "and rounds the others up, hence its 2.53."
        )


def _draw_bars(results: Results) -> None:
    probs = {
        f"sigmoid, sum {sigmoid(LOGITS_C).sum():.2f}": sigmoid(LOGITS_C),
        f"softmax, sum {softmax(LOGITS_C).sum():.2f}": softmax(LOGITS_C),
    }
    names = [f"{name}\n{logit:g}".replace("-", "−") for name, logit in zip(CLASSES, LOGITS_C, strict=True)]
    panel = Panel(width=720, height=400, x="class and its logit", y="probability")
    panel.bars(names, probs)
    results.draw(
        charts.figure(panel),
        "bars",
        title="The same logits, two answers",
        caption="Sigmoids answer four questions; a softmax answers one.",
        alt="Bars of sigmoid 0.38, 0.77, 0.48, 0.92 beside softmax 0.04, 0.21, 0.05, 0.70 for four classes.",
    )


def _draw_sweep(results: Results) -> None:
    raised_N = np.linspace(-4, 8, 121)
    logits_NC = np.repeat(LOGITS_C[None], len(raised_N), axis=0)
    logits_NC[:, -1] = raised_N
    panels = []
    for heading, function in (
        ("sigmoid: the others stay", sigmoid),
        ("softmax: the others give way", softmax),
    ):
        probs_NC = function(logits_NC)
        panels.append(Panel(heading, x=f"logit of {CLASSES[-1]}", y="probability", y_range=(-0.03, 1.03)))
        panels[-1].lines({name: (raised_N, probs_NC[:, place]) for place, name in enumerate(CLASSES)})
    results.draw(
        charts.figure(*panels),
        "sweep",
        title="One logit rises",
        caption="Left, the other classes keep their probabilities; right, they share what is left.",
        alt="Left: three flat curves and one that rises. Right: one curve rises to 1, three fall to 0.",
    )

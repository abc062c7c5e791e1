"""The laws of losses over sampled classes. Shapes: B rows, D hidden, C classes, S sampled."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product

import torch
from torch import Tensor

from widemax.numerics import log_sigmoid
from widemax.options import checked
from widemax.testing.report import NotApplicable, Report, name_of, require, require_close, run_laws
from widemax.testing.sampled_expectations import optimum, unbiased, vanishing_bias
from widemax.testing.sampled_problem import Kind, Problem, require_same_gradients, uneven

CORRECTIONS = ("none", "conditional", "importance", "refined")


@checked
def check_sampled_loss(
    loss_fn: Callable[..., Tensor], *, kind: Kind = "softmax", corrections: Sequence[str] = CORRECTIONS
) -> Report:
    """Whether a loss over sampled classes corrects for the sampling as it says.

    The function is called as :func:`widemax.heads.sampled_softmax_loss` is: hidden vectors, weights, labels
    and candidates by position; ``bias``, ``temperature`` and ``correction`` by keyword. Expectations are
    exact sums over every possible draw from a few classes, so nothing here is left to chance.

    Args:
        loss_fn: gives one loss a row.
        kind: "softmax" for exactly one right class, "sigmoid" for a yes-or-no question a class.
        corrections: those of "none", "conditional", "importance" and "refined" that it offers.

    Raises:
        ConformanceError: a law is broken.

    Example:
        >>> from widemax.heads import sampled_softmax_loss
        >>> "temperature" in check_sampled_loss(sampled_softmax_loss).held
        True

    Source: TensorFlow, "Candidate Sampling Algorithms"; Bengio and Senécal 2008, "Adaptive Importance
    Sampling"; Khrylchenko et al. 2025, "Correcting the LogQ Correction".
    """
    problem = Problem.of(loss_fn, kind)
    laws = {
        "accidental hits": _accidental_hits,
        "duplicates": _duplicates,
        "every class once": _every_class_once,
        "temperature": _temperature,
        "optimum": optimum,
        "unbiased": unbiased,
        "vanishing bias": vanishing_bias,
        "refined": _refined,
        "half precision": _half_precision,
    }
    return run_laws(
        name_of(loss_fn), {law: partial(ask, problem, tuple(corrections)) for law, ask in laws.items()}
    )


def _accidental_hits(problem: Problem, corrections: tuple[str, ...]) -> str:
    others_S = torch.tensor([k for k in range(12) if k not in problem.labels_B.tolist()])
    for correction in corrections:
        for row, label in enumerate(problem.labels_B.tolist()):
            only = slice(row, row + 1)
            one = replace(problem, hidden_BD=problem.hidden_BD[only], labels_B=problem.labels_B[only])
            hit_S = torch.cat([others_S, torch.tensor([label, label])]).sort().values
            require_same_gradients(
                f"under {correction!r} with the row's own label among the candidates",
                one.gradients(hit_S, uneven(12), correction),
                one.gradients(others_S, uneven(12), correction),
                cause="hits left in, or masked by adding a small number instead of −inf",
            )
    return "candidates that are the row's label change nothing"


def _duplicates(problem: Problem, corrections: tuple[str, ...]) -> str:
    others_S = torch.tensor([k for k in range(12) if k not in problem.labels_B.tolist()])

    def sums(times: int, correction: str) -> Tensor:
        """What is a sum over candidates: the loss itself, or for a softmax its exponential."""
        ids_S = torch.cat([others_S, others_S[1:2].repeat(times)]).sort().values
        loss_B = problem(ids_S, uneven(12), correction).detach()
        return loss_B.exp() if problem.kind == "softmax" else loss_B

    asked = [correction for correction in corrections if (problem.kind, correction) != ("softmax", "refined")]
    if not asked:
        raise NotApplicable("the value of 'refined' is not a sum over candidates")
    for correction in asked:
        once, thrice = (sums(times, correction) - sums(0, correction) for times in (1, 3))
        what = f"what 3 more of one candidate add under {correction!r}"
        cause = "candidates de-duplicated in the loss"
        require(bool((once > 0).all()), f"{what} must be more than 0, found {once.tolist()}.", cause=cause)
        require_close(what, thrice, 3 * once, tolerance=1e-8, cause=cause)
    return "a candidate that stands several times counts as often"


def _every_class_once(problem: Problem, corrections: tuple[str, ...]) -> str:
    loss_B, gradient = problem.full()
    every_C, certain_C = torch.arange(12), torch.zeros(12, dtype=torch.float64)
    for correction in corrections:
        sampled_B, sampled_gradient = problem.gradients(every_C, certain_C, correction)
        cause = "hits left in, or labels and candidates scored differently"
        if (problem.kind, correction) != ("softmax", "refined"):
            what = f"the loss under {correction!r} with every class drawn once"
            require_close(what, sampled_B, loss_B, tolerance=1e-12, cause=cause)
        what = f"the gradient under {correction!r} with every class drawn once"
        require_close(what, sampled_gradient, gradient, tolerance=1e-12, cause=cause)
    return "drawing every class once gives the exact loss and gradient"


def _temperature(problem: Problem, corrections: tuple[str, ...]) -> str:
    hotter = replace(problem, hidden_BD=problem.hidden_BD * 0.05, bias_C=problem.bias_C * 0.05)
    ids_S = torch.arange(0, 12, 2)
    for correction in corrections:
        require_close(
            f"the loss under {correction!r} of logits 0.05·s at temperature 0.05",
            hotter(ids_S, uneven(12), correction, temperature=0.05),
            problem(ids_S, uneven(12), correction),
            tolerance=1e-10,
            cause="the temperature divides after the correction, and so the correction too",
        )
    return "temperature T with logits T·s gives the loss of logits s"


def _refined(problem: Problem, corrections: tuple[str, ...]) -> str:
    if not {"importance", "refined"} <= set(corrections):
        raise NotApplicable("it does not offer both 'importance' and 'refined'")
    ids_S = torch.tensor([0, 1, 1, 4, 7, 9, 11])
    _, refined = problem.gradients(ids_S, uneven(12), "refined")
    _, importance = problem.gradients(ids_S, uneven(12), "importance")
    require_close(
        "the gradient under 'refined', compared with 'importance',",
        *(refined, importance),
        tolerance=1e-10,
        cause="the weight 1 − P(t) left out, or left in the graph",
    )
    return "the gradient of 'refined' is that of 'importance'"


def _half_precision(problem: Problem, corrections: tuple[str, ...]) -> str:
    label = problem.labels_B[:1]
    for correction, dtype in product(corrections, (torch.float16, torch.bfloat16)):
        coarse, leaves = replace(problem, labels_B=label.repeat(4)).with_leaves(dtype)
        hidden_BD, weight_CD, bias_C = leaves
        loss_B = coarse(label.repeat(2), uneven(12) - 12, correction)
        gradients = torch.autograd.grad(loss_B.sum(), leaves)
        finite = loss_B.isfinite().all() and all(grad.to_dense().isfinite().all() for grad in gradients)
        where = f"under {correction!r} in {dtype}, where every candidate is a hit,"
        found = f"loss and gradient {where} must be finite, found others."
        require(bool(finite), found, cause="a mask of −1e9, or −inf minus −inf")
        expected_B = torch.zeros_like(loss_B)
        if problem.kind == "sigmoid":
            logits_B = (hidden_BD @ weight_CD[label].T + bias_C[label]).double().squeeze(1)
            shift = float(uneven(12)[label]) - 12 if correction == "conditional" else 0.0
            expected_B = -log_sigmoid(logits_B - shift)
        require_close(f"the loss {where}", loss_B, expected_B, tolerance=0.02, cause="hits left in")
    return "a row whose every candidate is a hit learns nothing from them, in float16 and bfloat16"

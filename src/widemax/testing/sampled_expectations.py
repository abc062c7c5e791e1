"""What sampled losses are on average, as exact sums over every draw from a few classes. Shapes: C classes."""

import torch

from widemax.testing.report import NotApplicable, require, require_close
from widemax.testing.sampled_problem import Problem, independent_draws, repeated_draws, require_same_gradients


def optimum(problem: Problem, corrections: tuple[str, ...]) -> str:
    if "conditional" not in corrections:
        raise NotApplicable("it does not offer 'conditional'")
    probs_C = torch.tensor([0.45, 0.25, 0.15, 0.1, 0.05], dtype=torch.float64)
    logits_C = probs_C.log() if problem.kind == "softmax" else probs_C.logit()
    rows = problem.every_label(logits_C)
    inclusion_C = torch.tensor([0.9, 0.2, 0.5, 0.05, 0.4], dtype=torch.float64)
    mean = torch.zeros_like(rows.gradients(torch.arange(1), inclusion_C.log(), "conditional")[1])
    for ids_S, prob in independent_draws(inclusion_C):
        mean += prob * rows.gradients(ids_S, inclusion_C.log(), "conditional", probs_C)[1]
    require_close(
        "the mean gradient under 'conditional' at the true logits, each class drawn independently,",
        *(mean, torch.zeros_like(mean)),
        tolerance=1e-12,
        cause="the labels' logits left uncorrected, or the wrong sign of log Q",
    )
    return "the mean gradient at the true logits is 0 under 'conditional'"


def unbiased(problem: Problem, corrections: tuple[str, ...]) -> str:
    if problem.kind == "softmax":
        raise NotApplicable("a softmax of samples is unbiased only in the limit of many")
    asked = [correction for correction in corrections if correction in ("importance", "refined")]
    rows = problem.every_label(torch.tensor([1.0, -0.5, 0.3, -1.5], dtype=torch.float64))
    inclusion_C = torch.tensor([0.9, 0.2, 0.5, 0.05], dtype=torch.float64)
    for correction in asked:
        means = [torch.zeros_like(x) for x in rows.full()]
        for ids_S, prob in independent_draws(inclusion_C):
            for mean, value in zip(means, rows.gradients(ids_S, inclusion_C.log(), correction), strict=True):
                mean += prob * value
        what, cause = f"in the mean under {correction!r}", "negatives not weighted by 1 / expected count"
        require_same_gradients(what, means, rows.full(), cause=cause)
    return "loss and gradient are right on average under " + " and ".join(map(repr, asked))


def vanishing_bias(problem: Problem, corrections: tuple[str, ...]) -> str:
    if problem.kind == "sigmoid":
        raise NotApplicable("a sigmoid of samples has no bias at all")
    asked = [correction for correction in corrections if correction in ("importance", "refined")]
    if not asked:
        raise NotApplicable("it offers neither 'importance' nor 'refined'")
    rows = problem.every_label(torch.tensor([1.0, -0.5, 0.3], dtype=torch.float64))
    draw_probs_C = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    for correction in asked:
        bias = []
        for num_draws in (8, 32):
            log_count_C = (num_draws * draw_probs_C).log()
            mean = torch.zeros_like(rows.full()[1])
            for ids_S, prob in repeated_draws(draw_probs_C, num_draws):
                mean += prob * rows.gradients(ids_S, log_count_C, correction)[1]
            bias.append(float(torch.linalg.vector_norm(mean - rows.full()[1])))
        require(
            2.5 < bias[0] / bias[1] < 6.5,
            f"the bias of the gradient under {correction!r} must fall to about a fourth from 8 draws to 32, "
            f"found {bias[0]:.3g} and {bias[1]:.3g}.",
            cause="the wrong sign of log Q, the label's logit corrected, or hits left in",
        )
    return "the bias falls as one over the number of draws under " + " and ".join(map(repr, asked))

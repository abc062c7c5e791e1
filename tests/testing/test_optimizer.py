"""check_optimizer passes the optimizers there are, and catches each defect by the law it breaks."""

from functools import partial

import pytest
import torch

from widemax.optim import LazyAdam, Momentum, RowwiseAdagrad
from widemax.testing import ConformanceError, check_optimizer


@pytest.mark.parametrize(
    "factory",
    [
        LazyAdam,
        partial(LazyAdam, weight_decay=0.1),
        Momentum,
        partial(RowwiseAdagrad, weight_decay=0.1),
        torch.optim.SGD,
    ],
    ids=["lazy_adam", "lazy_adam, decay", "momentum", "rowwise_adagrad, decay", "torch SGD"],
)
def test_right_optimizers_pass(factory):
    report = check_optimizer(factory)
    assert len(report.held) == 8
    assert report.skipped == {}


class Ascent(torch.optim.SGD):
    def __init__(self, params):
        super().__init__(params, lr=0.1, maximize=True)


class GlidingMomentum(torch.optim.SGD):
    """torch's momentum moves the rows of earlier steps too."""

    def __init__(self, params):
        super().__init__(params, lr=0.1, momentum=0.9)


class LastOfDuplicates(torch.optim.SGD):
    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is not None and parameter.grad.is_sparse:
                rows, values = parameter.grad._indices()[0], parameter.grad._values()
                dense = torch.zeros_like(parameter)
                dense[rows] = values
                parameter.grad = dense
        super().step()


class OtherRateForSparse(torch.optim.SGD):
    def step(self, closure=None):
        grad = self.param_groups[0]["params"][0].grad
        self.param_groups[0]["lr"] = 0.1 if grad is None or not grad.is_sparse else 0.2
        super().step()


class DecaysAll(torch.optim.SGD):
    """Decays every row once a gradient came without rows."""

    @torch.no_grad()
    def step(self, closure=None):
        super().step()
        for parameter in self.param_groups[0]["params"]:
            if (
                parameter.grad is not None
                and parameter.grad.is_sparse
                and not len(parameter.grad.coalesce().values())
            ):
                parameter.mul_(0.9)


class DecaysWithoutGradient(torch.optim.SGD):
    @torch.no_grad()
    def step(self, closure=None):
        super().step()
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is None:
                parameter.mul_(0.9)


class InSinglePrecision(torch.optim.SGD):
    @torch.no_grad()
    def step(self, closure=None):
        super().step()
        for parameter in self.param_groups[0]["params"]:
            parameter.copy_(parameter.float())


class ForgetsItsState(torch.optim.SGD):
    """A rate that falls with a number of steps which state_dict() does not hold."""

    steps = 0

    def step(self, closure=None):
        self.steps += 1
        self.param_groups[0]["lr"] = 0.1 / self.steps
        super().step()


DEFECTS = {
    Ascent: "minimizes",
    GlidingMomentum: "untouched rows",
    LastOfDuplicates: "duplicate rows",
    OtherRateForSparse: "sparse as dense",
    DecaysAll: "empty gradient",
    DecaysWithoutGradient: "no gradient",
    InSinglePrecision: "float64",
    ForgetsItsState: "stopped and resumed",
}


@pytest.mark.parametrize(("factory", "law"), DEFECTS.items(), ids=[factory.__name__ for factory in DEFECTS])
def test_a_defect_is_caught(factory, law):
    with pytest.raises(ConformanceError, match=factory.__name__) as caught:
        check_optimizer(factory)
    assert caught.value.law == law

"""check_head passes the heads there are, and catches each defect by the law it breaks."""

import functools

import pytest
import torch

from widemax.heads import ExactHead, SampledHead, TopK
from widemax.losses import reduce_loss
from widemax.testing import ConformanceError, check_head


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_right_heads_pass(loss):
    assert check_head(lambda num_classes, dim: ExactHead(num_classes, dim, loss=loss)).skipped == {}
    report = check_head(
        lambda num_classes, dim: SampledHead(num_classes, dim, loss=loss, sampler="uniform", num_sampled=9)
    )
    assert report.skipped == {"gradient": "its loss is drawn at random"}


def test_a_loss_of_one_label_may_refuse_several():
    report = check_head(lambda num_classes, dim: ExactHead(num_classes, dim, loss="focal"))
    assert list(report.skipped) == ["several labels"]


def asked(differently):
    """Has every question of a head asked differently, which training is not; a question may ask another."""

    def decorate(head):
        for name in ("logits", "log_probs", "log_partition", "topk", "answer"):
            ask = getattr(head, name)

            @functools.wraps(ask)
            def question(self, *arguments, ask=ask, **options):
                return differently(self, ask, *arguments, **options)

            setattr(head, name, question)
        return head

    return decorate


class Unnormalized(ExactHead):
    def log_probs(self, hidden, class_ids):
        return super().log_probs(hidden, class_ids) + 0.01


class SwapsIds(ExactHead):
    def logits(self, hidden, class_ids=None):
        if class_ids is not None and class_ids.ndim == 2:
            class_ids = class_ids.flip(0)
        return super().logits(hidden, class_ids)


class LastOfEqual(ExactHead):
    def topk(self, hidden, k, *, exclude=None):
        logits_BC = self.logits(hidden)
        order_BC = logits_BC.flip(1).argsort(descending=True, stable=True)
        ids_BK = self.num_classes - 1 - order_BC[:, :k]
        logits_BK = logits_BC.gather(1, ids_BK)
        return TopK(ids_BK, logits_BK, logits_BK - self.log_partition(hidden)[:, None])


class MoreThanC(ExactHead):
    def topk(self, hidden, k, *, exclude=None):
        assert k <= self.num_classes
        return super().topk(hidden, k, exclude=exclude)


class IgnoresExclude(ExactHead):
    def topk(self, hidden, k, *, exclude=None):
        return super().topk(hidden, k)


class RanksFromZero(ExactHead):
    def answer(self, *args, **options):
        answers = super().answer(*args, **options)
        answers.label_ranks.sub_(1).clamp_(min=0)
        return answers


def of_centered(head, ask, hidden, *arguments, **options):
    return ask(head, hidden - hidden.mean(0) if len(hidden) > 1 else hidden, *arguments, **options)


@asked(of_centered)
class BatchStatistics(ExactHead):
    """Hidden vectors standardized by the batch, as a batch norm left in training mode would."""


class CalibratedLoss(ExactHead):
    def forward(self, hidden, labels, **options):
        return super().forward(hidden / self.calibration_temperature, labels, **options)


def at_temperature_one(head, ask, *arguments, **options):
    temperature = head.calibration_temperature.clone()
    head.calibration_temperature.fill_(1)
    answers = ask(head, *arguments, **options)
    head.calibration_temperature.copy_(temperature)
    return answers


@asked(at_temperature_one)
class NeverCalibrated(ExactHead):
    pass


class NoSingleClass(ExactHead):
    def __init__(self, num_classes, dim):
        assert num_classes > 1
        super().__init__(num_classes, dim)


class NothingOverNothing(ExactHead):
    def forward(self, hidden, labels, *, reduction="mean", **options):
        loss_B = super().forward(hidden, labels, reduction="none", **options)
        return loss_B.mean() if reduction == "mean" else reduce_loss(loss_B, reduction=reduction)


class MeanOfRows(ExactHead):
    def forward(self, hidden, labels, *, sample_weight=None, reduction="mean"):
        loss_B = super().forward(hidden, labels, sample_weight=sample_weight, reduction="none")
        return reduce_loss(loss_B, reduction=reduction)


class MeanOverNoLabels(ExactHead):
    def forward(self, hidden, labels, *, sample_weight=None, reduction="mean"):
        loss_B = super().forward(hidden, labels, reduction="none")
        if hasattr(labels, "offsets_B1"):
            loss_B = loss_B / labels.offsets_B1.diff()
        return reduce_loss(loss_B, sample_weight=sample_weight, reduction=reduction)


class TakesAnyLabel(ExactHead):
    def forward(self, hidden, labels, **options):
        if isinstance(labels, torch.Tensor):
            labels = labels.clamp(max=self.num_classes - 1)
        return super().forward(hidden, labels, **options)


class ForgetsBias(ExactHead):
    def forward(self, hidden, labels, **options):
        bias, self.bias = self.bias, torch.nn.Parameter(self.bias.detach())
        loss = super().forward(hidden, labels, **options) + 0 * bias.sum()
        self.bias = bias
        return loss


class Unlearns(ExactHead):
    def forward(self, hidden, labels, **options):
        return -super().forward(hidden, labels, **options)


class OwnRandomness(ExactHead):
    def forward(self, hidden, labels, **options):
        return super().forward(hidden + 1e-3 * torch.randn_like(hidden), labels, **options)


def of_seen(head, ask, hidden, *arguments, **options):
    return ask(head, hidden * head.is_seen.to(hidden), *arguments, **options)


@asked(of_seen)
class UnsavedPart(ExactHead):
    def __init__(self, num_classes, dim):
        super().__init__(num_classes, dim)
        self.is_seen = torch.rand(dim) < 0.7

    def forward(self, hidden, labels, **options):
        return super().forward(hidden * self.is_seen.to(hidden), labels, **options)


DEFECTS = {
    Unnormalized: "probabilities",
    SwapsIds: "logits by id",
    LastOfEqual: "top k",
    MoreThanC: "top k",
    IgnoresExclude: "excluded classes",
    RanksFromZero: "ranks",
    BatchStatistics: "rows apart",
    CalibratedLoss: "calibration temperature",
    NeverCalibrated: "calibration temperature",
    NoSingleClass: "few classes",
    NothingOverNothing: "empty batch",
    MeanOfRows: "reduction",
    MeanOverNoLabels: "several labels",
    TakesAnyLabel: "labels outside",
    ForgetsBias: "gradient",
    Unlearns: "learns",
    OwnRandomness: "calibration temperature",
    UnsavedPart: "saved and loaded",
}


@pytest.mark.parametrize(("head", "law"), DEFECTS.items(), ids=[head.__name__ for head in DEFECTS])
def test_a_defect_is_caught(head, law):
    with pytest.raises(ConformanceError, match=head.__name__) as caught:
        check_head(head)
    assert caught.value.law == law


def test_a_loss_that_forgets_its_seed_is_caught(monkeypatch):
    monkeypatch.setattr("widemax.testing.head.calibration_temperature", lambda factory: "not asked")
    monkeypatch.setattr("widemax.testing.head.reduction", lambda factory: "not asked")
    with pytest.raises(ConformanceError) as caught:
        check_head(OwnRandomness)
    assert caught.value.law == "same seed"

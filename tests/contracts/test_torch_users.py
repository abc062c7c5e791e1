"""Every head that gradients alone train does what a user of torch expects of a module, in every precision.

Truth is the same head in float64; what plain torch errs is that of a linear layer with cross-entropy.
"""

import copy
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from widemax.classes import Classes
from widemax.errors import ArgumentError, OptionError, ShapeError
from widemax.heads import CountingHead, Head, LinearHead, SeveralLabels, heads
from widemax.losses import losses

C, D, B, K = 60, 8, 64, 5
COUNTS = (300 / torch.arange(1, C + 1)).long()
HIDDEN = torch.randn(B, D, generator=torch.Generator().manual_seed(1))
LABELS = torch.randint(C, (B,), generator=torch.Generator().manual_seed(2))
# Above it the exact head streams its loss.
WIDE = 20_000


TRAINED = [name for name in heads if not issubclass(heads[name], CountingHead)]


@pytest.fixture(params=TRAINED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def has_sparse_gradients(name: str) -> bool:
    return "sparse" in inspect.signature(heads[name]).parameters


def build(name: str, num_classes: int = C, seed: int = 0, **options: Any) -> Head:
    """A head whose parameters are all at work, with dense gradients."""
    torch.manual_seed(seed)
    if has_sparse_gradients(name):
        options = {"sparse": False} | options
    counts = (300 / torch.arange(1, num_classes + 1, device="cpu")).long()
    head = heads[name](Classes(num_classes, counts), D, **heads.options(name).complete(options))
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.5)
    return head


def loss_of(head: Head, hidden: Tensor, labels: Tensor, **options: Any) -> Tensor:
    head.seed(3)
    loss: Tensor = head(hidden, labels, **options)
    return loss


# Randomness and arguments.


def test_building_a_head_takes_nothing_from_the_global_randomness(name: str) -> None:
    def parameters(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        head = heads[name](Classes(C, COUNTS), D)
        assert torch.equal(torch.get_rng_state(), before)
        return [*head.parameters(), head.generator.get_state()]

    first, again, other = parameters(5), parameters(5), parameters(6)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True) if a.ndim == 2 and a.any())
    assert not torch.equal(first[-1], other[-1])


@pytest.mark.parametrize("k", [0, -1, 2.0, True, "3", None])
def test_a_number_of_classes_that_is_none_is_refused(name: str, k: Any) -> None:
    head = build(name)
    sentence = f"must be a whole number of at least 1; got {k!r}."
    for ask in (lambda: head.topk(HIDDEN, k), lambda: head.answer(HIDDEN, LABELS, k=k)):
        with pytest.raises(OptionError, match=f"^option 'k' of head.(topk|answer) {sentence}$"):
            ask()
    if isinstance(head, LinearHead):
        with pytest.raises(OptionError, match=f"^option 'num_new' of head.extend {sentence}$"):
            head.extend(k)


# Precision.

MODES: dict[str, tuple[torch.dtype, Callable[[], AbstractContextManager[Any]]]] = {
    "float32": (torch.float32, nullcontext),
    "bfloat16": (torch.bfloat16, nullcontext),
    "float16": (torch.float16, nullcontext),
    "autocast": (torch.float32, lambda: torch.autocast("cpu", dtype=torch.bfloat16)),
}


class Plain(nn.Module):
    """What a user of torch would write."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(D, num_classes)

    def forward(self, hidden: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(self.linear(hidden), labels)


def off(found: Tensor, truth: Tensor) -> float:
    """The largest error, relative to the largest number."""
    return distance(found, truth) / float(truth.detach().abs().max())


def distance(found: Tensor, truth: Tensor) -> float:
    """The largest error."""
    return float((found.detach().double() - truth.detach().double()).abs().max())


def training_errors(model: nn.Module, mode: str, num_classes: int) -> tuple[float, list[float]]:
    """What loss and gradients of a float32 model err in a mode, against the same numbers in float64."""
    dtype, context = MODES[mode]
    hidden = HIDDEN.to(torch.bfloat16 if mode == "autocast" else dtype).clone().requires_grad_()
    labels = LABELS * (num_classes // C)
    model = model.to(dtype)
    exact = copy.deepcopy(model).double()
    exact_hidden = hidden.detach().double().requires_grad_()
    seed = model.seed if isinstance(model, Head) else torch.manual_seed
    seed(3)
    with context():
        loss = model(hidden, labels)
    loss.backward()
    (exact.seed if isinstance(exact, Head) else torch.manual_seed)(3)
    truth = exact(exact_hidden, labels)
    truth.backward()
    if isinstance(model, Head):
        assert loss.dtype == torch.float32
    pairs = [(hidden, exact_hidden), *zip(model.parameters(), exact.parameters(), strict=True)]
    return off(loss, truth), [off(one.grad, two.grad) for one, two in pairs if two.grad.any()]


@pytest.mark.parametrize("num_classes", [C, WIDE])
@pytest.mark.parametrize("mode", MODES)
def test_training_errs_no_more_than_plain_torch(name: str, mode: str, num_classes: int) -> None:
    loss, gradients = training_errors(build(name, num_classes), mode, num_classes)
    plain_loss, plain_gradients = training_errors(Plain(num_classes), mode, num_classes)
    slack = 1e-5 if mode == "float32" else 2e-3
    assert loss <= plain_loss + slack
    assert max(gradients) <= 3 * max(plain_gradients) + 10 * slack


@pytest.mark.parametrize("mode", MODES)
def test_answers_err_no_more_than_plain_torch(name: str, mode: str) -> None:
    dtype, context = MODES[mode]
    head = build(name).to(dtype)
    hidden = HIDDEN.bfloat16() if mode == "autocast" else HIDDEN.to(dtype)
    plain = Plain(C).to(dtype)
    with context(), torch.no_grad():
        best = head.topk(hidden, K)
        answers = head.answer(hidden, LABELS, k=K)
        plain_error = distance(
            plain.linear(hidden).log_softmax(1),
            copy.deepcopy(plain).double().linear(hidden.double()).log_softmax(1),
        )
    truth_BC = copy.deepcopy(head).double().log_probs(hidden.double(), torch.arange(C))
    # A class may take several products where plain torch takes one, and logits may be larger.
    allowed = 3 * plain_error + 1e-4
    assert distance(best.log_probs, truth_BC.gather(1, best.class_ids)) <= allowed
    assert distance(answers.label_log_probs, truth_BC.gather(1, LABELS[:, None]).squeeze(1)) <= allowed
    # The classes named are the best ones, up to the error.
    assert distance(truth_BC.gather(1, best.class_ids), truth_BC.topk(K).values) <= 2 * allowed


def test_the_loss_of_many_rows_does_not_overflow_in_16_bits(name: str) -> None:
    head, hidden, labels = build(name).half(), HIDDEN.half().repeat(20, 1), LABELS.repeat(20)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter *= 100
    losses_B = loss_of(head, hidden, labels, reduction="none")
    assert losses_B.sum() > torch.finfo(torch.float16).max
    torch.testing.assert_close(loss_of(head, hidden, labels), losses_B.double().mean().float())


# What is refused.


@pytest.mark.parametrize(
    "labels", [LABELS.double(), LABELS > 30, LABELS + 0j], ids=["float", "bool", "complex"]
)
def test_labels_that_are_no_whole_numbers_are_refused(name: str, labels: Tensor) -> None:
    head = build(name)
    several = SeveralLabels(labels, torch.arange(B + 1))
    for given in (labels, several):
        with pytest.raises(ShapeError, match=r"labels must be class ids.*; got torch\."):
            head(HIDDEN, given)
        with pytest.raises(ShapeError, match=r"labels must be class ids.*; got torch\."):
            head.answer(HIDDEN, given, k=1)


@pytest.mark.parametrize("shape", [(B, 1), (1, B), (B - 1,), (1,), ()], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weights_that_are_not_one_a_row_are_refused(
    name: str, reduction: str, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ShapeError, match=rf"sample_weight must be \[{B}\]"):
        build(name)(HIDDEN, LABELS, sample_weight=torch.ones(shape), reduction=reduction)


# Other people's training loops.


def test_sparse_and_dense_gradients_are_the_same(name: str) -> None:
    if not has_sparse_gradients(name):
        head = build(name)
        loss_of(head, HIDDEN, LABELS).backward()
        assert not any(parameter.grad.is_sparse for parameter in head.parameters())
        return
    gradients = []
    for sparse in (True, False):
        head = build(name, sparse=sparse)
        loss_of(head, HIDDEN, LABELS).backward()
        assert any(parameter.grad.is_sparse for parameter in head.parameters()) == sparse
        gradients.append([parameter.grad.to_dense() for parameter in head.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad])
def test_clipped_gradients_and_torch_optimizers(name: str, optimizer: Any) -> None:
    head = build(name)
    steps = optimizer(head.parameters(), lr=0.05)
    before = loss_of(head, HIDDEN, LABELS)
    for _ in range(20):
        steps.zero_grad()
        loss_of(head, HIDDEN, LABELS).backward()
        norm = nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        assert norm.isfinite()
        steps.step()
    assert loss_of(head, HIDDEN, LABELS) < before


@pytest.mark.parametrize("sparse", [False, True])
def test_two_backward_passes_add_up(name: str, sparse: bool) -> None:
    if sparse and not has_sparse_gradients(name):
        pytest.skip("it has no sparse gradients")
    head = build(name, **({"sparse": sparse} if has_sparse_gradients(name) else {}))
    first, second = (HIDDEN[:20], LABELS[:20]), (HIDDEN[20:], LABELS[20:])
    alone = []
    for part in (first, second):
        head.zero_grad()
        loss_of(head, *part).backward()
        alone.append([parameter.grad.to_dense().clone() for parameter in head.parameters()])
    head.zero_grad()
    for part in (first, second):
        loss_of(head, *part).backward()
    for parameter, one, other in zip(head.parameters(), *alone, strict=True):
        torch.testing.assert_close(parameter.grad.to_dense(), one + other)


def test_copies_are_alike_and_apart(name: str) -> None:
    head = build(name)
    loss_of(head, HIDDEN, LABELS).backward()
    other = copy.deepcopy(head)
    assert torch.equal(loss_of(other, HIDDEN, LABELS), loss_of(head, HIDDEN, LABELS))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert not torch.equal(other.logits(HIDDEN), head.logits(HIDDEN))


def test_a_state_fills_another_head(name: str) -> None:
    head, other = build(name), build(name, seed=1)
    head.calibration_temperature.fill_(1.5)
    assert not torch.equal(other.logits(HIDDEN), head.logits(HIDDEN))
    assert other.load_state_dict(head.state_dict()) == ([], [])
    assert torch.equal(other.logits(HIDDEN), head.logits(HIDDEN))


def test_a_head_without_memory_is_filled_later(name: str) -> None:
    head = build(name)
    with torch.device("meta"):
        other = build(name)
    assert all(parameter.is_meta for parameter in other.parameters())
    other.to_empty(device="cpu").load_state_dict(head.state_dict())
    assert torch.equal(other.logits(HIDDEN), head.logits(HIDDEN))
    assert torch.equal(loss_of(other, HIDDEN, LABELS), loss_of(head, HIDDEN, LABELS))
    for parameter, own in zip(
        other.topk(HIDDEN, K).__dict__.values(), head.topk(HIDDEN, K).__dict__.values(), strict=True
    ):
        assert torch.equal(parameter, own)


def test_a_head_without_memory_tells_the_shapes_of_its_answers(name: str) -> None:
    head, hidden = build(name).to("meta"), HIDDEN.to("meta")
    for found, shape in [
        (head.logits(hidden), (B, C)),
        (head.logits(hidden, LABELS.to("meta")), (B, B)),
        (head.topk(hidden, K).class_ids, (B, K)),
        (head.topk(hidden, K).log_probs, (B, K)),
    ]:
        assert found.is_meta
        assert found.shape == shape
    with pytest.raises(ArgumentError, match=r"head.answer needs numbers, which a head on the device meta"):
        head.answer(hidden, LABELS.to("meta"), k=K)


# Two processes, of which one has no rows in the second step.

STEPS = [(slice(0, 40), slice(40, B)), (slice(0, 40), slice(0, 0))]


def gradients_of_ranks(rank: int, folder: str) -> None:
    """What a process of two computes, all heads in turn; run by the test below."""
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    found = {}
    for name in TRAINED:
        model = nn.parallel.DistributedDataParallel(build(name))
        found[name] = []
        for parts in STEPS:
            model.zero_grad()
            model.module.seed(3)
            model(HIDDEN[parts[rank]], LABELS[parts[rank]], reduction="sum").backward()
            found[name].append([parameter.grad.clone() for parameter in model.parameters()])
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_train_as_one(tmp_path: Path, processes: Any) -> None:
    ranks = [processes.Process(target=gradients_of_ranks, args=(rank, str(tmp_path))) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(300)
    assert [rank.exitcode for rank in ranks] == [0, 0]
    of_ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert list(of_ranks[0]) == TRAINED
    for name in TRAINED:
        head = build(name)
        for step, parts in enumerate(STEPS):
            head.zero_grad()
            for part in parts:
                loss_of(head, HIDDEN[part], LABELS[part], reduction="sum").backward()
            for found in of_ranks:
                for one, parameter in zip(found[name][step], head.parameters(), strict=True):
                    torch.testing.assert_close(one, parameter.grad / 2)


# Differentiable logits, and functions that torch traces.


def test_logits_have_the_gradient_of_log_probabilities(name: str) -> None:
    head, hidden = build(name).double(), HIDDEN.double()
    head.calibration_temperature.fill_(2.0)

    def of_label(hidden: Tensor) -> Tensor:
        return head.logits(hidden).log_softmax(1)[:, 7]

    def of_label_alone(hidden: Tensor) -> Tensor:
        return head.logits(hidden, torch.tensor([7])).squeeze(1)

    hidden = hidden[:3].requires_grad_()
    assert torch.autograd.gradcheck(of_label, hidden)
    assert torch.autograd.gradcheck(of_label_alone, hidden)
    head.logits(hidden).sum().backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    assert not head.topk(hidden, 3).log_probs.requires_grad
    assert not head.log_probs(hidden, torch.arange(2)).requires_grad


class Answer(nn.Module):
    """Logits or the top k of a head as tensors."""

    def __init__(self, head: Head, k: int | None) -> None:
        super().__init__()
        self.head, self.k = head, k

    def forward(self, hidden: Tensor) -> tuple[Tensor, ...]:
        if self.k is None:
            return (self.head.logits(hidden),)
        best = self.head.topk(hidden, self.k)
        return best.class_ids, best.logits, best.log_probs


@pytest.mark.parametrize("k", [None, K])
def test_answers_can_be_exported(name: str, k: int | None) -> None:
    head = build(name)
    head.calibration_temperature.fill_(0.5)
    model = Answer(head, k)
    rows = torch.export.Dim("rows", min=2)
    exported = torch.export.export(model, (HIDDEN[:4],), dynamic_shapes={"hidden": {0: rows}})
    for hidden in (HIDDEN, HIDDEN[:2]):
        for one, other in zip(exported.module()(hidden), model(hidden), strict=True):
            torch.testing.assert_close(one, other)


def test_equal_classes_are_exported_in_the_order_of_their_ids(name: str) -> None:
    head = build(name)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
    model = Answer(head, K)
    exported = torch.export.export(model, (HIDDEN,))
    assert torch.equal(exported.module()(HIDDEN)[0], model(HIDDEN)[0])


def compiled_training(name: str, backend: str, *, fullgraph: bool, **options: Any) -> None:
    torch.compiler.reset()
    head, hidden = build(name, **options), HIDDEN.clone().requires_grad_()
    loss = loss_of(head, hidden, LABELS)
    loss.backward()
    expected = [hidden.grad, *(parameter.grad for parameter in head.parameters())]
    head.zero_grad()
    other = HIDDEN.clone().requires_grad_()
    head.seed(3)
    found = torch.compile(head, backend=backend, fullgraph=fullgraph)(other, LABELS)
    torch.testing.assert_close(found, loss)
    found.backward()
    for one, two in zip(
        [other.grad, *(parameter.grad for parameter in head.parameters())], expected, strict=True
    ):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


# torch hides this warning of its own, which an error cannot be hidden.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_head_trains_alike(name: str) -> None:
    compiled_training(name, "aot_eager", fullgraph=name == "exact")


@pytest.mark.parametrize(
    ("loss", "score"),
    [("cross_entropy", "dot"), *((name, "cosface") for name in losses if losses.traits(name).of == "logits")],
)
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_the_exact_head_compiles_into_one_graph_with_every_loss(loss: str, score: str) -> None:
    compiled_training("exact", "eager", fullgraph=True, loss=loss, score=score)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler calls what torch deprecates
def test_a_head_compiled_to_machine_code_trains_alike(name: str) -> None:
    compiled_training(name, "inductor", fullgraph=name == "exact")


# What is printed.


def test_a_head_says_what_it_is(name: str) -> None:
    said = repr(build(name, **({"sparse": True} if has_sparse_gradients(name) else {})))
    first, *_ = said.removeprefix(f"{heads[name].__name__}(").strip().splitlines()
    assert first.rstrip(")") == f"{C} classes, dim {D}"

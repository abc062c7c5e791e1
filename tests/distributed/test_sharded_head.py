"""Over several processes a head has the loss, gradients and steps of one process, and its answers."""

import itertools

import pytest
import torch
from tests.distributed import ranks
from tests.distributed.worlds import Processes

from widemax.distributed import World, sharded_head
from widemax.errors import ConfigError
from widemax.heads import SeveralLabels

LOSSES = {"cross_entropy": False, "binary_cross_entropy": True}


def case(kind="exact", *, num_classes=50, dim=8, num_rows=12, several=False, **rest):
    options = rest.pop("options", {})
    if kind == "sampled":
        options = {"num_sampled": 20, "sampler": "frequency", **options}
    return {
        "kind": kind,
        "num_classes": num_classes,
        "dim": dim,
        "num_rows": num_rows,
        "several": several,
        "options": options,
        **rest,
    }


CASES = {
    **{
        f"exact {loss} {score} {'several' if several else 'one'}": case(
            several=several, options={"loss": loss, "score": score, "temperature": 0.5}
        )
        for loss, score, several in itertools.product(
            LOSSES, ["dot", "cosine", "cosface", "arcface", "adaface"], [False, True]
        )
    },
    "exact smoothed": case(options={"label_smoothing": 0.1}),
    "exact smoothed several": case(several=True, options={"label_smoothing": 0.1}),
    "exact smoothed arcface": case(options={"label_smoothing": 0.1, "score": "arcface", "temperature": 0.1}),
    "exact without bias": case(options={"bias": False}),
    "exact sum": case(reduction="sum"),
    **{
        f"sampled {sampler} {correction} {loss} {'several' if several else 'one'}": case(
            "sampled",
            several=several,
            options={"loss": loss, "correction": correction, "sampler": sampler},
        )
        for sampler, correction, (loss, several) in [
            *itertools.product(
                ["frequency"],
                ["none", "conditional", "importance", "refined"],
                [
                    ("cross_entropy", False),
                    ("cross_entropy", True),
                    ("multi_positive_softmax", True),
                    ("binary_cross_entropy", True),
                ],
            ),
            *itertools.product(
                ["uniform", "log_uniform", "poisson", "in_batch", "cross_batch_queue", "learned_frequency"],
                ["conditional"],
                [("cross_entropy", False)],
            ),
        ]
    },
    **{
        f"sub_center {score} {several}": case(
            "sub_center", several=several, options={"score": score, "temperature": 0.2}
        )
        for score, several in itertools.product(["cosine", "arcface", "adaface"], [False, True])
    },
    "sub_center of 2 classes": case("sub_center", num_classes=2),
    "sampled adaface": case("sampled", options={"score": "adaface", "temperature": 0.1}),
    "sampled arcface sigmoid": case(
        "sampled", several=True, options={"score": "arcface", "loss": "binary_cross_entropy"}
    ),
    "sampled dense": case("sampled", options={"sparse": False}),
    **{
        f"{kind} {num_classes} classes {num_rows} rows": case(
            kind, num_classes=num_classes, num_rows=num_rows
        )
        for kind in ("exact", "sampled")
        for num_classes, num_rows in [(1, 5), (2, 5), (7, 1), (50, 2), (3000, 4)]
    },
    **{
        f"{kind} all rows in the last process": case(
            kind, shares={1: [range(12)], 2: [range(0), range(12)], 3: [range(0), range(0), range(12)]}
        )
        for kind in ("exact", "sampled")
    },
}


def assert_close(actual, expected):
    for name, value in expected.items():
        if isinstance(value, torch.Tensor):
            scale = float(value.abs().max()) if value.numel() else 0.0
            torch.testing.assert_close(actual[name], value, rtol=1e-6, atol=1e-6 * max(scale, 1e-3), msg=name)
        elif isinstance(value, float):
            assert actual[name] == pytest.approx(value, rel=1e-6, abs=1e-6), name
        else:
            assert actual[name] == value, name


EDGES = [
    name
    for name in CASES
    if "classes" in name or "sub_center c" in name or "last process" in name or "smoothed" in name
]


@pytest.mark.parametrize("name", CASES)
def test_loss_gradients_and_step_are_those_of_one_process(worlds, name):
    expected = ranks.train_alone(CASES[name])
    assert_close(ranks.train(World(), CASES[name]), expected)
    for size in (2, 3) if name in EDGES else (2,):
        for found in worlds(size).run(ranks.train, CASES[name]):
            assert_close(found, expected)


@pytest.mark.parametrize("kind", ["exact", "sampled"])
@pytest.mark.parametrize("optimizer", [("lazy_adam", {"weight_decay": 0.1}), ("momentum", {})])
def test_five_steps_of_a_lazy_optimizer(worlds, kind, optimizer):
    some = case(kind, num_classes=40, num_rows=4, optimizer=optimizer, options={})
    expected = ranks.train_alone(some, 5)
    for found in worlds(3).run(ranks.train, some, 5):
        torch.testing.assert_close(found["weight"], expected["weight"], rtol=1e-5, atol=1e-5)


def test_two_runs_are_bitwise_equal(worlds):
    first, second = (worlds(3).run(ranks.train, case("sampled"), 3) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one["weight"], other["weight"])
        assert torch.equal(one["weight"], first[0]["weight"])


@pytest.mark.parametrize("num_classes", [1, 2, 50, 3001])
def test_first_weights_are_those_of_one_process(worlds, num_classes, monkeypatch):
    some = case(num_classes=num_classes, dim=3)
    head, _ = ranks.build(None, some)
    monkeypatch.setattr(sharded_head, "DRAWN_AT_ONCE", 512)
    alone, _ = ranks.build(World(), some)
    assert torch.equal(alone.weight, head.weight)
    for found in worlds(2).run(ranks.first_weights, some):
        assert torch.equal(found, head.weight)


@pytest.mark.parametrize(
    "name", ["exact", "exact of 2 classes", "sampled", "several", "excluded", "sigmoid", "sub_center"]
)
def test_answers_are_those_of_one_process(worlds, name):
    exclude = None
    some = {
        "exact": case(options={"score": "cosine", "temperature": 0.3}),
        "exact of 2 classes": case(num_classes=2),
        "sampled": case("sampled", num_classes=700),
        "several": case(several=True),
        "excluded": case(several=True),
        "sub_center": case("sub_center", several=True),
        "sigmoid": case(several=True, options={"loss": "binary_cross_entropy"}),
    }[name]
    if name == "excluded":
        exclude = SeveralLabels(torch.tensor([0, 3, 4, -1, 49]), torch.tensor([0, 3, *[5] * 11]))
    expected = ranks.answers_alone(some, 5, exclude)
    if name == "sub_center":  # alone its logits are log-probabilities
        expected = {what: value for what, value in expected.items() if "logits" not in what}
        del expected["log_partition"]
    for size in (2, 3):
        for found in worlds(size).run(ranks.answers, some, 5, exclude):
            for what, value in expected.items():
                torch.testing.assert_close(
                    found[what],
                    value,
                    rtol=1e-5,
                    atol=2e-6,
                    equal_nan=True,
                    msg=lambda m, w=what: f"{w}: {m}",
                )


def test_smoothing_over_the_own_classes_alone_is_another_loss(worlds):
    """Megatron's vocab_parallel_cross_entropy takes the mean over the classes of each process."""
    some = case(num_classes=48, options={"label_smoothing": 0.1})
    expected = ranks.train_alone(some)["loss"]
    for wrong, right in zip(
        worlds(2).run(ranks.local_smoothing, some), worlds(2).run(ranks.train, some), strict=True
    ):
        assert right["loss"] == pytest.approx(expected, rel=1e-6)
        assert wrong != pytest.approx(expected, rel=1e-3)


def test_candidates_of_all_parts_are_those_of_one_process(worlds):
    some = case("sampled", num_classes=60)
    expected = ranks.candidates(World(), some, 20)
    parts = worlds(3).run(ranks.candidates, some, 20)
    assert [sorted(itertools.chain(*ids)) for ids in zip(*parts, strict=True)] == expected


def stated_share(inclusion, num_sampled, num_classes):
    """E[times a class is drawn] over what is stated, S/C: 1 where sampling is corrected for rightly."""
    return inclusion / (num_sampled / num_classes)


def test_a_draw_in_every_part_without_correction_breaks_the_law(worlds):
    """Partial FC draws in each shard and forces its labels in: other classes are drawn too rarely there."""
    num_classes, num_sampled, num_draws = 60, 20, 400
    some = case(
        "sampled",
        num_classes=num_classes,
        options={"sampler": {"kind": "uniform", "duplicates": "redraw"}, "num_sampled": num_sampled},
    )
    drawn = [
        list(itertools.chain(*ids))
        for ids in zip(*worlds(2).run(ranks.candidates, some, num_draws), strict=True)
    ]
    ours = sum(class_id in ids for ids in drawn for class_id in range(2, num_classes))
    ours = stated_share(ours / num_draws / (num_classes - 2), num_sampled, num_classes)
    assert ours == pytest.approx(1, abs=0.03)
    # A shard of 30 classes draws 10, of which its labels, here 8, are there in any case.
    partial_fc = stated_share((10 - 8) / (30 - 8), num_sampled, num_classes)
    assert partial_fc < 0.3


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        ("two_level", {}, "the head 'two_level' needs all its weights in one place"),
        ("exact", {"loss": "focal"}, "only the losses 'cross_entropy' and 'binary_cross_entropy'"),
        ("exact", {"skip_mass": 0.1}, "without skip_mass"),
        ("sampled", {"sampler": "midx"}, "reads the weights of all classes"),
        ("sampled", {"sampler": "hard_negatives"}, "reads the weights of all classes"),
        (
            "sampled",
            {"sampler": {"kind": "mixture", "parts": ["uniform", "quadratic_kernel"]}},
            "all classes",
        ),
    ],
)
def test_what_needs_all_weights_is_refused(kind, options, sentence):
    assert sentence in ranks.refused(World(), kind, options)


def test_classes_cannot_change():
    head, _ = ranks.build(World(), case())
    with pytest.raises(ConfigError, match="split over processes"):
        head.extend(2)


@pytest.mark.slow
def test_a_process_takes_no_more_than_a_tenth_above_its_share():
    processes = Processes(2)
    processes.run(ranks.wide_memory, 10_000, 32)  # what a first step loads, whatever the size
    for ratio, _ in processes.run(ranks.wide_memory, 6_000_000, 32):
        assert ratio < 1.1
    processes.stop()

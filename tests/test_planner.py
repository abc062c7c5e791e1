"""The planner: a cost model checked against bytes counted from real heads, and the choices it leads to."""

import json
from pathlib import Path

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from widemax import planner
from widemax.classes import Classes
from widemax.errors import ConfigError, ResourceError
from widemax.heads import heads
from widemax.machine import Machine, machine_file, this_machine
from widemax.optim import optimizers
from widemax.planner import HeadCost, Plan, available_memory, plan

MACHINE = Machine(flops_per_s=5e10, bytes_per_s=1e10)
BASE_BYTES = 300_000_000
ROOMY = 1 << 50


def make_plan(
    num_classes: int,
    *,
    dim: int = 128,
    batch_size: int = 256,
    num_rows: int | None = 1_000_000,
    num_sampled: int | None = None,
    num_labels_per_row: float = 1.0,
    optimizer: str = "rowwise_adagrad",
    encoder_bytes: int = 0,
    available_bytes: int = ROOMY,
    time_limit_s: float | None = None,
    workers: int = 1,
    precision: str = "float32",
) -> Plan:
    return plan(
        num_classes=num_classes,
        dim=dim,
        batch_size=batch_size,
        num_rows=num_rows,
        num_sampled=num_sampled,
        num_labels_per_row=num_labels_per_row,
        optimizer=optimizer,
        encoder_bytes=encoder_bytes,
        machine=MACHINE,
        base_bytes=BASE_BYTES,
        available_bytes=available_bytes,
        time_limit_s=time_limit_s,
        workers=workers,
        precision=precision,
    )


def cost_of(kind: str, result: Plan) -> HeadCost:
    return next(cost for cost in result.costs if cost.kind == kind)


@pytest.mark.parametrize("kind", ["exact", "sampled"])
@pytest.mark.parametrize("name", list(optimizers))
def test_parameters_and_optimizer_state_are_counted_as_the_real_ones(kind: str, name: str) -> None:
    num_classes, dim = 5000, 16
    head = heads[kind](Classes(num_classes, torch.ones(num_classes, dtype=torch.int64)), dim)
    optimizer = optimizers[name](head.parameters(), **({"rowwise": False} if "adagrad" in name else {}))
    head(torch.randn(8, dim), torch.arange(8)).backward()
    optimizer.step()
    assert planner.parameter_bytes(num_classes, dim) == sum(weight.nbytes for weight in head.parameters())
    values = [value for state in optimizer.state.values() for value in state.values()]
    remembered = sum(value.nbytes for value in values if isinstance(value, torch.Tensor))
    assert planner.optimizer_bytes(name, [(num_classes, dim), (num_classes,)]) == remembered


def test_what_the_optimizer_and_the_encoder_take_counts() -> None:
    sizes = {"num_classes": 1_000_000, "dim": 256, "batch_size": 256}
    adagrad, adam = make_plan(**sizes), make_plan(**sizes, optimizer="lazy_adam")
    wider = make_plan(**sizes, encoder_bytes=10**9)
    for small, large, encoder in zip(adagrad.costs, adam.costs, wider.costs, strict=True):
        more = large.peak_memory_bytes - small.peak_memory_bytes
        assert more == pytest.approx(2 * 4 * 256 * 1_000_000, rel=0.03)  # two moments an entry
        assert encoder.peak_memory_bytes == small.peak_memory_bytes + 10**9


def test_a_further_class_costs_its_row_and_for_the_exact_head_its_gradient() -> None:
    dim, more = 64, 10_000_000
    one, two = make_plan(more, dim=dim), make_plan(2 * more, dim=dim)
    row_bytes = 4 * (dim + 1) + 8  # weight, bias and their accumulators

    def growth(kind: str) -> float:
        return (cost_of(kind, two).peak_memory_bytes - cost_of(kind, one).peak_memory_bytes) / more

    assert growth("exact") == pytest.approx(row_bytes + 4 * (dim + 1))
    # The sampler's float64; a few more distinct classes are drawn, too.
    assert growth("sampled") == pytest.approx(row_bytes + 8, rel=1e-3)


def test_a_further_class_in_bfloat16_costs_half_a_row_and_at_the_end_a_whole_one() -> None:
    dim, more = 64, 10_000_000
    half, whole, state = 2 * dim + 4, 4 * dim + 4, 8

    def growth(kind: str, workers: int) -> float:
        one, two = (
            cost_of(kind, make_plan(number, dim=dim, workers=workers, precision="bfloat16"))
            for number in (more, 2 * more)
        )
        return (two.peak_memory_bytes - one.peak_memory_bytes) * workers / more

    # In the step one in float32 for the gradient, and what that is rounded to.
    for workers in (1, 2):
        assert growth("exact", workers) == pytest.approx(half + state + whole + half)
    assert growth("sampled", 1) == pytest.approx(half + whole + 8, rel=1e-3)  # the sampler's float64
    assert growth("sampled", 2) == pytest.approx(half + state + 8 * 2, rel=1e-3)
    narrow = make_plan(1000, dim=8, precision="bfloat16")
    assert narrow == make_plan(1000, dim=8)  # such are held in float32


@given(
    num_classes=st.integers(2, 10**7),
    dim=st.integers(1, 1024),
    batch_size=st.integers(1, 4096),
    grown=st.sampled_from(["dim", "batch_size", "num_sampled", "num_labels_per_row", "num_classes"]),
)
def test_more_of_anything_never_costs_less(num_classes: int, dim: int, batch_size: int, grown: str) -> None:
    sizes = {"dim": dim, "batch_size": batch_size, "num_sampled": 100, "num_labels_per_row": 1}
    small = make_plan(num_classes, **sizes, num_rows=None)
    sizes["num_classes"] = num_classes
    sizes[grown] *= 3
    large = make_plan(sizes.pop("num_classes"), **sizes, num_rows=None)
    for before, after in zip(small.costs, large.costs, strict=True):
        if (
            before.kind == "exact"
            and plain(num_classes, batch_size)
            and grown in ("num_classes", "batch_size")
        ):
            continue  # leaving the plain form for tiles saves memory
        assert after.peak_memory_bytes >= before.peak_memory_bytes
        assert after.step_s >= before.step_s


def plain(num_classes: int, batch_size: int) -> bool:
    return num_classes * batch_size <= planner.PLAIN_ELEMENTS


def test_the_choice_turns_once_from_exact_to_sampled_as_classes_grow() -> None:
    choices = [make_plan(2**power).choice for power in range(1, 25)]
    turn = choices.index("sampled")
    assert choices == ["exact"] * turn + ["sampled"] * (24 - turn)
    assert 2**turn > 1000


def test_few_rows_make_the_exact_head_affordable() -> None:
    assert make_plan(200_000, num_rows=1_000_000).choice == "sampled"
    assert make_plan(200_000, num_rows=2_000).choice == "exact"


def test_a_time_limit_decides_against_the_exact_head() -> None:
    relaxed = make_plan(200_000, num_rows=2_000)
    exact = cost_of("exact", relaxed)
    assert exact.epoch_s is not None
    hurried = make_plan(200_000, num_rows=2_000, time_limit_s=exact.epoch_s * 3.9)
    patient = make_plan(200_000, num_rows=2_000, time_limit_s=exact.epoch_s * 4.1)
    assert (hurried.choice, patient.choice) == ("sampled", "exact")
    assert "3.9 of 8 epochs fit into" in hurried.reason


def test_a_time_limit_chooses_how_many_classes_are_drawn() -> None:
    sizes = {"num_classes": 200_000, "num_rows": 100_000}
    assert make_plan(**sizes).num_sampled == 8192
    for draws in (1024, 2048, 8192):
        epoch_s = cost_of("sampled", make_plan(**sizes, num_sampled=draws)).epoch_s
        assert epoch_s is not None
        assert make_plan(**sizes, time_limit_s=4.01 * epoch_s).num_sampled == draws
    assert make_plan(**sizes, time_limit_s=0.1).num_sampled == planner.LEAST_SAMPLED
    asked = make_plan(**sizes, num_sampled=5000, time_limit_s=1)
    assert asked.num_sampled == 5000
    assert "epochs with 5,000 draws" in asked.reason


def test_the_same_constants_lead_to_the_same_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIDEMAX_CACHE", str(tmp_path))
    kept = this_machine()
    monkeypatch.setattr("widemax.machine.measure_machine", lambda: pytest.fail("measured again"))
    assert this_machine() == kept
    sizes = {"num_classes": 200_000, "dim": 64, "batch_size": 256, "num_rows": 50_000, "base_bytes": 0}
    first = plan(**sizes)
    monkeypatch.setattr(planner, "available_memory", lambda: 2 * 10**9)
    assert plan(**sizes) == first


def test_constants_that_cannot_be_kept_are_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WIDEMAX_CACHE", str(tmp_path / "file" / "below"))
    assert this_machine().flops_per_s > 0
    monkeypatch.setenv("WIDEMAX_CACHE", str(tmp_path))
    machine_file().write_text("{")
    assert this_machine() == this_machine()


def test_a_head_that_finds_no_free_memory_is_refused_and_not_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planner, "available_memory", lambda: 1000)
    with pytest.raises(ResourceError, match=r"the exact head needs .* free now.*head\.kind"):
        plan(num_classes=10, dim=4, batch_size=8, num_rows=100, machine=MACHINE)


def test_memory_decides_where_only_one_head_fits() -> None:
    roomy = make_plan(5_000_000, num_rows=100)
    assert roomy.choice == "exact"
    exact_bytes, sampled_bytes = (cost.peak_memory_bytes for cost in roomy.costs)
    assert sampled_bytes < exact_bytes
    tight = make_plan(5_000_000, num_rows=100, available_bytes=round(exact_bytes * planner.MEMORY_MARGIN) - 1)
    assert (tight.choice, [cost.fits for cost in tight.costs]) == ("sampled", [False, True])
    assert f"{exact_bytes / 1e9:,.2f} GB" in tight.reason

    few_large = {"num_classes": 1000, "dim": 8, "batch_size": 200_000, "num_labels_per_row": 1.0}
    wide_batch = make_plan(**few_large)
    exact_bytes, sampled_bytes = (cost.peak_memory_bytes for cost in wide_batch.costs)
    only_exact = make_plan(**few_large, available_bytes=round(exact_bytes * planner.MEMORY_MARGIN))
    assert (only_exact.choice, cost_of("sampled", only_exact).fits) == ("exact", False)


def test_nothing_fits() -> None:
    with pytest.raises(
        ResourceError, match=r"about .* GB .*sampled head.* of the 1\.00 GB available.*batch_size"
    ):
        make_plan(100_000_000, available_bytes=1_000_000_000)


def test_without_rows_there_is_no_epoch() -> None:
    result = make_plan(1_000_000, num_rows=None)
    assert result.choice == "sampled"
    assert all(cost.epoch_s is None for cost in result.costs)
    assert any("unknown" in line for line in result.lines())


def test_an_epoch_is_its_steps_the_last_short_one_included() -> None:
    for cost in make_plan(1000, num_rows=257, batch_size=256).costs:
        assert cost.epoch_s == 2 * cost.step_s


def test_the_plan_as_json_and_as_lines() -> None:
    result = make_plan(50_000)
    shown = json.loads(json.dumps(result.to_dict()))
    assert list(shown) == ["costs", "choice", "reason", "workers", "own_classes", "exchanged_bytes"]
    assert [list(cost) for cost in shown["costs"]] == [
        ["kind", "peak_memory_bytes", "step_s", "epoch_s", "fits", "num_sampled", "least_workers"]
    ] * 2
    header, exact, sampled, verdict = result.lines()
    assert (header[:4], exact[:5], sampled[:7]) == ("head", "exact", "sampled")
    assert verdict == f"{result.choice}: {result.reason}"
    assert result.reason.endswith(".")


def test_a_faster_machine_is_predicted_to_be_faster() -> None:
    fast = Machine(10 * MACHINE.flops_per_s, 10 * MACHINE.bytes_per_s)
    sizes = {"num_classes": 100_000, "dim": 128, "batch_size": 256, "num_rows": None}
    slow_plan, fast_plan = (
        plan(**sizes, machine=machine, available_bytes=ROOMY) for machine in (MACHINE, fast)
    )
    for slow, quick in zip(slow_plan.costs, fast_plan.costs, strict=True):
        work = slow.step_s - planner.STEP_OVERHEAD_S
        assert quick.step_s - planner.STEP_OVERHEAD_S == pytest.approx(work / 10)


@pytest.mark.parametrize("name", ["num_classes", "dim", "batch_size", "num_sampled"])
def test_sizes_below_one_are_refused(name: str) -> None:
    sizes = {"num_classes": 10, "dim": 4, "batch_size": 8, "num_sampled": 2} | {name: 0}
    with pytest.raises(ConfigError, match=f"{name!r} of plan must be a whole number of at least 1.*; got 0"):
        plan(**sizes, num_rows=None, machine=MACHINE, available_bytes=ROOMY)


def test_the_constants_are_of_a_plausible_machine() -> None:
    machine = this_machine()
    assert 1e8 < machine.flops_per_s < 1e15
    assert 1e7 < machine.bytes_per_s < 1e13


def test_a_plan_measures_what_it_is_not_given() -> None:
    result = plan(num_classes=10, dim=4, batch_size=8, num_rows=100)
    assert result.choice == "exact"


def test_a_container_limits_the_memory_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limited, unlimited = tmp_path / "limited", tmp_path / "unlimited"
    limited.write_text("123456\n")
    unlimited.write_text("max\n")
    monkeypatch.setattr(planner, "CGROUP_LIMITS", (str(tmp_path / "absent"), str(unlimited)))
    assert psutil.Process().memory_info().rss < available_memory() <= psutil.virtual_memory().total * 1.1
    monkeypatch.setattr(planner, "CGROUP_LIMITS", (str(limited), str(unlimited)))
    assert available_memory() == 123456


@pytest.mark.parametrize(("old", "new"), [("Calibration", "Machine"), ("calibrate", "this_machine")])
def test_an_old_name_says_the_new_one(old: str, new: str) -> None:
    with pytest.raises(AttributeError, match=f"widemax.machine.{new} now"):
        getattr(planner, old)


def test_several_processes_share_the_classes() -> None:
    sizes = {"num_classes": 1_000_000, "dim": 64, "batch_size": 512, "num_rows": 10**6, "num_sampled": 4096}
    of = {"machine": MACHINE, "base_bytes": 10**8, "available_bytes": 10**10}
    one, four = (plan(**sizes, **of, workers=workers) for workers in (1, 4))
    assert four.own_classes == 250_000
    assert four.exchanged_bytes == 512 * (2 * 4 * 64 + 40)
    assert one.exchanged_bytes == 0
    for alone, shared in zip(one.costs, four.costs, strict=True):
        assert shared.peak_memory_bytes < alone.peak_memory_bytes
        assert shared.least_workers == alone.least_workers == 1
    assert four.costs[0].step_s == pytest.approx(one.costs[0].step_s / 4, rel=0.1)
    assert "each of 4 processes" in "\n".join(four.lines())


def test_the_fewest_processes_are_those_that_fit() -> None:
    sizes = {"num_classes": 10**7, "dim": 256, "batch_size": 64, "num_rows": None, "num_sampled": 1024}
    of = {"machine": MACHINE, "base_bytes": 10**8, "available_bytes": 8 * 10**9}
    with pytest.raises(ResourceError, match=r"or (\d+) processes on as many machines") as error:
        plan(**sizes, **of)
    least = int(str(error.value).split(" or ")[-1].split()[0])
    assert plan(**sizes, **of, workers=least).costs[1].fits
    with pytest.raises(ResourceError, match="as many machines"):
        plan(**sizes, **of, workers=least - 1)

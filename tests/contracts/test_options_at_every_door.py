"""Every option of every member refuses a wrong word, a number out of range and a wrong type, in Python as in
a config."""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any, Literal, Protocol, get_args, get_origin

import numpy as np
import pandas as pd
import pytest
import torch
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

import widemax
from widemax.auxiliaries import auxiliaries
from widemax.classes import Classes
from widemax.config import Config
from widemax.data import resolve
from widemax.encoders import TextEncoder, encoders
from widemax.errors import OptionError, WidemaxError
from widemax.estimators import SampledSoftmaxClassifier, SoftmaxRegression
from widemax.evaluation import ConfidenceBins, OneLabelRows, evaluate_rows
from widemax.evaluation.calibration import LAC, ConformalSets, PlattScaling
from widemax.heads import heads, scores
from widemax.losses import losses
from widemax.optim import LazyAdam, RowwiseAdagrad, linear_decay, optimizers
from widemax.options import Options
from widemax.registry import Registry
from widemax.samplers import HardNegatives, Mixture, Uniform, build_sampler, samplers

CLASSES = Classes(10, torch.ones(10))
ARGUMENTS = {
    "head": (CLASSES, 4),
    "sampler": (CLASSES,),
    "score": (),
    "optimizer": ([torch.nn.Parameter(torch.ones(3, 2))],),
    "loss": (torch.zeros(2, 3), torch.tensor([0, 1])),
}
ROOMS: list[Registry[Any]] = [heads, samplers, scores, optimizers, losses, auxiliaries, encoders]


def arguments(room: Registry[Any], name: str) -> tuple[Any, ...]:
    """What a member is built with beside its options."""
    if room.noun == "encoder":
        return ([("column", min(encoders[name].kinds))],)
    if room.noun == "auxiliary":
        return (3, 2) if name == "center_loss" else ()
    return ARGUMENTS[room.noun]


def parts(annotation: Any) -> list[Any]:
    """The annotation, and all those it is made of."""
    return [annotation, *(part for inner in get_args(annotation) for part in parts(inner))]


def wrong_values(annotation: Any) -> list[Any]:
    """A wrong type, and where the annotation has words or ranges, a wrong word and numbers beyond."""
    values: list[Any] = [object()]
    if any(get_origin(part) is Literal for part in parts(annotation)) and str not in parts(annotation):
        values.append("no such word")
    for part in parts(annotation):
        if get_origin(part) is not Annotated:
            continue
        for field in get_args(part)[1:]:
            for limit in field.metadata if isinstance(field, FieldInfo) else [field]:
                values += [limit.ge - 1] if isinstance(limit, Ge) else []
                values += [limit.gt, limit.gt - 1] if isinstance(limit, Gt) else []
                values += [limit.le + 1] if isinstance(limit, Le) else []
                values += [limit.lt, limit.lt + 1] if isinstance(limit, Lt) else []
                values.append(float("nan"))
    return values


CASES = [
    pytest.param(
        room, name, option, value, id=f"{name}-{option}-{value if type(value) is not object else 'object'}"
    )
    for room in ROOMS
    for name in room
    for option, parameter in room.options(name).keywords.items()
    for number, value in enumerate(wrong_values(parameter.annotation))
]


@pytest.mark.parametrize(("room", "name", "option", "value"), CASES)
def test_a_wrong_value_is_refused_at_both_doors(
    room: Registry[Any], name: str, option: str, value: Any
) -> None:
    says = f"option '{option}' of {room.noun} '{name}' must be"
    needed = {"norms": torch.ones(2)} if name == "adaface" and room is losses else {}
    with pytest.raises(OptionError, match=says):
        room[name](*arguments(room, name), **(needed | {option: value}))
    with pytest.raises(OptionError, match=says):
        room.options(name).complete(needed | {option: value})


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.noun)
def test_every_option_says_what_it_may_be(room: Registry[Any]) -> None:
    for name in room:
        for option, parameter in room.options(name).keywords.items():
            assert parameter.annotation is not parameter.empty, (name, option)


@pytest.mark.parametrize(
    ("room", "name"), [pytest.param(room, name, id=name) for room in ROOMS for name in room]
)
def test_an_option_that_no_member_has_is_refused(room: Registry[Any], name: str) -> None:
    with pytest.raises(OptionError, match="has no option 'wrong'"):
        room[name](*arguments(room, name), wrong=1)
    with pytest.raises(OptionError, match="has no option 'wrong'"):
        room.options(name).complete({"wrong": 1})


def is_record(member: Any) -> bool:
    """What is given back, and not built: exceptions, protocols, named tuples and the records of an answer."""
    return inspect.isclass(member) and (
        issubclass(member, Exception | tuple)
        or inspect.isabstract(member)
        or Protocol in member.__bases__
        or member.__name__ in ("Outcome", "Prediction", "CalibratedTopK", "PredictionSets", "LAC", "APS")
    )


ROOMS_OF_FUNCTIONS = (
    "widemax",
    "widemax.estimators",
    "widemax.evaluation",
    "widemax.evaluation.calibration",
    "widemax.numerics",
    "widemax.search",
    "widemax.solvers",
)
PUBLIC = {
    f"{room}.{name}": member
    for room in ROOMS_OF_FUNCTIONS
    for name in import_module(room).__all__
    if callable(member := getattr(import_module(room), name)) and not is_record(member)
    if inspect.isfunction(member) or inspect.isclass(member)
    if name not in ("HingeLoss", "Solution")
}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_misspelled_keyword_of_a_public_name_is_refused(name: str) -> None:
    call = PUBLIC[name]
    with pytest.raises(WidemaxError, match="no_such_word"):
        call(no_such_word=1)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_wrong_value_of_a_public_name_is_refused(name: str) -> None:
    options = Options(PUBLIC[name], of=name)
    for option, parameter in options.signature.parameters.items():
        if parameter.annotation is parameter.empty or parameter.kind is parameter.VAR_KEYWORD:
            continue
        for value in wrong_values(parameter.annotation)[1:]:
            with pytest.raises(OptionError, match=f"option '{option}' of .* must be"):
                options.check(option, value)


METHODS = {
    f"{name}.{method}": getattr(member, method)
    for name, member in PUBLIC.items()
    if inspect.isclass(member)
    for method in ("fit", "partial_fit", "predict", "top_k", "topk", "load", "save", "apply", "update")
    if hasattr(member, method) and member.__module__.startswith("widemax")
}


@pytest.mark.parametrize("name", METHODS)
def test_a_misspelled_keyword_of_a_method_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match="has no option 'no_such_word'"):
        METHODS[name](*([object()] if not inspect.ismethod(METHODS[name]) else []), no_such_word=1)


WEIGHT = torch.nn.Parameter(torch.ones(3, 2))
ROWS = {"labels_B": [1], "ranks_B": [1], "log_probs_B": [-0.5], "topk_ids_BK": [[1, 0]]}
ROWS |= {"topk_log_probs_BK": [[-0.5, -1.0]], "square_sums_B": [0.5]}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: RowwiseAdagrad([{"params": [WEIGHT], "lr": -1}]), "'lr' .* at least 0.0; got -1"),
        (lambda: RowwiseAdagrad([{"params": [WEIGHT], "lrr": 1}]), "no option 'lrr'; did you mean 'lr'"),
        (lambda: LazyAdam([{"params": [WEIGHT], "beta1": 5}]), r"'beta1' .* in \[0.0, 1.0\); got 5"),
        (lambda: LazyAdam([WEIGHT], betas=(0.9, 0.99)), "no option 'betas'; give beta1 and beta2"),
        (lambda: RowwiseAdagrad([{"params": [WEIGHT], "lr": 2.0, "weight_decay": 1.0}]), "lr . weight_decay"),
        (lambda: linear_decay(0, 10, warmup=-1), "'warmup' .* at least 0; got -1"),
        (lambda: linear_decay(0, 10.5), "'total_steps' .* whole number"),
        (lambda: ConfidenceBins(0), "'num_bins' .* at least 1; got 0"),
        (
            lambda: Uniform(5).draw(torch.tensor([1]), 0, generator=torch.Generator()),
            "'num_sampled' .* at least 1; got 0",
        ),
        (lambda: Classes(True), "'num' of Classes must be a whole number of at least 1; got True"),
        (lambda: Classes(2.5), "'num' of Classes"),
        (lambda: Classes(3, num_rows=-5), "'num_rows' of Classes"),
        (lambda: Classes(3, "abc"), "'counts' of Classes must be a Tensor or an array of numbers"),
        (lambda: losses.register(3), "'name' of Registry.register must be a string; got 3"),
        (lambda: heads.register("bad")(3), "a head must be a class or function; got 3"),
        (lambda: heads[3], "a head is called by its name; got 3"),
        (lambda: build_sampler({"kind": 3}, 5), "a sampler must be one of .*; got 3"),
        (lambda: build_sampler(3, 5), "'spec' of build_sampler must be"),
        (lambda: Mixture(5, parts=("uniform", 3)), "'parts' of sampler 'mixture' must be a sequence"),
        (lambda: HardNegatives(5, of=int), "'of' of sampler 'hard_negatives' must be"),
        (lambda: TextEncoder([("a", "text")], char_ngrams=(4, 2)), r"char_ngrams must be .*; got \(4, 2\)"),
        (lambda: TextEncoder([]), "columns must name one column or more"),
        (lambda: TextEncoder([("a", "text"), ("a", "text")]), "each once"),
        (lambda: TextEncoder("text"), "columns must be pairs of name and kind"),
        (lambda: ConformalSets.fit([], score="lac", alpha=0.1, num_classes=2), "'score' .* ConformalScore"),
        (lambda: ConformalSets.fit([], score=LAC(), alpha="0.1", num_classes=2), r"'alpha' .* \(0.0, 1.0\)"),
        (lambda: PlattScaling.fit(["a"], [True]), "'scores' .* an array of numbers; got"),
        (lambda: OneLabelRows(**ROWS | {"labels_B": ["a"]}), "'labels_B' .* an array of whole numbers"),
        (
            lambda: evaluate_rows("one", [OneLabelRows(**ROWS)], class_counts=[3], num_rows_train=3),
            "class_counts must have a count for each class; got 1 counts and class id 1",
        ),
        (lambda: SoftmaxRegression(c=1.0), "SoftmaxRegression has no option 'c'"),
        (lambda: SoftmaxRegression(1.0), "SoftmaxRegression takes nothing by position"),
        (lambda: SampledSoftmaxClassifier(sampler="unifrm").fit([[0.0], [1.0]], [0, 1]), "unknown sampler"),
        (lambda: SampledSoftmaxClassifier(sampler=3).fit([[0.0], [1.0]], [0, 1]), "'sampler' .* must be"),
        (lambda: Config(3), "Config takes nothing by position"),
        (lambda: resolve([{"text": "tea"}]), "got {'text': 'tea'}. Make a frame of your rows"),
        (lambda: resolve(pd.Series(["tea"])), "a Series is one column; make it a frame"),
        (lambda: widemax.evaluate(3, []), "'model' of evaluate must be a Model; got 3"),
        (lambda: heads["adaptive"](CLASSES, 4, cutoffs="x" * 10**6), r"got 'x{1,80}\.\.\.x{1,80}'"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(call: Callable[[], Any], says: str) -> None:
    with pytest.raises(WidemaxError, match=says) as caught:
        call()
    assert len(str(caught.value)) < 600


def test_lists_arrays_classes_and_objects_are_taken_for_what_they_are() -> None:
    assert (
        heads["adaptive"](CLASSES, 4, cutoffs=np.array([3])).cutoffs
        == heads["adaptive"](CLASSES, 4, cutoffs=(3,)).cutoffs
    )
    assert Classes(2, [3, 1]).counts.tolist() == [3, 1]
    assert OneLabelRows(**ROWS).topk_ids_BK.shape == (1, 2)
    assert PlattScaling.fit([-1.0, 1.0], [False, True]).slope > 0
    X, y = [[0.0], [1.0]] * 3, [0, 1] * 3
    for sampler in (Uniform, Uniform(2), {"kind": Uniform}):
        assert SampledSoftmaxClassifier(sampler=sampler).fit(X, y).predict([[1.0]]) == [1]
        assert SampledSoftmaxClassifier(sampler=sampler, num_sampled=1).fit(X, y).classes_.size == 2

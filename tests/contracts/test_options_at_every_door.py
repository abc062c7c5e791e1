"""Every option of every member refuses a wrong word, a number out of range and a wrong type, in Python as in
a config."""

from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
import torch
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from widemax.auxiliaries import auxiliaries
from widemax.classes import Classes
from widemax.encoders import encoders
from widemax.errors import OptionError
from widemax.heads import heads, scores
from widemax.losses import losses
from widemax.optim import optimizers
from widemax.registry import Registry
from widemax.samplers import samplers

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
    with pytest.raises(OptionError, match=says):
        room[name](*arguments(room, name), **{option: value})
    needed = {"norms": torch.ones(2)} if name == "adaface" and room is losses else {}
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

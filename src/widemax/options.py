"""Arguments held to the annotations of their signature: one check for calls, constructions and configs."""

import inspect
import json
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from enum import EnumType
from functools import cache, cached_property, partial, wraps
from numbers import Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BeforeValidator, ConfigDict, Field, PlainValidator, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from widemax.errors import OptionError, did_you_mean, nearest, shown

AtLeast1 = Annotated[int, Field(ge=1)]
Member = TypeVar("Member", bound=Callable[..., Any])
Record = TypeVar("Record")

_CONFIG = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)
_WORDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a string",
    dict: "a table",
    Mapping: "a table",
    NoneType: "None",
    Callable: "a function",
}
_ARRAYS = {"bool": ("b", "booleans"), "int64": ("iu", "whole numbers"), "float64": ("iuf", "numbers")}
"""For the dtype that an annotation names, the kinds of those that are taken for it, and these in words."""


class Options:
    """The arguments that a function or class declares: names, defaults, and what values each may have.

    Args:
        call: its signature's annotations are the rule: types, ``Literal`` words, and the ranges of
            ``Annotated[float, Field(gt=0)]``. An argument without an annotation may be anything.
        of: what it is called in messages, such as "loss 'focal'".
        moved: for arguments that it had once, what to write today.

    Example:
        >>> def scaled(x, *, by: Literal["rows", "columns"] = "rows"): ...
        >>> Options(scaled, of="scaled").check("by", "row")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        widemax.errors.OptionError: option 'by' of scaled must be 'rows' or 'columns'; got 'row'; did you ...
    """

    def __init__(self, call: Callable[..., Any], *, of: str, moved: Mapping[str, str] | None = None) -> None:
        self.call = call
        self.of = of
        self.moved = moved or {}
        # For each shape of call that fits (how many by position, which by keyword): checked by position.
        self._positions: dict[tuple[object, ...], list[tuple[int, str]]] = {}

    @cached_property
    def signature(self) -> inspect.Signature:
        """The signature with its annotations evaluated."""
        return inspect.signature(self.call, eval_str=True)

    @cached_property
    def keywords(self) -> dict[str, inspect.Parameter]:
        """The keyword-only parameters: what a config may set."""
        return {
            name: parameter
            for name, parameter in self.signature.parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY
        }

    @cached_property
    def _positional(self) -> list[str]:
        """The names of the parameters that an argument may be given to by position."""
        kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
        return [name for name, parameter in self.signature.parameters.items() if parameter.kind in kinds]

    @cached_property
    def _required(self) -> set[str]:
        return {
            name
            for name, parameter in self.signature.parameters.items()
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        }

    def _takes_any(self, kind: Any) -> bool:
        return any(parameter.kind is kind for parameter in self.signature.parameters.values())

    @cached_property
    def _takes_any_keyword(self) -> bool:
        return self._takes_any(inspect.Parameter.VAR_KEYWORD)

    @cached_property
    def _validate(self) -> dict[str, Callable[..., Any]]:
        forms = {
            name: _form(parameter.annotation)
            for name, parameter in self.signature.parameters.items()
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        }
        return {
            name: TypeAdapter(form, config=_CONFIG).validator.validate_python
            for name, form in forms.items()
            if form is not Any
        }

    def check(self, name: str, value: Any) -> Any:
        """The value of one argument, as its type: a list for a tuple, a NumPy number for a number.

        Raises:
            OptionError: says what the value must be.
        """
        validate = self._validate.get(name)
        if validate is None:
            return value
        try:
            return validate(value, strict=True)
        except ValidationError:
            with suppress(ValidationError):
                return validate(plain(value), strict=True)
        raise OptionError(
            f"option {name!r} of {self.of} {wrong(value, self.signature.parameters[name].annotation)}"
        )

    def check_keywords(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments given by keyword."""
        if not self._takes_any_keyword:
            self._refuse_unknown(given, self.signature.parameters)
        return {name: self.check(name, value) for name, value in given.items()}

    def check_names(self, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        """Refuse a call with an unknown, missing or surplus argument."""
        if not self._takes_any_keyword and not self.signature.parameters.keys() >= keywords.keys():
            self._refuse_unknown(keywords, self.signature.parameters)
        by_position = self._positional[: len(args)]
        if len(args) > len(by_position) and not self._takes_any(inspect.Parameter.VAR_POSITIONAL):
            raise OptionError(self._too_many(len(args)))
        for name in keywords.keys() & by_position:
            raise OptionError(f"option {name!r} of {self.of} is given twice, by position and by keyword.")
        if self._required.difference(by_position, keywords):
            self._refuse_missing(self._required, {*by_position, *keywords})

    def check_call(
        self, args: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """All arguments of a call: those by position, and those by keyword."""
        shape = (len(args), *keywords)
        positions = self._positions.get(shape)
        if positions is None:
            self.check_names(args, keywords)
            names = enumerate(self._positional[: len(args)])
            positions = [(at, name) for at, name in names if name in self._validate]
            if not self._takes_any_keyword:
                self._positions[shape] = positions
        if positions:
            given = list(args)
            for at, name in positions:
                given[at] = self.check(name, given[at])
            args = tuple(given)
        if keywords:
            keywords = {name: self.check(name, value) for name, value in keywords.items()}
        return args, keywords

    def _too_many(self, number: int) -> str:
        names = [name for name in self._positional if name not in ("self", "cls")]
        number -= len(self._positional) - len(names)
        others = f" Pass by keyword: {', '.join(self.keywords)}." if self.keywords else ""
        hint = " ".join(["", *dict.fromkeys(self.moved.values())])
        takes = " and ".join(names) if names else "nothing"
        return f"{self.of} takes {takes} by position; got {number} arguments.{others}{hint}"

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The keyword-only arguments as a config holds them, with their defaults.

        Raises:
            OptionError: one that does not exist, is missing, or has a wrong value.
        """
        self._refuse_unknown(given, self.keywords)
        self._refuse_missing(self._required.intersection(self.keywords), given)
        return {
            name: self.check(name, given[name]) if name in given else parameter.default
            for name, parameter in self.keywords.items()
        }

    def _refuse_missing(self, required: set[str], given: Collection[str]) -> None:
        for name in self.signature.parameters:
            if name in required and name not in given:
                raise OptionError(f"option {name!r} of {self.of} is missing; it has no default.")

    def _refuse_unknown(self, given: Iterable[str], known: Mapping[str, inspect.Parameter]) -> None:
        for name in given:
            if name not in known:
                words = [word for word in known if word not in ("self", "cls")]
                hint = self.moved.get(name) or did_you_mean(name, words)
                raise OptionError(f"{self.of} has no option {name!r}; {hint}")


def checked(member: Member, *, of: str | None = None, moved: Mapping[str, str] | None = None) -> Member:
    """The same class or function, which holds its arguments to their annotations.

    A class does so when it is built. What ``torch.compile`` traces is not checked.

    Raises:
        OptionError: from then on, for an argument that does not exist or has a wrong value.

    Example:
        >>> from pydantic import Field
        >>> @checked
        ... def halved(x: float, *, times: Annotated[int, Field(ge=1)] = 1): ...
        >>> halved(4.0, times=0)
        Traceback (most recent call last):
        widemax.errors.OptionError: option 'times' of halved must be a whole number of at least 1; got 0.
    """
    name = of or member.__qualname__
    is_class = isinstance(member, type)
    target: Any = getattr(member, "__init__") if is_class else member  # noqa: B009 - mypy wants it so
    options = Options(target, of=name, moved=moved)
    # Whoever defines a function to be compiled has imported torch by then.
    is_compiling = getattr(sys.modules.get("torch.compiler"), "is_compiling", bool)

    @wraps(target)
    def call(*args: Any, **keywords: Any) -> Any:
        if not is_compiling():
            args, keywords = options.check_call(args, keywords)
        return target(*args, **keywords)

    if not is_class:
        return call  # type: ignore[return-value]
    setattr(member, "__init__", call)  # noqa: B010 - mypy knows no other way
    return member


def from_json(kind: Callable[..., Record], values: Mapping[str, Any]) -> Record:
    """A dataclass of the values of a JSON object, held to the annotations of its fields.

    Raises:
        ValidationError: one is missing, or of a wrong type or value.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Size:
        ...     rows: int
        >>> from_json(Size, {"rows": 3})
        Size(rows=3)
    """
    found: Record = _adapter(kind).validate_json(json.dumps(values), strict=True)  # a list may be a tuple
    return found


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def wrong(value: Any, annotation: Any) -> str:
    """The end of the sentence that a value is not what an annotation allows.

    Example:
        >>> wrong("row", Literal["rows", "columns"])
        "must be 'rows' or 'columns'; got 'row'; did you mean 'rows'?"
    """
    near = nearest(value, _words(annotation)) if isinstance(value, str) else None
    hint = f"; did you mean {near!r}?" if near else "."
    return f"must be {describe(annotation)}; got {shown(value)}{hint}"


def describe(annotation: Any) -> str:
    """What an annotation allows, in words.

    Example:
        >>> from pydantic import Field
        >>> describe(Annotated[float, Field(ge=0.0, lt=1.0)] | None)
        'a number in [0.0, 1.0) or None'
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return describe(arguments[0]) + _range(arguments[1:])
    if origin is Literal or isinstance(annotation, EnumType):
        return " or ".join(map(repr, arguments or _words(annotation)))
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(describe, arguments)))
    if origin is tuple:
        each = " or ".join(dict.fromkeys(describe(kind) for kind in arguments if kind is not ...))
        return f"a sequence{'' if ... in arguments else f' of {len(arguments)}'} (each {each})"
    if origin in (dict, Mapping) and arguments[1] is not Any:
        return f"a table (each value {describe(arguments[1])})"
    kind = origin or annotation
    name = getattr(kind, "__name__", str(kind))
    if name == "ndarray":
        return f"an array of {_ARRAYS[_dtype(annotation) or 'float64'][1]}"
    if kind is type:
        return f"a class of {describe(arguments[0])}"
    return _WORDS.get(kind) or f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def _form(annotation: Any) -> Any:
    """The annotation as pydantic is to check it: classes by their instances, and Any where it should not.

    An iterable would be checked only while it is read, and as the first form of several; the items of a
    sequence, and what a protocol promises, are for whoever reads them.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    is_protocol = getattr(annotation, "_is_protocol", False) and not annotation._is_runtime_protocol
    is_lazy = is_protocol or isinstance(annotation, TypeVar) or origin in (Iterable, Sequence)
    if is_lazy or annotation in (Any, inspect.Parameter.empty):
        return Any
    if dtype := _dtype(annotation):
        return Annotated[Any, PlainValidator(partial(_as_array, dtype=dtype))]
    if origin in (Union, UnionType):
        forms = tuple(map(_form, arguments))
        return Any if Any in forms else Union[forms]  # noqa: UP007 - of a tuple
    if origin is Annotated or annotation is float:
        inner, *limits = arguments or (float,)
        # pydantic would take a tensor of one number, which would lose its gradient.
        real = [BeforeValidator(_real)] if inner is float else []
        return Annotated[(inner if real else _form(inner), *limits, *real)]
    if origin in (tuple, dict, Mapping):
        return origin[tuple(map(_form, arguments))]
    if isinstance(annotation, EnumType):
        return Annotated[Any, PlainValidator(annotation)]  # which takes the values of its members
    # Of a record pydantic would check the fields.
    if isinstance(annotation, type) and annotation.__module__ != "builtins":
        return Annotated[Any, PlainValidator(partial(_instance, kind=annotation))]
    return annotation


def _real(value: Any) -> Any:
    """The value itself, if it is a real number."""
    if type(value) is not float and not isinstance(value, Real):
        raise ValueError
    return value


def _instance(value: Any, *, kind: type) -> Any:
    """The value itself, if it is of that kind."""
    if not isinstance(value, kind):
        raise ValueError
    return value


def _dtype(annotation: Any) -> str | None:
    """What an ``NDArray[...]`` is to hold; None for any other annotation, and for arrays of anything."""
    if getattr(get_origin(annotation), "__name__", "") != "ndarray":
        return None
    scalar = getattr(get_args(get_args(annotation)[1])[0], "__name__", "").rstrip("_")
    return scalar if scalar in _ARRAYS else None


def _as_array(value: Any, *, dtype: str) -> Any:
    """An array of numbers like those of the dtype."""
    import numpy as np  # which has been imported where there is such an annotation

    array = np.asarray(value)
    if not array.size:
        return array.astype(dtype)
    if array.dtype.kind not in _ARRAYS[dtype][0]:
        raise ValueError
    return array


def _range(metadata: tuple[Any, ...]) -> str:
    limits: dict[str, float] = {}
    for entry in metadata:
        for constraint in entry.metadata if isinstance(entry, FieldInfo) else [entry]:
            limits |= {
                key: getattr(constraint, key) for key in ("ge", "gt", "le", "lt") if hasattr(constraint, key)
            }
    low, high = limits.get("ge", limits.get("gt")), limits.get("le", limits.get("lt"))
    if low is not None and high is not None:
        return f" in {'[' if 'ge' in limits else '('}{low}, {high}{']' if 'le' in limits else ')'}"
    if low is not None:
        return f" of at least {low}" if "ge" in limits else f" above {low}"
    if high is not None:
        return f" of at most {high}" if "le" in limits else f" below {high}"
    return ""


def _words(annotation: Any) -> list[str]:
    """All words that an annotation allows."""
    if isinstance(annotation, EnumType):
        return [str(word.value) for word in list[Any](annotation)]
    if get_origin(annotation) is Literal:
        return [word for word in get_args(annotation) if isinstance(word, str)]
    return [word for part in get_args(annotation) for word in _words(part)]


def plain(value: Any) -> Any:
    """A list as a tuple, and NumPy's numbers and arrays as Python's own.

    Example:
        >>> plain([1, [2.5, "a"]])
        (1, (2.5, 'a'))
    """
    if type(value).__module__ == "numpy":
        value = value.tolist()
    return tuple(map(plain, value)) if isinstance(value, list) else value

"""Arguments held to the annotations of their signature: one check for calls, constructions and configs."""

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from functools import cached_property, wraps
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import SchemaValidator, core_schema

from widemax.errors import OptionError, did_you_mean

Member = TypeVar("Member", bound=Callable[..., Any])

_CONFIG = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)
_WORDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a string",
    tuple: "a sequence",
    dict: "a table",
    NoneType: "None",
    Callable: "a function",
}


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
    def _validate(self) -> dict[str, Callable[..., Any]]:
        return {
            name: _validator(parameter.annotation).validate_python
            for name, parameter in self.signature.parameters.items()
            if parameter.annotation is not parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            and not _is_lazy(parameter.annotation)
        }

    def check(self, name: str, value: Any) -> Any:
        """The value of one argument, as its type: a list for a tuple, a NumPy number for a number.

        Raises:
            OptionError: says what the value must be.
        """
        validate = self._validate.get(name)
        if validate is None:
            return value
        for form in (value, _plain(value)):
            with suppress(ValidationError):
                return validate(form, strict=True)
        annotation = self.signature.parameters[name].annotation
        words = _literals(annotation)
        hint = f"; {did_you_mean(value, words)}" if words and isinstance(value, str) else "."
        raise OptionError(f"option {name!r} of {self.of} must be {describe(annotation)}; got {value!r}{hint}")

    def check_keywords(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments given by keyword."""
        if not self._takes_any:
            self._refuse_unknown(given, self.signature.parameters)
        return {name: self.check(name, value) for name, value in given.items()}

    def check_call(self, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> inspect.BoundArguments:
        """All arguments of a call."""
        if not self._takes_any:
            self._refuse_unknown(keywords, self.signature.parameters)
        try:
            bound = self.signature.bind(*args, **keywords)
        except TypeError as error:
            hint = " ".join(["", *dict.fromkeys(self.moved.values())])
            raise OptionError(f"{self.of}: {error}.{hint}") from None
        for name, value in bound.arguments.items():
            bound.arguments[name] = self.check(name, value)
        return bound

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The keyword-only arguments as a config holds them, with their defaults.

        Raises:
            OptionError: one that does not exist, is missing, or has a wrong value.
        """
        self._refuse_unknown(given, self.keywords)
        for name, parameter in self.keywords.items():
            if parameter.default is parameter.empty and name not in given:
                raise OptionError(f"option {name!r} of {self.of} is missing; it has no default.")
        return {
            name: self.check(name, given[name]) if name in given else parameter.default
            for name, parameter in self.keywords.items()
        }

    def _refuse_unknown(self, given: Iterable[str], known: Mapping[str, inspect.Parameter]) -> None:
        for name in given:
            if name not in known:
                hint = self.moved.get(name) or did_you_mean(name, [word for word in known if word != "self"])
                raise OptionError(f"{self.of} has no option {name!r}; {hint}")

    @cached_property
    def _takes_any(self) -> bool:
        kinds = (parameter.kind for parameter in self.signature.parameters.values())
        return inspect.Parameter.VAR_KEYWORD in kinds


def checked(member: Member, *, of: str | None = None, moved: Mapping[str, str] | None = None) -> Member:
    """The same class or function, which holds its arguments to their annotations.

    A class checks all arguments when it is built, and a method when it is called; a function checks those
    given by keyword, so that a call with tensors alone costs nothing. What ``torch.compile`` traces is not
    checked.

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
    if isinstance(member, type):
        build = member.__init__  # type: ignore[misc]  # replaced by one of the same signature
        options = Options(build, of=name, moved=moved)

        @wraps(build)
        def init(self: Any, *args: Any, **keywords: Any) -> None:
            bound = options.check_call((self, *args), keywords)
            build(*bound.args, **bound.kwargs)

        member.__init__ = init  # type: ignore[misc]
        return member
    # Whoever defines a function to be compiled has imported torch by then.
    is_compiling = getattr(sys.modules.get("torch.compiler"), "is_compiling", bool)
    options = Options(member, of=name, moved=moved)
    is_method = "self" in inspect.signature(member).parameters

    @wraps(member)
    def call(*args: Any, **keywords: Any) -> Any:
        if is_method and not is_compiling():
            bound = options.check_call(args, keywords)
            args, keywords = bound.args, bound.kwargs
        elif keywords and not is_compiling():
            keywords = options.check_keywords(keywords)
        return member(*args, **keywords)

    return call  # type: ignore[return-value]


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
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(describe, arguments)))
    kind = origin or annotation
    return _WORDS.get(kind) or f"a {getattr(kind, '__name__', kind)}"


def _is_lazy(annotation: Any) -> bool:
    """Whether pydantic would check it only while it is read, and as the first form of several."""
    return get_origin(annotation) is Iterable or any(map(_is_lazy, get_args(annotation)))


def _validator(annotation: Any) -> Any:
    """pydantic's check of an annotation; of a dataclass it wants an instance, and not its fields."""
    if is_dataclass(annotation):
        return SchemaValidator(core_schema.is_instance_schema(annotation))
    return TypeAdapter(annotation, config=_CONFIG).validator


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


def _literals(annotation: Any) -> list[str]:
    """All words that an annotation allows."""
    if get_origin(annotation) is Literal:
        return [word for word in get_args(annotation) if isinstance(word, str)]
    return [word for part in get_args(annotation) for word in _literals(part)]


def _plain(value: Any) -> Any:
    """A list as a tuple, and a NumPy number as Python's own."""
    if isinstance(value, list):
        return tuple(map(_plain, value))
    return value.item() if type(value).__module__ == "numpy" and not getattr(value, "ndim", 1) else value

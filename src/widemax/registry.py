"""Strings to members, for the command line and config; Python code imports the member instead."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any, Generic, Self, TypeAlias, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from widemax.errors import ConfigError, UnknownNameError, did_you_mean

T = TypeVar("T", bound=Callable[..., Any])
Member = TypeVar("Member", bound=Callable[..., Any])

Spec: TypeAlias = str | dict[str, Any]
"""A member as a config names it: its name, or a table with its ``kind`` and its options."""


class Registry(Generic[T]):
    """The members of one room by name. The file is the registration.

    Every module of ``package`` is imported at the first look-up, and then every entry point of the group
    named after the package (``widemax.samplers``), so that other distributions can add members.

    Args:
        noun: what a member is called in messages, such as "sampler".
        package: the package whose modules register members.

    Example:
        >>> samplers = Registry("sampler", "widemax.samplers")
        >>> @samplers.register("everything")
        ... class Everything: ...
    """

    def __init__(self, noun: str, package: str) -> None:
        self.noun = noun
        self.package = package
        self._members: dict[str, T] = {}
        self._traits: dict[str, dict[str, Any]] = {}
        self._walked = False

    def register(self, name: str, **traits: Any) -> Callable[[Member], Member]:
        """Decorator that enters a member under ``name``.

        Args:
            name: how the command line and configs call the member.
            traits: what the room wants to know of a member that is a function and has no attributes for it.
        """

        def enter(member: Member) -> Member:
            if self._members.get(name, member) is not member:
                raise ConfigError(f"{self.noun} {name!r} is already registered; give this one another name.")
            self._members[name] = cast(T, member)
            self._traits[name] = traits
            return member

        return enter

    def _walk(self) -> None:
        if self._walked:
            return
        self._walked = True
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__, self.package + "."):
            importlib.import_module(module.name)
        for entry_point in entry_points(group=self.package):
            entry_point.load()

    def names(self) -> list[str]:
        """All names, sorted."""
        self._walk()
        return sorted(self._members)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __getitem__(self, name: str) -> T:
        self._walk()
        try:
            return self._members[name]
        except KeyError:
            raise UnknownNameError(
                f"unknown {self.noun} {name!r}; {did_you_mean(name, self.names())}"
            ) from None

    def traits(self, name: str) -> Mapping[str, Any]:
        """What a member was registered with beside its name."""
        self[name]
        return self._traits[name]

    def options(self, name: str) -> type[BaseModel]:
        """The keyword-only arguments of a member's signature as a strict pydantic model."""
        fields: dict[str, Any] = {
            parameter.name: (
                parameter.annotation,
                ... if parameter.default is parameter.empty else parameter.default,
            )
            for parameter in inspect.signature(self[name], eval_str=True).parameters.values()
            if parameter.kind is parameter.KEYWORD_ONLY
        }
        config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)
        return create_model(f"{name}_options", __config__=config, **fields)

    def choose(self, spec: Spec) -> tuple[str, dict[str, Any]]:
        """Name and completed options of what a config names, plainly or as a table with its ``kind``.

        Raises:
            ConfigError: a table without a kind, or options the member does not have.
            UnknownNameError: no such member.
        """
        if isinstance(spec, str):
            return spec, self.check_options(spec, {})
        if "kind" not in spec:
            raise ConfigError(
                f"the table of a {self.noun} must have a 'kind', one of {self.names()}; got {spec!r}."
            )
        options = dict(spec)
        name = options.pop("kind")
        return name, self.check_options(name, options)

    def check_options(self, name: str, options: dict[str, Any]) -> dict[str, Any]:
        """The options completed with their defaults.

        Raises:
            ConfigError: an option the member does not have, or of the wrong type.
        """
        model = self.options(name)
        for key in options:
            if key not in model.model_fields:
                hint = did_you_mean(key, list(model.model_fields))
                raise ConfigError(f"{self.noun} {name!r} has no option {key!r}; {hint}")
        try:
            return model(**options).model_dump()
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise ConfigError(
                f"option {place!r} of {self.noun} {name!r}: {first['msg']}, got {first.get('input')!r}."
            ) from None


class Described:
    """What members of a room derive from so that their repr can tell the options they were made with."""

    _given: dict[str, Any]

    def __new__(cls, *args: Any, **options: Any) -> Self:
        member = super().__new__(cls)
        member._given = options
        return member

    def described_options(self) -> list[str]:
        """The options that differ from their defaults, as they were written."""
        parameters = inspect.signature(type(self)).parameters.values()
        options = [each for each in parameters if each.kind is each.KEYWORD_ONLY and each.name in self._given]
        return [
            f"{each.name}={_written(self._given[each.name])}"
            for each in options
            if self._given[each.name] != each.default
        ]


def _written(value: Any) -> str:
    return value.__name__ if inspect.isroutine(value) or inspect.isclass(value) else repr(value)

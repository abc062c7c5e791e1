"""Strings to members, for the command line and config; Python code passes the member itself."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from threading import RLock
from typing import Any, Generic, Self, TypeAlias, TypeVar, cast

from widemax.docstrings import complete, inherit
from widemax.errors import ConfigError, OptionError, UnknownNameError, did_you_mean, shown
from widemax.options import Options, checked

T = TypeVar("T", bound=Callable[..., Any])
Member = TypeVar("Member", bound=Callable[..., Any])

NAMES: dict[Any, str] = {}
"""The name of every registered member, for configs, which are text."""

Spec: TypeAlias = str | dict[str, Any]
"""A member as a config names it: its name, or a table with its ``kind`` and its options. In Python the
``kind`` may be the member itself."""


class Registry(Generic[T]):
    """The members of one room by name. The file is the registration.

    A look-up imports the module of ``package`` with the member's name. Where that registers no such member,
    or all names are wanted, every module is imported, and then every entry point of the group named after
    the package (``widemax.samplers``), so that other distributions can add members.

    Args:
        noun: what a member is called in messages, such as "sampler".
        package: the package whose modules register members.
        traits: makes what is kept of the keywords of ``register``, for members that are functions and have
            no attributes to declare anything with.
        moved: for arguments that members had once, what to write today.

    Example:
        >>> samplers = Registry("sampler", "widemax.samplers")
        >>> @samplers.register("everything")
        ... class Everything: ...
    """

    def __init__(
        self,
        noun: str,
        package: str,
        *,
        traits: Callable[..., Any] = dict,
        moved: Mapping[str, str] | None = None,
    ) -> None:
        self.noun = noun
        self.package = package
        self._make_traits = traits
        self._moved = moved
        self._members: dict[str, T] = {}
        self._traits: dict[T, Any] = {}
        self._walked = False
        self._walking = RLock()

    @checked
    def register(self, name: str, **traits: Any) -> Callable[[Member], Member]:
        """Decorator that enters a member under ``name``; from then on its arguments are checked.

        A member of the same module and name is replaced, as when the cell of a notebook runs again.

        Args:
            name: how the command line and configs call the member.
            traits: what a member that is a function declares.

        Raises:
            ConfigError: another member has this name.
            OptionError: a name that is no text, a trait that the room does not know, or something else than a
                class or function.
        """

        declare = self.declare(**traits)

        def enter(member: Member) -> Member:
            if not callable(member):
                raise OptionError(f"a {self.noun} must be a class or function; got {shown(member)}.")
            known = self._members.get(name)
            if known is not None and _home(known) != _home(member):
                raise ConfigError(f"{self.noun} {name!r} is already registered; give this one another name.")
            member = checked(member, of=f"{self.noun} {name!r}", moved=self._moved)
            self._members[name] = cast(T, member)
            NAMES[member] = name
            if isinstance(member, type):
                inherit(member, "Args")
            return declare(member)

        return enter

    def declare(self, **traits: Any) -> Callable[[Member], Member]:
        """Decorator for a member that is passed as itself and needs no name."""
        declared = self._make_traits(**traits)

        def enter(member: Member) -> Member:
            self._traits[cast(T, member)] = declared
            complete(member, getattr(declared, "says", {}))
            return member

        return enter

    def _walk(self) -> None:
        with self._walking:  # another thread waits for all members
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
        if not isinstance(name, str):
            raise OptionError(f"a {self.noun} is called by its name; got {shown(name)}.")
        if not self._walked and name.isidentifier():
            # A member most often has a module of its name, and the others need not be imported for it.
            module = f"{self.package}.{name}"
            if find_spec(module):
                importlib.import_module(module)
        if name not in self._members:
            self._walk()
        try:
            return self._members[name]
        except KeyError:
            raise UnknownNameError(
                f"unknown {self.noun} {name!r}; {did_you_mean(name, self.names())}"
            ) from None

    def traits(self, member: str | T) -> Any:
        """What a member declared when it was registered; the default for one that is not registered."""
        declared = self._traits.get(self[member] if isinstance(member, str) else member)
        return self._make_traits() if declared is None else declared

    def options(self, member: str | T) -> Options:
        """The options of a member, which are the keyword-only arguments of its signature."""
        if isinstance(member, str):
            return Options(self[member], of=f"{self.noun} {member!r}", moved=self._moved)
        return Options(member, of=f"{self.noun} {(NAMES.get(member) or called(member))!r}")

    def choose(self, spec: Spec | T) -> tuple[T, dict[str, Any]]:
        """The member that a spec names, or is, and its completed options.

        Raises:
            ConfigError: a table without a kind.
            OptionError: an option that the member does not have, or a wrong value.
            UnknownNameError: no such member.
        """
        given: Mapping[str, Any] = {}
        if isinstance(spec, Mapping):
            if "kind" not in spec:
                names = self.names()
                raise ConfigError(
                    f"the table of a {self.noun} must have a 'kind', one of {names}; got {shown(spec)}."
                )
            given = {name: value for name, value in spec.items() if name != "kind"}
            spec = spec["kind"]
        if not (isinstance(spec, str) or callable(spec)):
            raise OptionError(
                f"a {self.noun} must be one of {self.names()}, a class or function, or a table of such a "
                f"kind and its options; got {shown(spec)}."
            )
        member: str | T = spec
        options = self.options(member).complete(given)
        return (self[member] if isinstance(member, str) else member), options

    def build(self, spec: Any, *args: Any) -> Any:
        """The object that a spec names, made with ``args`` and its options; an object is itself.

        Example:
            >>> from widemax.samplers import samplers
            >>> samplers.build({"kind": "uniform", "duplicates": "keep"}, 10).duplicates
            'keep'
        """
        if not isinstance(spec, (str, Mapping, type)):
            return spec
        member, options = self.choose(cast("Spec | T", spec))
        return member(*args, **options)


def called(member: Callable[..., Any]) -> str:
    """The name of a function or class, or of an object's class."""
    return str(getattr(member, "__name__", type(member).__name__))


def _home(member: Callable[..., Any]) -> tuple[str, str]:
    return member.__module__, member.__qualname__


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

"""What is computed of a model at the first request that needs it."""

from collections.abc import Callable
from functools import wraps
from threading import RLock
from typing import TypeVar
from weakref import WeakKeyDictionary

Owner = TypeVar("Owner")
Result = TypeVar("Result")


def once(function: Callable[[Owner], Result]) -> Callable[[Owner], Result]:
    """The same function, which computes its result once for an owner, also when several threads ask at once.

    A result is kept as long as its owner lives.

    Example:
        >>> class Model: ...
        >>> @once
        ... def told(model):
        ...     print("computing")
        ...     return "a model"
        >>> model = Model()
        >>> told(model), told(model)
        computing
        ('a model', 'a model')
    """
    results: WeakKeyDictionary[Owner, Result] = WeakKeyDictionary()
    computing = RLock()

    @wraps(function)
    def call(owner: Owner) -> Result:
        if owner not in results:
            with computing:
                if owner not in results:
                    results[owner] = function(owner)
        return results[owner]

    return call

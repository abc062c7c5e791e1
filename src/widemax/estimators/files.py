"""Estimators as folders: arrays in safetensors, everything else in JSON, hashed; loading runs no code."""

import inspect
import json
import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator

from widemax.errors import CorruptError, UsageError
from widemax.estimators.options import check_names
from widemax.options import checked
from widemax.storage import check_folder, read_whole, replacing, writing_tensors

Arrays = dict[str, npt.NDArray[Any]]

_STATE, _ARRAYS = "estimator.json", "arrays.safetensors"


class StoredEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """An estimator that can be saved: its parameters, and its attributes that end in an underscore.

    It and its public methods refuse arguments that they do not have, with the nearest one that they do.
    """

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        for name, member in list(vars(cls).items()):
            if inspect.isfunction(member) and not name.startswith("_"):
                setattr(cls, name, checked(member))

    def __new__(cls, *args: Any, **keywords: Any) -> Self:
        check_names(cls, args, keywords)
        estimator: Self = super().__new__(cls)
        return estimator

    @checked
    def save(self, path: Path | str) -> None:
        """Write the estimator into a folder, atomically; what widemax saved there is replaced.

        Args:
            path: the folder.

        Raises:
            UsageError: the folder holds something else.
            UsageError: a parameter or the classes are of a kind that cannot be written, such as a generator
                as ``random_state`` or an estimator that is not one of widemax.
            ResourceError: the disk is full or the folder cannot be written.
        """
        arrays: Arrays = {}
        state = _encode(self, "", arrays)
        facts = {"estimator": type(self).__name__, "widemax_version": version("widemax")}
        with replacing(Path(path), facts, overwrite=True) as folder:
            with writing_tensors(folder / _ARRAYS):
                save_file(arrays, folder / _ARRAYS)
            text = json.dumps(state, indent=1, ensure_ascii=False, allow_nan=False)
            (folder / _STATE).write_text(text, encoding="utf-8")

    @classmethod
    @checked
    def load(cls, path: Path | str) -> Self:
        """Read what :meth:`save` wrote, after every file's hash was checked.

        Raises:
            CorruptError: a file is missing, altered, or not of this kind.
            UsageError: the folder holds another kind of estimator.
        """
        return read_whole(Path(path), cls._read)

    @classmethod
    def _read(cls, folder: Path) -> Self:
        manifest = check_folder(folder)
        kind = manifest.get("estimator")
        if kind != cls.__name__:
            raise UsageError(
                f"{folder} must hold a {cls.__name__}; it holds {kind!r}. Load it with that class."
            )
        try:
            arrays = load_file(folder / _ARRAYS)
            state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
            estimator: Self = _decode(state, arrays)
        except (OSError, SafetensorError, ValueError, LookupError, TypeError) as error:
            raise CorruptError(f"{folder} does not hold a readable estimator: {error!r}.") from None
        if type(estimator) is not cls:
            raise CorruptError(f"{folder} does not hold a readable estimator but {estimator!r}.")
        return estimator

    def _restored(self) -> None:
        """Make again what is not saved."""


def _encode(value: Any, name: str, arrays: Arrays) -> Any:
    """JSON for a value, whose arrays go into ``arrays`` under names that begin with ``name``."""
    if isinstance(value, np.generic):
        value = value.item()
    if (
        value is None
        or isinstance(value, bool | int | str)
        or (isinstance(value, float) and math.isfinite(value))
    ):
        return value
    if isinstance(value, float):
        return {"float": repr(value)}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        arrays[name] = np.ascontiguousarray(value)
        return {"array": name}
    if isinstance(value, np.ndarray) and value.dtype.kind in "UO":
        return {
            "dtype": value.dtype.str,
            "values": [_encode(entry, name, arrays) for entry in value.tolist()],
        }
    if isinstance(value, list | tuple):
        return [_encode(entry, f"{name}.{place}", arrays) for place, entry in enumerate(value)]
    if isinstance(value, Mapping):
        items = enumerate(value.items())
        pairs = [
            [_encode(key, name, arrays), _encode(entry, f"{name}.{n}", arrays)] for n, (key, entry) in items
        ]
        return {"pairs": pairs}
    if isinstance(value, FrozenEstimator):
        return {"frozen": _encode(value.estimator, name, arrays)}
    if isinstance(value, StoredEstimator):
        fitted = {key: entry for key, entry in vars(value).items() if key.endswith("_") and key[0] != "_"}
        parts = {"params": value.get_params(deep=False), "fitted": fitted}
        state = {
            part: {key: _encode(entry, f"{name}{part}.{key}.", arrays) for key, entry in entries.items()}
            for part, entries in parts.items()
        }
        return {"estimator": type(value).__name__, **state}
    raise UsageError(
        f"{name.strip('.')} must be a number, a text, an array of them or an estimator of widemax; "
        f"got {value!r}. Set another value before you save, or pickle the estimator."
    )


def _decode(code: Any, arrays: Arrays) -> Any:
    if isinstance(code, list):
        return [_decode(entry, arrays) for entry in code]
    if not isinstance(code, dict):
        return code
    if "float" in code:
        return float(code["float"])
    if "array" in code:
        return arrays[code["array"]]
    if "dtype" in code:
        return np.array(_decode(code["values"], arrays), dtype=code["dtype"])
    if "pairs" in code:
        return {_decode(key, arrays): _decode(entry, arrays) for key, entry in code["pairs"]}
    if "frozen" in code:
        return FrozenEstimator(_decode(code["frozen"], arrays))
    kind = _kinds()[code["estimator"]]
    estimator = kind(**{key: _decode(entry, arrays) for key, entry in code["params"].items()})
    for key, entry in code["fitted"].items():
        setattr(estimator, key, _decode(entry, arrays))
    estimator._restored()
    return estimator


def _kinds() -> dict[str, type[StoredEstimator]]:
    """Every estimator that is imported, by the name of its class."""
    kinds, rest = {}, [StoredEstimator]
    while rest:
        found = rest.pop()
        kinds[found.__name__] = found
        rest.extend(found.__subclasses__())
    return kinds

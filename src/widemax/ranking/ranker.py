"""The saved second stage, and how it orders candidates.

::

    manifest.json  weights.safetensors  items.parquet  users.parquet  (where it was given such columns)

Shapes: B queries, K candidates, F features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pyarrow.parquet as pq
import torch
from pydantic import Field

from widemax.artifact import Model
from widemax.artifact.weights import read_tensors, write_tensors
from widemax.errors import ConfigError, CorruptError, UsageError
from widemax.heads import TopK
from widemax.options import AtLeast1, checked, from_json
from widemax.ranking.base import Array, Objective, objectives
from widemax.ranking.columns import Columns
from widemax.ranking.features import Features
from widemax.registry import NAMES
from widemax.signatures import check_signature
from widemax.storage import MANIFEST, check_folder, read_whole, replacing, saving, sound

WEIGHTS = "weights.safetensors"
TABLES = {"items": "items.parquet", "users": "users.parquet"}


@dataclass(frozen=True)
class RankerFacts:
    """What the manifest of a ranker says beside its files."""

    ranker: str
    num_candidates: AtLeast1
    has_times: bool
    features: Annotated[tuple[str, ...], Field(min_length=1)]
    metrics: dict[str, float]
    complete: Literal[True]


@dataclass(frozen=True, eq=False)
class Ranker:
    """Scores w · (x − mean) / scale + b of the candidates of a run on events.

    Args:
        objective: what the score was fitted to.
        num_candidates: how many of the retriever's best are ordered anew.
        features: what x holds.
        weight_F1: w, and b last.
        mean_F, scale_F: of the features in training.
        metrics: what held-out queries gave.

    Example:
        >>> ranker = Ranker.load("ranker")  # doctest: +SKIP
        >>> Recommender(Model.load("run"), ranker=ranker).users([42])  # doctest: +SKIP
    """

    objective: Objective
    num_candidates: int
    features: Features
    weight_F1: Array
    mean_F: Array
    scale_F: Array
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Ranker({self.name!r}, {self.num_candidates} candidates, {len(self.features.names)} features)"

    @property
    def name(self) -> str:
        """The name of its objective.

        Raises:
            ConfigError: it is not registered.
        """
        if type(self.objective) not in NAMES:
            raise ConfigError(
                f"a manifest cannot hold {self.objective!r}: register it, as in @objectives.register('mine')."
            )
        return NAMES[type(self.objective)]

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each feature, one deviation of which it is worth in the score."""
        return dict(zip(self.features.names, self.weight_F1[:-1].tolist(), strict=True))

    def reordered(
        self, model: Model, topk: TopK, histories: Sequence[Sequence[int]], users: Sequence[Any] | None
    ) -> TopK:
        """Candidates by their scores, best first: these are the logits, and ties stay in their order.

        Args:
            model: the retriever.
            topk: its candidates, of which those with a logit of −inf stay excluded.
            histories: class ids, oldest first.
            users: whose they are; None where nobody is known.
        """
        features_BKF = (self.features.of(model, topk, histories, users) - self.mean_F) / self.scale_F
        scores_BK = torch.from_numpy(features_BKF @ self.weight_F1[:-1] + self.weight_F1[-1])
        scores_BK = scores_BK.masked_fill(topk.logits == -torch.inf, -torch.inf)
        scores_BK, order_BK = scores_BK.sort(dim=1, descending=True, stable=True)
        log_probs_BK = self.objective.log_probs(scores_BK)
        return TopK(topk.class_ids.gather(1, order_BK), scores_BK, log_probs_BK)

    @checked
    def save(self, folder: Path | str, *, overwrite: bool = False) -> None:
        """Save the ranker as a folder, whole or not at all.

        Args:
            folder: where; made with its parents.
            overwrite: replace what widemax saved there instead of refusing.

        Raises:
            UsageError: the folder holds something else, or another process writes there.
            ResourceError: the disk is full, or may not be written.
        """
        folder = Path(folder).expanduser()
        facts = {
            "widemax_version": version("widemax"),
            "ranker": self.name,
            "num_candidates": self.num_candidates,
            "has_times": self.features.has_times,
            "features": list(self.features.names),
            "metrics": dict(self.metrics),
            "complete": True,
        }
        with replacing(folder, facts, overwrite=overwrite) as temporary, saving(str(folder)):
            arrays = {"weight": self.weight_F1, "mean": self.mean_F, "scale": self.scale_F}
            tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
            write_tensors(temporary / WEIGHTS, tensors)
            for name, file in TABLES.items():
                if (table := getattr(self.features, name)) is not None:
                    pq.write_table(table.to_table(), temporary / file)

    @classmethod
    @checked
    def load(cls, folder: Path | str, *, trusted_key: Path | str | None = None) -> "Ranker":
        """Load a ranker after checking every hash and shape.

        Args:
            folder: what `widemax rank` wrote.
            trusted_key: a file with an Ed25519 public key in PEM; what its owner has not signed is refused.

        Raises:
            UsageError: there is no such folder, or it holds a run.
            CorruptError: a file is missing, altered, unsafe or disagrees with another; or the signature is.
        """
        folder = Path(folder).expanduser()
        if not folder.is_dir():
            raise UsageError(f"there is no folder {folder}; give the folder that `widemax rank` wrote.")
        return read_whole(folder, partial(cls._read, trusted_key=trusted_key))

    @classmethod
    def _read(cls, folder: Path, *, trusted_key: Path | str | None) -> Self:
        if trusted_key is not None:
            check_signature(folder, trusted_key)
        manifest = check_folder(folder)
        if "ranker" not in manifest:
            raise UsageError(f"{folder} holds no ranker; give the folder that `widemax rank` wrote.")
        with sound(folder / MANIFEST):
            facts = from_json(RankerFacts, manifest)
            objective: Objective = objectives.build(facts.ranker)
        tables = {
            name: Columns.load(folder / file) for name, file in TABLES.items() if file in manifest["files"]
        }
        features = Features(facts.has_times, **tables)
        with sound(folder / MANIFEST):
            if features.names != facts.features:
                raise CorruptError(f"its features must be {list(features.names)}, as the files say")
        tensors = read_tensors(folder / WEIGHTS)
        with sound(folder / WEIGHTS):
            num = len(features.names)
            shapes = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
            if shapes != {name: ((size,), torch.float64) for name, size in _sizes(num).items()}:
                raise CorruptError(f"it must hold float64 {_sizes(num)}; got {shapes}")
            if not (tensors["scale"] > 0).all():
                raise CorruptError("every scale must be above 0")
        weight_F1, mean_F, scale_F = (tensors[name].numpy() for name in _sizes(num))
        return cls(objective, facts.num_candidates, features, weight_F1, mean_F, scale_F, facts.metrics)


def _sizes(num_features: int) -> dict[str, int]:
    return {"weight": num_features + 1, "mean": num_features, "scale": num_features}

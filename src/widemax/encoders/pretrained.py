"""Text as the sentence vectors of a pretrained transformer. Letters: B rows, P tokens, T most tokens a row, V
numbers of a vector."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from hashlib import sha256
from math import sqrt
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import dropout, normalize

from widemax.encoders.base import Encoder, encoders
from widemax.encoders.features import Features, Ragged, Tensors, entry
from widemax.encoders.mlp import MLP
from widemax.errors import ConfigError, ResourceError, reason_of
from widemax.options import AtLeast1
from widemax.storage import sha256 as sha256_of

READ = ("*.json", "*.txt", "*.model", "*.safetensors")
"""The files of a model that are read: no code, and no weights that could run code."""
ROWS_AT_ONCE = 64
_TOKENIZING = Lock()  # a tokenizer changes while it works


@encoders.register("pretrained")
class PretrainedEncoder(Encoder):
    """Text through a pretrained sentence encoder, which stays as it is: hidden = MLP(√V · v / ‖v‖).

    v is the sentence vector of a model of sentence-transformers (``pip install 'widemax[pretrained]'``); of
    several columns they are laid side by side. It is computed once a row, not once an epoch. Beside n-grams,
    choose the encoder "mixed" with the part "pretrained". Of texts longer than the model reads, the start is
    read. The run does not hold the model: it needs the same files where they were, and knows their SHA-256.

    Args:
        columns: (name, kind) of text columns.
        dim: width D of the hidden vector.
        model: a folder as sentence-transformers saves it, or the name of a model of the Hugging Face hub,
            which is fetched when it is not yet in the cache of the hub.
        revision: of a model of the hub: a branch, a tag or a commit.
        hidden: widths of the hidden layers; none makes the encoder linear in v.
        dropout: probability of dropping a number of v, or a hidden unit, in training.

    Raises:
        ResourceError: sentence-transformers is not installed, or the model is not there.
        ConfigError: the folder holds no such model, or its weights as a pickle alone.

    Source: Reimers and Gurevych, "Sentence-BERT: sentence embeddings using Siamese BERT-networks", 2019.

    Example:
        >>> encoder = PretrainedEncoder([("review", "text")], model="all-MiniLM-L6-v2", dim=8)
        >>> encoder.encode({"review": pa.array(["good film"])})["vector"].shape  # doctest: +SKIP
        (1, 384)
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"text"})
    smooths_labels = False  # numbers left out keep it from growing sure of its training rows
    optimizer = "lazy_adam"
    learning_rate = 5e-3

    sha256_H: Tensor

    def __init__(
        self,
        columns: Sequence[tuple[str, str]],
        *,
        dim: AtLeast1 = 256,
        model: str = "sentence-transformers/all-MiniLM-L6-v2",
        revision: str = "main",
        hidden: tuple[AtLeast1, ...] = (),
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5,
    ) -> None:
        super().__init__(columns, dim=dim)
        self.model, self.revision, self.hidden, self.dropout = model, revision, hidden, dropout
        self.mlp = MLP((*hidden, dim), dropout=dropout)
        self.register_buffer("sha256_H", torch.zeros(32, dtype=torch.uint8))

    @cached_property
    def _sentences(self) -> "tuple[Any, bytes]":
        """The model, and the SHA-256 of its files."""
        files = files_of(self.model, revision=self.revision)
        digest = digest_of(files)
        return loaded(self.model, tuple(files.items()), digest), digest

    def featurize(self, columns: Mapping[str, pa.Array]) -> Features:
        return {name: self._tokens(self.column(columns, name)) for name, _ in self.columns}

    def _tokens(self, texts: pa.Array) -> Ragged:
        model, _ = self._sentences
        prompt = model.prompts.get(model.default_prompt_name or "")
        # Some text, as there is no tensor of no texts.
        rows = [*texts.fill_null("").to_pylist(), ""]
        with _TOKENIZING:
            found = model.preprocess(rows, prompt=prompt)
        is_token_BT = found["attention_mask"][:-1].bool()
        ids_P = found["input_ids"][:-1][is_token_BT].numpy()
        offsets_B1 = np.concatenate(([0], is_token_BT.sum(1).cumsum(0).numpy()))
        return Ragged(offsets_B1, ids_P, np.ones(len(ids_P), np.float32))

    def begin(self) -> None: ...

    def observe(self, features: Features) -> None: ...

    def finish(self, *, generator: torch.Generator) -> None:
        model, digest = self._sentences
        self.sha256_H = torch.tensor(list(digest), dtype=torch.uint8)
        self.mlp.initialize(len(self.columns) * model.get_embedding_dimension(), generator=generator)

    def laws(self) -> Iterator[tuple[bool, str]]:
        model, digest = self._sentences
        same = bytes(self.sha256_H.tolist()) == digest
        yield same, f"the SHA-256 of the files of model {self.model!r}, which are others than in training"
        yield from self.mlp.laws(len(self.columns) * model.get_embedding_dimension())

    def prepare(self) -> None: ...

    def index(self, features: Features) -> Features:
        vectors = [self._vectors(entry(features, name, Ragged)) for name, _ in self.columns]
        return {"vector": np.concatenate(vectors, axis=1)}

    @torch.no_grad()
    def _vectors(self, tokens: Ragged) -> npt.NDArray[np.float32]:
        model, _ = self._sentences
        vector_BV = np.empty((len(tokens), model.get_embedding_dimension()), np.float32)
        by_length_B = np.argsort(tokens.lengths, kind="stable")
        for start in range(0, len(tokens), ROWS_AT_ONCE):
            rows = by_length_B[start : start + ROWS_AT_ONCE]
            part = tokens.take(rows)
            is_token_BT = np.arange(part.lengths.max()) < part.lengths[:, None]
            ids_BT = np.full(is_token_BT.shape, model.tokenizer.pad_token_id or 0, np.int64)
            ids_BT[is_token_BT] = part.ids_P
            batch = {"input_ids": ids_BT, "attention_mask": is_token_BT.astype(np.int64)}
            answer = model({name: torch.from_numpy(array) for name, array in batch.items()})
            vector_BV[rows] = normalize(answer["sentence_embedding"].float()) * sqrt(vector_BV.shape[1])
        return vector_BV

    def forward(self, features: Tensors) -> Tensor:
        vector_BV = dropout(entry(features, "vector", Tensor), self.dropout, self.training)
        hidden_BD: Tensor = self.mlp(vector_BV)
        return hidden_BD


def files_of(model: str, *, revision: str) -> dict[str, Path]:
    """The files of a model that are read, by their names in its folder.

    Raises:
        ResourceError: there is no such folder, and the hub gives no such model.
        ConfigError: the folder holds no model, or its weights as a pickle alone.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        folder = fetched(model, revision=revision)
    files = {path.relative_to(folder).as_posix(): path for pattern in READ for path in folder.rglob(pattern)}
    if "modules.json" not in files:
        raise ConfigError(
            f"encoder.model must be a folder as sentence-transformers saves it, with a modules.json; got "
            f"{model!r}."
        )
    if not any(name.endswith(".safetensors") for name in files):
        raise ConfigError(
            f"the weights of encoder.model must be safetensors, since a pickle can run code; {model!r} has "
            "none. Save it again with save_pretrained, which writes them."
        )
    return dict(sorted(files.items()))


def fetched(model: str, *, revision: str) -> Path:
    """The folder of a model of the hub, from its cache or from the net.

    Raises:
        ResourceError: it is in neither.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise missing() from None
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(READ)))
    except Exception as error:  # of many types: no net, no such model, a name that none can have
        raise ResourceError(
            f"there is no folder {model!r}, and the hub gives no model of this name: {reason_of(error)}. "
            "Give encoder.model the folder of a model."
        ) from error


def missing() -> ResourceError:
    """What to do where sentence-transformers is not installed."""
    return ResourceError(
        "encoder 'pretrained' needs sentence-transformers, which is not installed; "
        "pip install 'widemax[pretrained]'."
    )


def digest_of(files: Mapping[str, Path]) -> bytes:
    """The SHA-256 of files and their names."""
    lines = [f"{sha256_of(path)}  {name}\n" for name, path in files.items()]
    return sha256("".join(lines).encode()).digest()


@lru_cache(maxsize=2)
def loaded(model: str, files: tuple[tuple[str, Path], ...], digest: bytes) -> Any:
    """The model of some files, from a folder where nothing else is."""
    try:
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar
    except ImportError:
        raise missing() from None
    disable_progress_bar()
    with TemporaryDirectory() as place:
        for name, path in files:
            link = Path(place, name)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
        try:
            sentences = SentenceTransformer(place, device="cpu", local_files_only=True)
        except Exception as error:  # of many types
            raise ConfigError(f"encoder.model {model!r} cannot be read: {reason_of(error)}.") from error
    return sentences.eval().requires_grad_(False)

"""The saved model: safetensors shards, labels and a manifest with hashes; loading runs no code from it.

::

    config.toml  manifest.json  labels.parquet  rows.parquet  metrics.jsonl  report.html
    weights/encoder.safetensors  weights/head-00000-of-0000N.safetensors  weights/neighbors.safetensors
    histories.parquet  (of a run on events)
    weights/tower.safetensors  (of class weights that a tower has made)
    conformity.safetensors  (of a run with held-out rows)
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import Field
from torch import Tensor, nn

from widemax.artifact.facts import CONFIG, ENCODER, LABELS, Facts, Probability, agree, said_in
from widemax.artifact.tables import read_histories, read_labels, read_row_keys, seen_labels
from widemax.artifact.weights import read_encoder, read_head, read_tensors, write_head, write_tensors
from widemax.classes import Classes, inverse_propensity
from widemax.config import Config, EncoderConfig
from widemax.conformity import Conformity
from widemax.data import (
    HISTORY,
    ArrowStream,
    ClassTable,
    Data,
    Dataset,
    LabelVocabulary,
    Schema,
    columns_of,
    lists,
    plain,
    ragged,
    records_of,
    resolve,
)
from widemax.devices import CPU, device_of
from widemax.encoders import Encoder, encoders, to_tensors
from widemax.encoders.features import Tensors, moved
from widemax.errors import ConfigError, CorruptError, UsageError, counted
from widemax.heads import Answers, CountingHead, Head, Labels, LinearHead, SeveralLabels, TopK, heads
from widemax.neighbors import Neighbors
from widemax.options import AtLeast1, checked
from widemax.packing import Precision, pack
from widemax.signatures import check_signature
from widemax.storage import MANIFEST, check_folder, read_manifest, read_whole, replacing, saving, sound
from widemax.systems import CLASSIFIERS, about
from widemax.task import Task

NEIGHBORS = "weights/neighbors.safetensors"
ROW_KEYS = "rows.parquet"
"""Digests of the training rows, by which evaluation counts rows that stand in training too."""
TOWER = "weights/tower.safetensors"
HISTORIES = "histories.parquet"
"""Users with their items as class ids in order."""
CONFORMITY = "conformity.safetensors"
"""How probable the right labels of held-out rows were."""
Rank = Literal["probability", "psp"]
ROWS_AT_ONCE = 2048
"""Rows of a frame that are predicted together."""


@dataclass(frozen=True)
class Prediction:
    """One ranked answer: the label as it was given in the data, its probability and its logit.

    Where neighbors have a part in the answer, the logit is the logarithm of the probability.
    """

    label: Any
    probability: float
    logit: float


@dataclass(frozen=True)
class Tower:
    """The encoder that class weights are made with, and the columns of the classes that it reads."""

    schema: Schema
    encoder: Encoder


@checked
@dataclass(frozen=True, repr=False, eq=False)
class Model:
    """A trained encoder and head with the labels they speak of, and the neighbors that speak with them.

    ``tower``, where there is one, makes the weights of more classes as it made these (:meth:`extend`).
    ``histories`` is a table of users with their items as class ids, where training has read events.
    ``threshold`` is the probability above which labels had the best F1 on held-out rows, where rows have
    several labels. ``conformity`` says how probable the right labels of held-out rows were, before a second
    fit on all rows.

    Example:
        >>> model = Model.load("run")  # doctest: +SKIP
        >>> model.predict(["what is my balance"], k=1)  # doctest: +SKIP
        [[Prediction(label='balance', probability=0.98, logit=9.1)]]
    """

    config: Config
    schema: Schema
    task: Task
    num_train_rows: int
    vocabulary: LabelVocabulary
    encoder: Encoder
    head: Head
    row_keys: Any = None
    neighbors: Neighbors | None = None
    histories: Any = None
    tower: Tower | None = None
    threshold: float | None = None
    conformity: Conformity | None = None

    def __repr__(self) -> str:
        return "\n  ".join(f"{name:<9}{value}" for name, value in self._summary().items())

    def _repr_html_(self) -> str:
        rows = (
            f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in self._summary().items()
        )
        return f"<table>{''.join(rows)}</table>"

    def _summary(self) -> dict[str, str]:
        """What it is, in three lines."""
        inputs = ", ".join(f"{column.name} ({column.kind})" for column in self.schema.inputs)
        encoder, head = (
            f"{section.kind}, {number:,} parameters"
            for section, number in (
                (self.config.encoder, sum(p.numel() for p in self.encoder.parameters())),
                (self.config.head, self.head.num_parameters),
            )
        )
        kept = {} if self.neighbors is None else {"neighbors": str(self.neighbors)}
        if self.tower is not None:
            columns = (f"{column.name} ({column.kind})" for column in self.tower.schema.inputs)
            kept["tower"] = f"{', '.join(columns)} → class weights"
        if self.histories is not None:
            kept["users"] = f"{len(self.histories):,} with their histories"
        return {
            "Model": f"{inputs} → {self.schema.target}: {counted(len(self.vocabulary), 'class')}, task "
            f"{self.task.value!r}, {counted(self.num_train_rows, 'row')}",
            "encoder": f"{encoder}, hidden vectors of {self.encoder.dim}",
            "head": f"{head}, {self.head.normalizer} probabilities",
            **kept,
        }

    @property
    def device(self) -> torch.device:
        """Where it computes; what it takes and answers is on the CPU."""
        return self.head.device

    @checked
    def to(self, device: torch.device | Literal["auto", "cpu", "cuda"]) -> Self:
        """Move the encoder and the head to where they are to compute, and return the model itself.

        Args:
            device: one of torch; or "cpu", or "cuda", or "auto" for a GPU that is "cuda" where there is one.
                A head that counts stays on the CPU.

        Raises:
            ConfigError: there is no such device here, or the head counts.
        """
        counts = isinstance(self.head, CountingHead)
        if isinstance(device, str):
            device = CPU if device == "auto" and counts else device_of(device)
        if counts and device != CPU:
            kind = self.config.head.kind
            raise ConfigError(
                f"device is {str(device)!r}, but the head {kind!r} answers on the CPU; choose 'cpu'."
            )
        self.encoder.to(device)
        self.head.to(device)
        return self

    @checked
    @torch.no_grad()
    def hidden(self, columns: Mapping[str, pa.Array]) -> Tensor:
        """Hidden vectors [B, D] of raw columns in their canonical Arrow types, on the model's device."""
        self.encoder.eval()
        hidden_BD: Tensor = self.encoder(to_tensors(self.encoder.encode(columns), self.device))
        return hidden_BD

    @torch.no_grad()
    def answer(
        self, features: Tensors, labels: Labels, *, k: int, exclude: SeveralLabels | None = None
    ) -> Answers:
        """The exact answers about encoded rows and their labels, as of :meth:`widemax.heads.Head.answer`."""
        hidden_BD = self.encoder.eval()(moved(features, self.device))
        if self.neighbors is None:
            return self.head.answer(hidden_BD, labels, k=k, exclude=exclude).to(CPU)
        numbers_BN = self.encoder.numbers(features)
        assert numbers_BN is not None
        return self.neighbors.answer(self.head, hidden_BD, numbers_BN, labels, k=k)

    @property
    def excludes_seen(self) -> bool:
        """Whether what already stands in a row's history is not predicted again."""
        return self.task.excludes_seen and not self.config.data.repeat

    @property
    def user_histories(self) -> pa.Table:
        """Users with their histories as the events named them; of a run on events."""
        lengths_U, ids = ragged(plain(self.histories[HISTORY]))
        return self.histories.set_column(1, HISTORY, lists(lengths_U, self.vocabulary.labels.take(ids)))

    def about_users(self, at_B: pa.Array) -> dict[str, pa.Array]:
        """What a table of users said of some, by their places in ``histories``; a null is nobody."""
        columns = self.histories.column_names[2:]
        return {name: plain(self.histories[name]).take(at_B) for name in columns}

    @checked
    def seen_items(self, columns: Mapping[str, pa.Array]) -> SeveralLabels | None:
        """The classes that already stand in each row's histories; None when they may be predicted again."""
        names = [column.name for column in self.schema.inputs if column.kind == "ids"]
        if not self.excludes_seen or not names:
            return None
        # Of events the other columns hold what is known of the users.
        names = names if self.histories is None else [HISTORY]
        return seen_labels(self.vocabulary, [columns[name] for name in names])

    @checked
    def topk(self, columns: Mapping[str, pa.Array], k: AtLeast1) -> TopK:
        """The exact k most probable classes of each row, already seen items left out.

        Raises:
            OptionError: k is no whole number of at least 1.
        """
        if self.neighbors is None:
            return self.head.topk(self.hidden(columns), k, exclude=self.seen_items(columns)).to(CPU)
        features = to_tensors(self.encoder.encode(columns))
        num_rows = len(next(iter(columns.values())))
        no_labels = SeveralLabels(torch.arange(0), torch.zeros(num_rows + 1, dtype=torch.int64))
        return self.answer(features, no_labels, k=k).topk

    @checked
    def useful(self, columns: Mapping[str, pa.Array], k: AtLeast1) -> TopK:
        """The exact k classes of each row whose probability times inverse propensity is largest, best first.

        So many of the most probable classes are looked at that no other can be among them.

        Source: Jain et al., Extreme Multi-label Loss Functions (KDD 2016), sections 3 and 4.

        Raises:
            OptionError: k is no whole number of at least 1.
        """
        worth_C = torch.from_numpy(inverse_propensity(self.vocabulary.counts, self.num_train_rows)).log()
        num_seen = 10 * k
        while True:
            found = self.topk(columns, num_seen)
            ids_BK, log_probs_BK = found.class_ids, found.log_probs
            scores_BK = log_probs_BK + worth_C[ids_BK]
            order_Bk = scores_BK.argsort(dim=1, descending=True, stable=True)[:, :k]
            most_B = log_probs_BK[:, -1] + worth_C.max()
            if num_seen >= self.head.num_classes or (scores_BK.gather(1, order_Bk)[:, -1] >= most_B).all():
                parts = (ids_BK, found.logits, log_probs_BK)
                return TopK(*(part.gather(1, order_Bk) for part in parts))
            num_seen *= 4

    @partial(checked, of="predict")
    def predict(
        self,
        rows: ArrowStream | Mapping[str, Any] | Sequence[Mapping[str, Any] | str],
        *,
        k: AtLeast1 | None = None,
        threshold: Probability | Literal["auto"] | None = None,
        rank: Rank = "probability",
    ) -> list[list[Prediction]]:
        """The k most probable labels of each row, most probable first.

        Args:
            rows: a frame of pandas (2.2 or later) or polars, or a pyarrow table; or a mapping of column name
                to value, or a list with one a row; or a list of texts for a model of one text column. Other
                columns are ignored.
            k: how many labels; all of them when there are fewer. 5, or above a threshold 20 at most, 10 where
                rows have one label.
            threshold: the least probability of labels that are given; "auto", where rows have several, is the
                one whose labels had the best F1 on held-out rows.
            rank: "psp" gives the k labels of the largest probability times inverse propensity, by which rare
                labels are worth more, largest first.

        Raises:
            ArgumentError: rows or k are something else, or another keyword is given.
            UsageError: the threshold is "auto", and none was fitted.
            DataError: a row lacks an input column or holds a value of the wrong kind.
        """
        if hasattr(rows, "__arrow_c_stream__"):
            dataset = Dataset(resolve(rows), replace(self.schema, target=None))
            chunks: Iterable[dict[str, Any]] = (batch.columns for batch in dataset.batches(ROWS_AT_ONCE))
        else:
            chunks = [columns_of(self.schema, records_of(self.schema, rows))]
        k, least = self.limits(k, threshold)
        topk = {"probability": self.topk, "psp": self.useful}[rank]
        return [answer for columns in chunks for answer in self.decode(topk(columns, k), least=least)]

    @checked
    def limits(
        self, k: AtLeast1 | None, threshold: Probability | Literal["auto"] | None
    ) -> tuple[int, float]:
        """How many labels are given at most, and their least probability, as `predict` is asked for them.

        Raises:
            UsageError: the threshold is "auto", and none was fitted.
        """
        if threshold is None:
            return k or 5, 0.0
        if threshold != "auto":
            return k or self.task.k, threshold
        if self.task is not Task.SEVERAL:
            raise UsageError(
                f"a threshold is fitted for rows with several labels, but the task of this model is "
                f"{self.task.value!r}. Give a probability, or choose how many labels by k."
            )
        if self.threshold is None:
            raise UsageError(
                "the model has no fitted threshold, since no rows were held out in training. Give a "
                "probability, or train again with data.valid_fraction above 0."
            )
        return k or self.task.k, self.threshold

    @checked
    def decode(self, topk: TopK, *, least: float = 0.0) -> list[list[Prediction]]:
        """Class ids as labels, without excluded classes (log-probability −inf) and less probable ones."""
        labels = iter(self.vocabulary.decode(topk.class_ids.numpy()))
        answers = [
            [
                Prediction(next(labels), math.exp(log_prob), logit)
                for log_prob, logit in zip(*row, strict=True)
            ]
            for row in zip(topk.log_probs.tolist(), topk.logits.tolist(), strict=True)
        ]
        return [
            [answer for answer in row if answer.logit > -math.inf and answer.probability >= least]
            for row in answers
        ]

    @checked
    @torch.no_grad()
    def extend(self, classes: Data | Iterable[Data]) -> "Model":
        """The same model with more classes, whose weights its tower makes of a table, without training.

        Args:
            classes: the table, or tables, with the columns of the one that the model was trained with; those
                of its labels that are classes already stay as they are.

        Raises:
            DataError: the table lacks a column, or names a label twice.
            UsageError: the model has no tower, or all its classes already.
        """
        if self.tower is None:
            raise UsageError(
                "only a tower makes weights of new classes, and the model has none; train with a table of "
                "classes (--classes), or with head.weight = 'tower'."
            )
        table = ClassTable.read(resolve(classes), self.tower.schema)
        model = replace(self.settled(table), conformity=None)
        if model.head.num_classes == self.head.num_classes:
            raise UsageError(f"all {len(table.labels)} labels of the table are classes of the model already.")
        return model

    @torch.no_grad()
    def settled(self, table: ClassTable) -> "Model":
        """A copy whose class weights are parameters, with the classes of a table that it lacks at the end."""
        assert self.tower is not None
        state = self.head.eval().state_dict()
        own = {name: tensor for name, tensor in state.items() if not name.startswith("parametrizations")}
        head = build_head(self.config, self.vocabulary)
        assert isinstance(head, LinearHead)
        head.load_state_dict({**own, "weight": self.head.weight})
        vocabulary = self.vocabulary.extended(table.labels)
        new = vocabulary.labels[len(self.vocabulary) :]
        if len(new):
            encoder = self.tower.encoder
            weight_ND = encoder(to_tensors(encoder.encode(table.of(new))))
            head.extend(len(new), init=weight_ND, class_counts=torch.from_numpy(vocabulary.counts))
        return replace(self, head=head, vocabulary=vocabulary)

    @checked
    def save(
        self,
        folder: Path | str,
        *,
        overwrite: bool = False,
        precision: Precision = "float32",
        keep: Annotated[float, Field(gt=0, le=1)] = 1.0,
    ) -> None:
        """Save the model as a run folder without checkpoints, whole or not at all.

        Args:
            folder: where; made with its parents.
            overwrite: replace a run that is already there instead of refusing; files that are not of it stay.
            precision: of matrices on the disk; they are float32 again when loaded.
            keep: the share of Σ‖row‖² that stays of each of the encoder's matrices, in 16 or 8 bits: the
                shortest rows become zero and take no room.

        Raises:
            UsageError: the folder holds something else, another process writes there, or the head has other
                classes than the vocabulary.
            ResourceError: the disk is full, or may not be written.
        """
        folder = Path(folder).expanduser()
        if self.head.num_classes != len(self.vocabulary):
            raise UsageError(
                f"the head has {self.head.num_classes} classes, but the vocabulary {len(self.vocabulary)} "
                "labels; build a Model whose vocabulary names each class."
            )
        said = self.facts() | {"metrics": {}, "complete": True, "precision": precision, "keep": keep}
        with replacing(folder, said, overwrite=overwrite) as temporary:
            self.write(temporary, home=folder, precision=precision, keep=keep)

    def facts(self) -> dict[str, Any]:
        """What a manifest says of the model beside its files and what training told."""
        return {
            "widemax_version": version("widemax"),
            "num_classes": self.head.num_classes,
            "dim": self.head.dim,
            "dtype": str(self.head.state_dict()["weight"].dtype).removeprefix("torch."),
            "task": self.task,
            "repeat": self.config.data.repeat,
            "num_train_rows": self.num_train_rows,
            "num_labels": int(self.vocabulary.counts.sum()),
            "neighbors": self.neighbors is not None,
            "tower": None if self.tower is None else self.tower.schema.to_dict(),
            "num_users": None if self.histories is None else len(self.histories),
            "threshold": self.threshold,
            "num_conformity_rows": None if self.conformity is None else self.conformity.num_rows,
            "schema": self.schema.to_dict(),
        }

    def write(self, folder: Path, *, home: Path, precision: Precision = "float32", keep: float = 1.0) -> None:
        """Write the files, without the manifest, into an existing folder that is to stand at ``home``."""
        with saving(str(folder)):
            (folder / "weights").mkdir()
            encoder = pack(self.encoder.state_dict(), precision=precision, keep=keep)
            write_tensors(folder / ENCODER, encoder)
            write_head(folder / "weights", self.head, precision=precision)
            if self.neighbors is not None:
                write_tensors(folder / NEIGHBORS, self.neighbors.state())
            if self.tower is not None:
                write_tensors(folder / TOWER, pack(self.tower.encoder.state_dict(), precision=precision))
            pq.write_table(self.vocabulary.to_table(), folder / LABELS)
            if self.row_keys is not None:
                pq.write_table(pa.table({"key": self.row_keys}), folder / ROW_KEYS, use_dictionary=False)
            if self.histories is not None:
                pq.write_table(self.histories, folder / HISTORIES)
            if self.conformity is not None:
                told = self.conformity.state().items()
                write_tensors(folder / CONFORMITY, {name: torch.from_numpy(array) for name, array in told})
            (folder / CONFIG).write_text(self.config.to_toml(home=home), encoding="utf-8")

    @classmethod
    @checked
    def load(
        cls, folder: Path | str, *, trusted_key: Path | str | None = None, mapped: bool = False
    ) -> "Model":
        """Load a run after checking every hash and shape.

        Args:
            folder: the run.
            trusted_key: a file with an Ed25519 public key in PEM; a run not signed by its owner is refused.
            mapped: whether tensors of more than 16 MiB stay in their files, mapped, unless they were packed
                or a head's take more than one file. It takes less memory, which processes share; but the
                files may be replaced or removed, not written over, while the model lives.

        Raises:
            UsageError: there is no such folder, or no such key.
            CorruptError: a file is missing, altered, unsafe or disagrees with another; or the signature is.
        """
        folder = Path(folder).expanduser()
        if not folder.is_dir():
            raise UsageError(f"there is no folder {folder}; give the folder of a trained or saved model.")
        return read_whole(folder, partial(cls._read, trusted_key=trusted_key, copy=not mapped))

    @classmethod
    def _read(cls, folder: Path, *, trusted_key: Path | str | None, copy: bool) -> "Model":
        if trusted_key is not None:
            check_signature(folder, trusted_key)
        if "ranker" in read_manifest(folder):
            raise UsageError(
                f"{folder} holds a ranker; give a run, as in `widemax recommend RUN --ranker {folder}`."
            )
        found = about(read_manifest(folder).get("task"))
        if found is not CLASSIFIERS:
            raise UsageError(
                f"{folder} holds {found.noun}, which answers `widemax predict`, `evaluate` and `serve`; in "
                f"Python load it with {found.loader}."
            )
        manifest = check_folder(folder, [CONFIG, LABELS, ENCODER])
        facts = Facts.of(folder / MANIFEST, manifest)
        vocabulary = read_labels(folder / LABELS, facts)
        with sound(folder / CONFIG):
            config = Config.load(folder / CONFIG)
            agree(said_in(config, facts))
            with torch.device("meta"):  # restoring gives it weights of the sizes that were saved
                encoder = build_encoder(config.encoder, facts.schema)
            head = build_head(config, vocabulary)
        read_encoder(folder / "weights", encoder, copy=copy)
        with sound(folder / CONFIG):
            if encoder.dim != head.dim:
                raise CorruptError(f"encoder.dim is {encoder.dim}, but head.dim {head.dim}")
        read_head(folder / "weights", head, copy=copy)
        row_keys = neighbors = None
        if ROW_KEYS in manifest["files"]:
            row_keys = read_row_keys(folder / ROW_KEYS, facts)
        has_users = config.data.user is not None or facts.num_users is not None
        own = config.head.weight
        parts = (
            *((facts.neighbors, NEIGHBORS), (has_users, HISTORIES), (own or facts.tower, TOWER)),
            (facts.num_conformity_rows is not None, CONFORMITY),
        )
        for told, name in parts:
            if told and name not in manifest["files"]:
                raise CorruptError(f"{folder / MANIFEST} does not list {name}. Restore both from a copy.")
        if NEIGHBORS in manifest["files"]:
            state = read_tensors(folder / NEIGHBORS)
            with sound(folder / NEIGHBORS):
                neighbors = Neighbors.of_state(state, num_classes=len(vocabulary))
        histories = None
        if HISTORIES in manifest["files"]:
            histories = read_histories(folder / HISTORIES, facts)
        tower = None
        if TOWER in manifest["files"]:
            with sound(folder / CONFIG):
                if own is None or facts.tower is None:
                    raise CorruptError(f"it and {MANIFEST} must tell of the tower of {TOWER}")
                with torch.device("meta"):
                    tower = Tower(facts.tower, build_encoder(own.encoder, facts.tower).eval())
            read_encoder(folder / "weights", tower.encoder, "tower", copy=copy)
        conformity = None
        if facts.num_conformity_rows is not None:
            state = read_tensors(folder / CONFORMITY)
            with sound(folder / CONFORMITY):
                arrays = {name: tensor.numpy() for name, tensor in state.items()}
                conformity = Conformity.of_state(arrays, num_rows=facts.num_conformity_rows)
        model = cls(
            config,
            facts.schema,
            facts.task,
            facts.num_train_rows,
            vocabulary,
            encoder.eval(),
            head.eval(),
            row_keys,
            neighbors,
            histories,
            tower,
            facts.threshold,
            conformity,
        )
        with sound(folder / MANIFEST):
            model._answer_nothing()
        return model

    @torch.no_grad()
    def _answer_nothing(self) -> None:
        """Answer a row without anything in it: parts that do not go together fail here.

        Raises:
            CorruptError: the answer is no number, or the neighbors are of other numbers.
        """
        nothing = {column.name: column.nothing() for column in self.schema.inputs}
        features = to_tensors(self.encoder.encode(nothing))
        if not torch.isfinite(self.head.topk(self.encoder(features), 1).logits).all():
            raise CorruptError("the weights answer with numbers that are not finite")
        if self.neighbors is not None:
            numbers_BN = self.encoder.numbers(features)
            if numbers_BN is None or numbers_BN.shape[1] != len(self.neighbors.spread):
                raise CorruptError(f"{NEIGHBORS} holds rows of other numbers than the encoder reads")
        if self.tower is not None and self.tower.encoder.dim != self.head.dim:
            raise CorruptError(f"{TOWER} makes weights of {self.tower.encoder.dim}, not {self.head.dim}")


def build_encoder(section: EncoderConfig, schema: Schema) -> Encoder:
    """The encoder a completed section names, nothing learned yet."""
    columns = [(column.name, column.kind) for column in schema.inputs]
    return encoders[section.kind](columns, **section.options)


def build_head(
    config: Config,
    vocabulary: LabelVocabulary,
    *,
    num_rows: int | None = None,
    tower: nn.Module | None = None,
) -> Head:
    """The head a completed config names, freshly initialized, its weights made by the tower if any."""
    options = config.head.options
    dim = options.pop("dim")
    classes = Classes(len(vocabulary), torch.from_numpy(vocabulary.counts), num_rows)
    head = heads[config.head.kind](classes, dim, *([] if tower is None else [tower]), **options)
    if tower is not None:
        assert isinstance(head, LinearHead)
        assert config.head.weight is not None
        head.own_weight.requires_grad_(config.head.weight.id)
    return head

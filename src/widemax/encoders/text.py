"""Text as a bag of hashed word and character n-grams with TF-IDF weights."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field
from torch import Tensor, nn

from widemax import native
from widemax.encoders.base import Chunks, Dim, Encoder, encoders
from widemax.encoders.features import (
    Features,
    Int,
    Ragged,
    RaggedTensor,
    Tensors,
    entry,
    interleaved,
    num_rows,
)
from widemax.encoders.keys import KeyIndex, rise
from widemax.encoders.ngrams import count_ngrams
from widemax.errors import ConfigError
from widemax.options import AtLeast1

NgramLength = Annotated[int, Field(ge=1, le=64)]
_WIDEST = 512  # narrower hidden vectors than classes cannot be any logits
MOST_WEIGHTS = 2**27
"""Of a table as wide as the classes are many: 512 MiB."""
_LARGEST_IDF = 45  # 1 + ln 2^63 is less
_LARGEST_SHARPNESS = 3  # 2 / ln 2 is less
_LARGEST_WEIGHT = 100


@encoders.register("text")
class TextEncoder(Encoder):
    """Text as a weighted bag of n-grams: hidden = Σ_g w_g · embedding_g over its n-grams g.

    Within each view (the words of a column, the characters of a column) w_g = (1 + ln tf_g) · idf_g, with
    idf_g = 1 + ln((1 + rows) / (1 + df_g)), divided by the Euclidean length of the view and, of characters,
    times ``char_weight``; then the whole is divided by its own. n-grams are hashed into buckets; those not
    kept from training are left out.

    Where hidden vectors are logits of classes, training may calibrate them by the entropy of their softmax:
    it then fits `sharpness`, and `bias_D`, the logits of a text without n-grams, very low where a column is
    no class.

    Args:
        columns: (name, kind) of text columns.
        dim: width D of the hidden vector; without it training takes the number of classes, up to 512 and
            tables of 512 MiB. "features" for the weights w_g themselves, a sparse vector.
        word_ngrams: longest word n-gram.
        char_ngrams: shortest and longest character n-gram inside words, or () for words only.
        char_weight: the length of a view of characters beside one of words.
        buckets: number of hash values, at most 2^31; the statistics of `fit` take 8 bytes for each.
        min_df: training rows that a bucket must occur in to be kept.
        max_features: buckets kept at most, those of most rows first; the table takes 4 · D bytes for each.
        dropout: probability of leaving an n-gram out in training, so that n-grams do not rely
            on one another.

    Raises:
        ConfigError: character n-grams whose shortest is longer than the longest.

    Source: Joulin et al., "Bag of tricks for efficient text classification", 2017; the weights are those of
    scikit-learn's TfidfVectorizer(sublinear_tf=True). Entropy: Balanya et al., "Adaptive temperature scaling
    for robust calibration of deep neural networks", 2024.

    Example:
        >>> texts = pa.array(["good film", "bad film"])
        >>> encoder = TextEncoder([("review", "text")], dim=8, word_ngrams=1, char_ngrams=())
        >>> encoder.fit([encoder.featurize({"review": texts})], generator=torch.Generator())
        >>> encoder.encode({"review": texts})["bag"].lengths.tolist()
        [2, 2]
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"text"})
    waits = frozenset({"unique", "select"})
    table_name = "weight_FD"
    smooths_labels = False  # n-grams left out keep it from growing sure of its training rows
    operations = 0  # rows of a table are summed
    counted_options: ClassVar[Mapping[str, Any]] = {
        "dim": "features",
        "char_ngrams": (5, 5),
        "char_weight": 0.5,
        "max_features": 1 << 22,
    }

    buckets_F: Tensor
    idf_F: Tensor
    bias_D: Tensor
    sharpness: Tensor

    def __init__(
        self,
        columns: Sequence[tuple[str, str]],
        *,
        dim: Dim = 256,
        word_ngrams: NgramLength = 2,
        char_ngrams: tuple[NgramLength, NgramLength] | tuple[()] = (2, 4),
        char_weight: Annotated[float, Field(gt=0, le=_LARGEST_WEIGHT)] = 1.0,
        buckets: Annotated[int, Field(ge=1, le=1 << 31)] = 1 << 22,
        min_df: AtLeast1 = 1,
        max_features: AtLeast1 = 1 << 19,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5,
    ) -> None:
        super().__init__(columns, dim=dim)
        if char_ngrams and char_ngrams[0] > char_ngrams[1]:
            raise ConfigError(f"char_ngrams must be the shortest, then the longest; got {char_ngrams}.")
        self.word_ngrams, self.char_ngrams, self.char_weight = word_ngrams, char_ngrams, char_weight
        self.buckets, self.min_df, self.max_features, self.dropout = buckets, min_df, max_features, dropout
        self._rows, self._document_frequency = 0, np.zeros(0, dtype=np.int64)
        self.weight_FD = nn.Parameter(torch.empty(0, self.dim))
        self.register_buffer("buckets_F", torch.empty(0, dtype=torch.int64))
        self.register_buffer("idf_F", torch.empty(0))
        self.register_buffer("bias_D", torch.empty(0))
        self.register_buffer("sharpness", torch.zeros(()))

    @property
    def _views(self) -> list[str]:
        kinds = ("words", "chars") if self.char_ngrams else ("words",)
        return [f"{name}:{kind}" for name, _ in self.columns for kind in kinds]

    def featurize(self, columns: Mapping[str, pa.Array]) -> Features:
        features: Features = {}
        for name, _ in self.columns:
            views = count_ngrams(
                self.column(columns, name),
                column=name,
                word_ngrams=self.word_ngrams,
                char_ngrams=self.char_ngrams,
                buckets=self.buckets,
            )
            features |= {f"{name}:{view}": counts for view, counts in views.items()}
        return features

    def begin(self) -> None:
        self._rows, self._document_frequency = 0, np.zeros(self.buckets, dtype=np.int64)

    def observe(self, features: Features) -> None:
        self._rows += num_rows(features)
        for view in self._views:
            np.add.at(self._document_frequency, entry(features, view, Ragged).ids_P, 1)

    def narrow(self, dim: int) -> None:
        num_kept = min(int(np.sum(self._document_frequency >= self.min_df)), self.max_features)
        has_room = dim <= _WIDEST and has_room_for_logits(dim, self._rows, num_kept)
        self.dim = dim if has_room else min(dim, self.dim)

    def finish(self, *, generator: torch.Generator) -> None:
        frequency, self._document_frequency = self._document_frequency, np.zeros(0, dtype=np.int64)
        kept = np.flatnonzero(frequency >= self.min_df)
        if len(kept) > self.max_features:
            most_frequent = np.argsort(-frequency[kept], kind="stable")[: self.max_features]
            kept = np.sort(kept[most_frequent])
        self.buckets_F = torch.from_numpy(kept)
        self.idf_F = inverse_frequency(frequency[kept], self._rows)
        # Zeros: the head starts random, so gradients flow, and n-grams not yet met say nothing.
        self.weight_FD = nn.Parameter(self.rows.zeros(len(kept), self.dim))
        self.bias_D = torch.zeros(self.dim)

    @property
    def table(self) -> Tensor:
        """[F, D] the rows of n-grams, which are summed."""
        return self.weight_FD

    def laws(self) -> Iterator[tuple[bool, str]]:
        in_range = ((self.buckets_F >= 0) & (self.buckets_F < self.buckets)).all()
        yield rise(self.buckets_F) and bool(in_range), f"buckets that rise within [0, {self.buckets})"
        num_buckets = len(self.buckets_F)
        is_whole = len(self.weight_FD) == len(self.rows.place(num_buckets, self.weight_FD.shape[1]))
        yield len(self.idf_F) == num_buckets and is_whole, "an idf and a row for each bucket"
        # A bucket that both views hit in every row is counted twice a row, which makes its idf less than 1.
        yield bool((self.idf_F.abs() < _LARGEST_IDF).all()), f"idf within ±{_LARGEST_IDF}"
        yield len(self.bias_D) == self.weight_FD.shape[1], "a bias for each column"
        yield bool(self.sharpness.abs() <= _LARGEST_SHARPNESS), f"a sharpness within ±{_LARGEST_SHARPNESS}"

    def prepare(self) -> None:
        self._known = KeyIndex(self.buckets_F.cpu().numpy())
        self.dim = self.weight_FD.shape[1] or len(self.weight_FD)

    def index(self, features: Features) -> Features:
        views = [entry(features, view, Ragged) for view in self._views]
        counts = self._known.look_up(interleaved(views))
        bag = Ragged(counts.offsets_B1[:: len(views)], counts.ids_P, 1 + np.log(counts.values_P))
        return {"bag": bag, "lengths": counts.lengths.reshape(-1, len(views))}

    def weigh(self, chunks: Chunks) -> None:
        num_rows, frequency_F = 0, np.zeros(len(self.buckets_F), dtype=np.int64)
        for features in chunks():
            bag = entry(features, "bag", Ragged)
            num_rows += len(bag)
            frequency_F += np.bincount(bag.ids_P, minlength=len(frequency_F))
        self.idf_F = inverse_frequency(frequency_F, num_rows).to(self.idf_F.device)

    def bag(self, features: Tensors, draws_P: Tensor | None = None) -> RaggedTensor:
        """The n-grams of each row with their weights w_g, those alone whose draw is not below ``dropout``."""
        bag, lengths_BV = entry(features, "bag", RaggedTensor), entry(features, "lengths", Tensor)
        scales_V = bag.values.new_ones(lengths_BV.shape[1])
        if self.char_ngrams:
            scales_V[1::2] = self.char_weight
        if native.takes(bag.values, self.idf_F):
            arrays = bag.ids, bag.values, lengths_BV, self.idf_F, scales_V
            return RaggedTensor(*native.bag_weights(*arrays, draws_P, dropout=self.dropout))
        weights_P, lengths_V = bag.values * self.idf_F.index_select(0, bag.ids), lengths_BV.ravel()
        squares_V = torch.segment_reduce(weights_P.square(), "sum", lengths=lengths_V, unsafe=True)
        squares_BV = squares_V.view(lengths_BV.shape)
        scales_BV = (squares_BV > 0) * scales_V  # the length of each view that has anything
        squares_BV *= scales_BV.square().sum(1, keepdim=True)
        scales_BV *= squares_BV.rsqrt().nan_to_num(posinf=0)
        scales_P = scales_BV.ravel().repeat_interleave(lengths_V, output_size=len(bag.ids))
        bag = bag._replace(values=weights_P * scales_P)
        if draws_P is None:
            return bag
        bag = bag.where(draws_P >= self.dropout)
        return bag._replace(values=bag.values / (1 - self.dropout))

    def training_bag(self, features: Tensors) -> RaggedTensor:
        """:meth:`bag` of a training step, which leaves n-grams out by chance."""
        values_P = entry(features, "bag", RaggedTensor).values
        return self.bag(features, torch.rand_like(values_P) if self.dropout else None)

    def forward(self, features: Tensors) -> Tensor:
        bag = self.training_bag(features) if self.training else self.bag(features)
        hidden_BD = self.rows.bag_sum(self.weight_FD, bag)
        return hidden_BD if self.training or not self.sharpness else self.sharpened(hidden_BD)

    def sharpened(self, hidden_BD: Tensor) -> Tensor:
        """Hidden vectors that are logits, times exp(sharpness · H) where their softmax has the entropy H."""
        entropy_B1: Tensor = torch.special.entr((hidden_BD + self.bias_D).softmax(1)).sum(1, keepdim=True)
        return hidden_BD * (self.sharpness * entropy_B1).exp()


def inverse_frequency(frequency_F: Int, num_rows: int) -> Tensor:
    """idf_F of buckets that occur in so many of the rows; 0 of those that occur in none."""
    idf_F = np.log((1 + num_rows) / (1 + frequency_F)) + 1
    return torch.from_numpy(np.where(frequency_F > 0, idf_F, 0).astype(np.float32))


def has_room_for_logits(num_classes: int, num_rows: int, num_features: int) -> bool:
    """Whether a table can be as wide as the classes are many, and linear separators be added to it.

    While they are solved, they have a number for each row and class too.
    """
    return num_classes * max(num_rows, num_features) <= MOST_WEIGHTS

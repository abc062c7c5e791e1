"""Words in their sentence as vectors, and actions in a state as logits.

Shapes: B sentences, N words of the longest, W words of all, D numbers of a vector, S slots, H hidden,
A actions.
"""

import numpy as np
import torch
from torch import Tensor, nn

from widemax.parsing.words import Ints, Words
from widemax.sequences import TransformerLayer

NUM_MASKS = 256
HEAD_DIM = 64


class BiLSTM(nn.Module):
    """Two LSTMs a layer, one from each end of every sentence.

    What stands behind a short sentence of a batch changes nothing, as each direction reads the words first.
    Plain LSTMs over such columns take half the time on a CPU that one over packed sequences does.

    Source: Graves and Schmidhuber, "Framewise Phoneme Classification with Bidirectional LSTM and Other Neural
    Network Architectures" (Neural Networks 18, 2005), §2.
    """

    def __init__(self, dim: int, hidden: int, *, layers: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.dim = 2 * hidden if layers else dim
        dims = [dim, *[2 * hidden] * (layers - 1)][:layers]
        self.forwards = nn.ModuleList(nn.LSTM(each, hidden) for each in dims)
        self.backwards = nn.ModuleList(nn.LSTM(each, hidden) for each in dims)

    def forward(self, words_NBD: Tensor, lengths_B: Ints) -> list[Tensor]:
        """The vectors that go in and those of each layer; [N, B, D] each, a sentence a column."""
        N, B, _ = words_NBD.shape
        n_N1 = np.arange(N)[:, None]
        back_NB = np.where(n_N1 < lengths_B, lengths_B - 1 - n_N1, n_N1)
        reversed_P = torch.from_numpy((back_NB * B + np.arange(B)).ravel())
        outputs = [words_NBD]
        for forwards, backwards in zip(self.forwards, self.backwards, strict=True):
            words_NBD = drop(outputs[-1], self.dropout if self.training else 0.0)
            there_NBD, _ = forwards(words_NBD)
            back_NBD, _ = backwards(words_NBD.flatten(0, 1)[reversed_P].view_as(words_NBD))
            back_NBD = back_NBD.flatten(0, 1)[reversed_P].view_as(there_NBD)
            outputs.append(torch.cat([there_NBD, back_NBD], dim=2))
        return outputs


class Attention(nn.Module):
    """Words that look at all words of their sentence, layer by layer.

    What comes in is mapped to 2 H numbers, as many as two LSTMs give.

    Source: Vaswani et al., "Attention Is All You Need" (NeurIPS 2017), with positions turned into distances.
    """

    def __init__(self, dim: int, hidden: int, *, layers: int, dropout: float) -> None:
        super().__init__()
        self.dim = 2 * hidden if layers else dim
        self.start = nn.Linear(dim, self.dim) if layers else nn.Identity()
        num_heads = max(1, self.dim // HEAD_DIM)
        self.layers = nn.ModuleList(
            TransformerLayer(self.dim, num_heads, head_dim=HEAD_DIM, rate=dropout, rotary=True)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(self.dim)

    def forward(self, words_NBD: Tensor, lengths_B: Ints) -> list[Tensor]:
        """The vectors that go in and those of each layer; [N, B, D] each, a sentence a column."""
        is_word_BN = torch.arange(len(words_NBD)) < torch.from_numpy(lengths_B)[:, None]
        words_BND = self.start(words_NBD).transpose(0, 1)
        outputs = [words_NBD]
        for layer in self.layers:
            words_BND = layer(words_BND, where=None if is_word_BN.all() else is_word_BN)
            outputs.append(self.norm(words_BND).transpose(0, 1))
        return outputs


def drop(words_NBD: Tensor, p: float) -> Tensor:
    """Dropout with one mask for all words of a sentence.

    Source: Gal and Ghahramani, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks"
    (NeurIPS 2016).
    """
    if p == 0:
        return words_NBD
    return words_NBD * ((torch.rand(1, *words_NBD.shape[1:]) >= p) / (1 - p))


ENCODERS: dict[str, type[BiLSTM | Attention]] = {"lstm": BiLSTM, "transformer": Attention}


class Scorer(nn.Module):
    """Logits of all actions from the words in the slots of a state.

    h = relu(Σ_s W_s x_s + V_s r_s + b), logits = U h + c, of the vectors x of the words in the slots and, in
    slots of dependents, their relations r. W_s x is computed once a word, so that a state costs a sum of S
    vectors and one product with the actions' weights.

    Source: Kiperwasser and Goldberg, "Simple and Accurate Dependency Parsing Using Bidirectional LSTM Feature
    Representations" (TACL 2016), §4.1; Chen and Manning (EMNLP 2014), §3.2, precompute likewise.
    """

    def __init__(
        self,
        *,
        num_forms: int,
        num_tags: int,
        buckets: int,
        num_slots: int,
        num_actions: int,
        num_relations: int,
        encoder: str,
        tag_sizes: tuple[int, ...],
        form_dim: int,
        tag_dim: int,
        layers: int,
        hidden: int,
        action_dim: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.dropout, self.num_slots = dropout, num_slots
        self.form = nn.Embedding(num_forms + 1, form_dim)
        self.ngram = nn.EmbeddingBag(buckets, form_dim, mode="mean")
        self.tag = nn.EmbeddingBag(num_tags + 1, tag_dim, mode="sum") if num_tags else None
        for table, std in ((self.form, 0.3), (self.ngram, 0.5), (self.tag, 0.3)):
            if table is not None:
                nn.init.normal_(table.weight, std=std)
        dim = 2 * form_dim + (tag_dim if num_tags else 0)
        self.encoder = ENCODERS[encoder](dim, hidden, layers=layers, dropout=dropout)
        # What names tags that are read must not see them.
        self.untagged = (
            BiLSTM(2 * form_dim, hidden, layers=1, dropout=dropout) if num_tags and tag_sizes else None
        )
        self.slots = nn.Linear(self.encoder.dim, num_slots * action_dim, bias=False)
        # What stands in a slot with the root, and in one with no word.
        self.special = nn.Parameter(torch.zeros(2, num_slots * action_dim))
        self.relation = nn.Embedding(num_relations * num_slots, action_dim) if num_relations else None
        if self.relation is not None:
            nn.init.zeros_(self.relation.weight)
        self.bias = nn.Parameter(torch.zeros(action_dim))
        self.actions = nn.Linear(action_dim, num_actions)
        named_dim = self.encoder.dim if self.untagged is None else self.untagged.dim
        self.taggers = nn.ModuleList(nn.Linear(named_dim, size) for size in tag_sizes)

    def encode(self, words: Words) -> tuple[Tensor, Tensor]:
        """What words add in each slot, the root and no word last [W + 2, S, H]; what taggers read [W, D]."""
        forms_WD = self._forms(words)
        vectors_WD = forms_WD
        if self.tag is not None:
            tags_WD = self.tag(torch.from_numpy(words.tags_P), torch.from_numpy(words.tag_starts_W))
            vectors_WD = torch.cat([forms_WD, tags_WD], dim=1)
        last_WD, named_WD = self._read(self.encoder, vectors_WD, words)
        slots_WH = torch.cat([self.slots(last_WD), self.special])
        if self.untagged is not None:
            named_WD, _ = self._read(self.untagged, forms_WD, words)
        return slots_WH.view(len(slots_WH), self.num_slots, -1), named_WD

    def tags(self, words: Words) -> list[Tensor]:
        """[W] ids of the tags that each tagger names, without a look at those of the words.

        Raises:
            ValueError: this network reads no tags.
        """
        if self.untagged is None:
            raise ValueError("a network that reads no tags names them in training alone.")
        named_WD, _ = self._read(self.untagged, self._forms(words), words)
        return [tagger(named_WD).argmax(1) for tagger in self.taggers]

    def _forms(self, words: Words) -> Tensor:
        """[W, D] vectors of known forms and of their n-grams."""
        grams_UD = self.ngram(torch.from_numpy(words.ngrams_P), torch.from_numpy(words.ngram_starts_U))
        parts = self.form(torch.from_numpy(words.form_W)), grams_UD[torch.from_numpy(words.distinct_W)]
        return torch.cat(parts, dim=1)

    def _read(self, encoder: BiLSTM | Attention, vectors_WD: Tensor, words: Words) -> tuple[Tensor, Tensor]:
        """What the last and the first layer of an encoder make of words in their sentences; [W, D] both."""
        lengths_B = words.lengths_B
        N, B = int(lengths_B.max()), len(lengths_B)
        column_W = np.repeat(np.arange(B), lengths_B)
        place_W = np.arange(len(column_W)) - np.repeat(np.cumsum(lengths_B) - lengths_B, lengths_B)
        flat_W = torch.from_numpy(place_W * B + column_W)
        columns_PD = vectors_WD.new_zeros(N * B, vectors_WD.shape[1]).index_copy(0, flat_W, vectors_WD)
        p = self.dropout if self.training else 0.0
        outputs = encoder(columns_PD.view(N, B, -1), lengths_B)
        last_NBD, first_NBD = drop(outputs[-1], p), drop(outputs[min(1, len(outputs) - 1)], p)
        return last_NBD.flatten(0, 1)[flat_W], first_NBD.flatten(0, 1)[flat_W]

    def forward(self, slots_WSH: Tensor, places_BS: Tensor, relations_BS: Tensor | None) -> Tensor:
        """[B, A] logits of states.

        Args:
            slots_WSH: of :meth:`encode`.
            places_BS: which of the W + 2 stands in each slot.
            relations_BS: the relation of the word in each slot to its head, 0 for none; where slots have
                dependents.
        """
        W, S, H = slots_WSH.shape
        each_S = torch.arange(S)
        sums_BH = nn.functional.embedding_bag(places_BS * S + each_S, slots_WSH.reshape(W * S, H), mode="sum")
        if self.relation is not None and relations_BS is not None:
            ids_BS = relations_BS * S + each_S
            sums_BH = sums_BH + nn.functional.embedding_bag(ids_BS, self.relation.weight, mode="sum")
        hidden_BH = nn.functional.relu(sums_BH + self.bias)
        if self.training:
            # One of a few masks for each state, a tenth of the time of a mask of its own.
            kept_MH = (torch.rand(NUM_MASKS, H) >= self.dropout) / (1 - self.dropout)
            hidden_BH = hidden_BH * kept_MH[torch.randint(NUM_MASKS, (len(hidden_BH),))]
        logits_BA: Tensor = self.actions(hidden_BH)
        return logits_BA

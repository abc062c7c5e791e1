"""What moved an answer: words of a text exactly where they add up, else words or columns by leaving each out.

Shapes: B rows, P n-grams, D hidden.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from widemax.artifact import Model
from widemax.data import columns_of
from widemax.encoders import Ragged, RaggedTensor, TextEncoder, bag_sum, to_tensors
from widemax.encoders.features import Tensors
from widemax.errors import UsageError
from widemax.options import Options
from widemax.recommender import ids_of
from widemax.serving.rows import rows_of

WORD = re.compile(r"\w+|[^\w\s]")
MAX_WORDS = 512


@dataclass(frozen=True)
class Request:
    """A row, and the label whose logit is explained; that of the best class when None."""

    row: Mapping[str, Any]
    label: Any = None


def request(model: Model, *, inputs: Any, label: str | int | None = None) -> Request:
    """What a body asks.

    Raises:
        UsageError: about several rows, or a label that is no class.
    """
    rows = rows_of(model.schema, inputs)
    if len(rows) != 1:
        raise UsageError(f"inputs must hold one row, which is explained; got {len(rows)}.")
    return Request(rows[0], label)


BODY = Options(request, of="the body")
"""Its keywords are the keys of a body."""


def explain(model: Model, asked: Request) -> dict[str, Any]:
    """The parts of a row with what each adds to the logit of a class.

    Texts whose n-grams move the logit by themselves get gradient × input: the logit is the ``baseline``, that
    of a text without known words, plus the ``contribution`` of each word and ``other``, what no single word
    has. Other texts are answered again without each of their words, and every other row without each of its
    columns, whose contribution is what the logit loses by that; these need not add up.

    Raises:
        UnknownNameError: the label is no class of the model.
        DataError: the row cannot be read.
    """
    columns = columns_of(model.schema, [asked.row])
    if asked.label is None:
        class_id = int(model.topk(columns, 1).class_ids[0, 0])
    else:
        class_id = int(ids_of(model.vocabulary, [asked.label], "label")[0])
    encoder = model.encoder
    if not isinstance(encoder, TextEncoder):
        found = explain_columns(model, columns, class_id)
    elif model.neighbors is None and (encoder.weight_FD.shape[1] or model.head.adds_features):
        found = explain_text(model, encoder, columns, class_id)
    else:
        found = explain_words(model, encoder, columns, class_id)
    return {"label": model.vocabulary.decode(np.array([class_id]))[0], **found}


def logits_of(model: Model, columns: Mapping[str, Any], class_id: int) -> list[float]:
    """The logit of a class for each row, or its log-probability where neighbors have a part in it."""
    features = to_tensors(model.encoder.encode(columns))
    num_rows = len(next(iter(columns.values())))
    answers = model.answer(features, torch.full((num_rows,), class_id), k=1)
    found = answers.label_logits if model.neighbors is None else answers.label_log_probs
    logits: list[float] = found.tolist()
    return logits


def without(
    model: Model, columns: Mapping[str, Any], changed: list[tuple[str, Any]], class_id: int
) -> tuple[float, list[float]]:
    """The logit of a row, and what it loses with each value of a column that takes the place of its own."""
    rows = {
        name: pa.concat_arrays([values, *(new if name == column else values for column, new in changed)])
        for name, values in columns.items()
    }
    whole, *others = logits_of(model, rows, class_id)
    return whole, [whole - other for other in others]


def explain_columns(model: Model, columns: Mapping[str, Any], class_id: int) -> dict[str, Any]:
    """What the logit loses without each column."""
    inputs = model.schema.inputs
    whole, lost = without(model, columns, [(each.name, each.nothing()) for each in inputs], class_id)
    parts = [{"column": each.name, "contribution": by} for each, by in zip(inputs, lost, strict=True)]
    return {"method": "leave one column out", "logit": whole, "parts": parts}


def explain_words(
    model: Model, encoder: TextEncoder, columns: Mapping[str, Any], class_id: int
) -> dict[str, Any]:
    """What the logit loses without each word."""
    parts = [part for name, _ in encoder.columns for part in words_in(columns, name)]
    changed = []
    for part in parts:
        values = columns[part["column"]]
        text = values[0].as_py()
        shorter = text[: part["start"]] + text[part["end"] :]
        changed.append((part["column"], pa.array([shorter], values.type)))
    whole, lost = without(model, columns, changed, class_id)
    for part, by in zip(parts, lost, strict=True):
        part["contribution"] = by
    return {"method": "leave one word out", "logit": whole, "parts": parts}


def explain_text(
    model: Model, encoder: TextEncoder, columns: Mapping[str, Any], class_id: int
) -> dict[str, Any]:
    """Gradient × input of each n-gram, divided among the words that it is made of."""
    features = to_tensors(encoder.encode(columns))
    through = through_table if encoder.weight_FD.shape[1] else through_features
    with torch.no_grad():
        bag = encoder.eval().bag(features)
    logit, baseline, moved_P = through(model, encoder, features, bag, class_id)
    moved: dict[int, float] = defaultdict(float)
    for ngram, by in zip(bag.ids.tolist(), moved_P.tolist(), strict=True):
        moved[ngram] += by
    parts, pieces = words_of(encoder, columns)
    times: dict[int, float] = defaultdict(float)
    for _, ngrams in pieces:
        for ngram, count in ngrams.items():
            times[ngram] += count
    for places, ngrams in pieces:
        by = sum(moved[ngram] * count / times[ngram] for ngram, count in ngrams.items() if ngram in moved)
        for place in places:
            parts[place]["contribution"] += by / len(places)
    return {
        "method": "gradient × input",
        "logit": logit,
        "baseline": baseline,
        "parts": parts,
        "other": sum(by for ngram, by in moved.items() if ngram not in times),
    }


def through_table(
    model: Model, encoder: TextEncoder, features: Tensors, bag: RaggedTensor, class_id: int
) -> tuple[float, float, Tensor]:
    """The logit, that of nothing, and [P] what each n-gram adds, where n-grams are rows of a table."""
    class_ids = torch.tensor([class_id])
    with torch.no_grad():
        # Calibration multiplies the sum by a factor of the row, which counts as given.
        before, after = bag_sum(encoder.weight_FD, bag).norm(), encoder(features).norm()
        factor = after / before if before else torch.ones(())
        baseline = model.head.logits(torch.zeros(1, encoder.weight_FD.shape[1]), class_ids).item()
    with torch.enable_grad():
        values_P = bag.values.detach().requires_grad_()
        hidden_1D = bag_sum(encoder.weight_FD.detach(), bag._replace(values=values_P))
        logit = model.head.logits(hidden_1D * factor, class_ids).sum()
        (gradient_P,) = torch.autograd.grad(logit, values_P)
    return logit.item(), baseline, gradient_P * values_P.detach()


@torch.no_grad()
def through_features(
    model: Model, encoder: TextEncoder, features: Tensors, bag: RaggedTensor, class_id: int
) -> tuple[float, float, Tensor]:
    """The same where the head adds up what each of the n-grams of a row of length 1 says by itself."""
    ones = RaggedTensor(torch.arange(len(bag.ids) + 1), bag.ids, torch.ones_like(bag.values))
    nothing = RaggedTensor(torch.zeros(2, dtype=torch.int64), bag.ids[:0], bag.values[:0])
    alone_P, (baseline,), (logit,) = (
        model.head.logits(bag_sum(encoder.weight_FD, each), torch.tensor([class_id]))[:, 0]
        for each in (ones, nothing, bag)
    )
    shares_P = torch.nn.functional.normalize(bag.values, dim=0)
    return logit.item(), baseline.item(), shares_P * (alone_P - baseline)


def words_in(columns: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The first words of a column of a row, with their places, which have moved nothing as yet."""
    return [
        {"column": name, "word": word[0], "start": word.start(), "end": word.end(), "contribution": 0.0}
        for word in islice(WORD.finditer(columns[name][0].as_py()), MAX_WORDS)
    ]


def words_of(
    encoder: TextEncoder, columns: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], list[tuple[range, dict[int, float]]]]:
    """The words of a row in their places, and the n-grams of each run of words with how often it has them.

    An n-gram of several words is counted for the run of them alone, and not for longer ones.
    """
    parts: list[dict[str, Any]] = []
    pieces: list[tuple[range, dict[int, float]]] = []
    for name, _ in encoder.columns:
        words = words_in(columns, name)
        first = len(parts)
        parts += words
        inner: list[dict[int, float]] = []
        for width in range(1, min(encoder.word_ngrams, len(words)) + 1):
            runs = [words[at : at + width] for at in range(len(words) - width + 1)]
            found = ngrams_of(encoder, name, [" ".join(word["word"] for word in run) for run in runs])
            for at, ngrams in enumerate(found):
                known = inner[at].keys() | inner[at + 1].keys() if inner else set()
                own = {ngram: count for ngram, count in ngrams.items() if ngram not in known}
                pieces.append((range(first + at, first + at + width), own))
            inner = found
    return parts, pieces


def ngrams_of(encoder: TextEncoder, name: str, texts: list[str]) -> list[dict[int, float]]:
    """The known n-grams of each text of a column, and how often it has each."""
    empty = pa.array([""] * len(texts), pa.large_string())
    columns = {column: empty for column, _ in encoder.columns}
    bag = encoder.index(encoder.featurize({**columns, name: pa.array(texts, pa.large_string())}))["bag"]
    assert isinstance(bag, Ragged)
    counts_P = np.exp(bag.values_P.astype(np.float64) - 1)
    return [
        dict(zip(bag.ids_P[start:end].tolist(), counts_P[start:end].tolist(), strict=True))
        for start, end in pairwise(bag.offsets_B1.tolist())
    ]

"""What moved an answer: words of a text exactly, columns of a table by leaving each out.

Shapes: B rows, P n-grams, W words.
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

from widemax.artifact import Model
from widemax.data import columns_of
from widemax.encoders import Ragged, TextEncoder, bag_sum, to_tensors
from widemax.errors import UnknownNameError, UsageError
from widemax.options import Options
from widemax.recommender import names_of
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

    Texts that a linear bag of n-grams reads get gradient × input: the logit is the ``baseline``, that of a
    text without known words, plus the ``contribution`` of each word and ``other``, what no single word has.
    Every other row is answered again without each of its columns, whose contribution is what the logit
    loses by that; these need not add up.

    Raises:
        UsageError: the label is no class of the model.
        DataError: the row cannot be read.
    """
    columns = columns_of(model.schema, [asked.row])
    if asked.label is None:
        class_id = int(model.topk(columns, 1).class_ids[0, 0])
    else:
        class_id = int(names_of(model.vocabulary, [asked.label])[1][0])
        if class_id < 0:
            raise UnknownNameError(
                f"{asked.label!r} is not among the {len(model.vocabulary):,} classes of the run."
            )
    encoder = model.encoder
    if isinstance(encoder, TextEncoder) and encoder.weight_FD.shape[1] and model.neighbors is None:
        found = explain_text(model, encoder, columns, class_id)
    else:
        found = explain_columns(model, columns, class_id)
    return {"label": model.vocabulary.decode(np.array([class_id]))[0], **found}


def logit_of(model: Model, columns: Mapping[str, Any], class_id: int) -> float:
    """The logit of a class, or its log-probability where neighbors have a part in it."""
    answers = model.answer(to_tensors(model.encoder.encode(columns)), torch.tensor([class_id]), k=1)
    return answers.label_logits.item() if model.neighbors is None else answers.label_log_probs.item()


def explain_columns(model: Model, columns: Mapping[str, Any], class_id: int) -> dict[str, Any]:
    """What the logit loses without each column."""
    whole = logit_of(model, columns, class_id)
    parts = [
        {
            "column": column.name,
            "contribution": whole - logit_of(model, {**columns, column.name: column.nothing()}, class_id),
        }
        for column in model.schema.inputs
    ]
    return {"method": "leave one column out", "logit": whole, "parts": parts}


def explain_text(
    model: Model, encoder: TextEncoder, columns: Mapping[str, Any], class_id: int
) -> dict[str, Any]:
    """Gradient × input of each n-gram, divided among the words that it is made of."""
    features = to_tensors(encoder.encode(columns))
    with torch.no_grad():
        bag = encoder.eval().bag(features)
        # Calibration multiplies the sum by a factor of the row, which counts as given.
        before, after = bag_sum(encoder.weight_FD, bag).norm(), encoder(features).norm()
        factor = after / before if before else torch.ones(())
    with torch.enable_grad():
        values_P = bag.values.detach().requires_grad_()
        hidden_1D = bag_sum(encoder.weight_FD.detach(), bag._replace(values=values_P))
        logit = model.head.logits(hidden_1D * factor, torch.tensor([class_id])).sum()
        (gradient_P,) = torch.autograd.grad(logit, values_P)
    with torch.no_grad():
        nothing = torch.zeros(1, hidden_1D.shape[1])
        baseline = model.head.logits(nothing, torch.tensor([class_id])).item()
    moved: dict[int, float] = defaultdict(float)
    for ngram, by in zip(bag.ids.tolist(), (gradient_P * values_P).tolist(), strict=True):
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
        "logit": logit.item(),
        "baseline": baseline,
        "parts": parts,
        "other": sum(by for ngram, by in moved.items() if ngram not in times),
    }


def words_of(
    encoder: TextEncoder, columns: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], list[tuple[range, dict[int, float]]]]:
    """The words of a row in their places, and the n-grams of each run of words with how often it has them.

    An n-gram of several words is counted for the run of them alone, and not for longer ones.
    """
    parts: list[dict[str, Any]] = []
    pieces: list[tuple[range, dict[int, float]]] = []
    for name, _ in encoder.columns:
        words = list(islice(WORD.finditer(columns[name][0].as_py()), MAX_WORDS))
        first = len(parts)
        parts += [
            {"column": name, "word": word[0], "start": word.start(), "end": word.end(), "contribution": 0.0}
            for word in words
        ]
        inner: list[dict[int, float]] = []
        for width in range(1, min(encoder.word_ngrams, len(words)) + 1):
            runs = [words[at : at + width] for at in range(len(words) - width + 1)]
            found = ngrams_of(encoder, name, [" ".join(word[0] for word in run) for run in runs])
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

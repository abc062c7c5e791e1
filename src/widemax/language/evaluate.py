"""How well a text is foretold: exact likelihood of every token among all classes."""

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from widemax.errors import DataError
from widemax.language.model import LanguageModel, TokenAnswers, perplexity_of
from widemax.language.tokens import Stream, read_lines
from widemax.options import checked
from widemax.storage import replacing_file
from widemax.task import System


def likelihood(stream: Stream, log_probs: np.ndarray, *, unknown: int) -> dict[str, float | None]:
    """The metrics of a text, from float32 [N] the log-probabilities of its tokens.

    Returns:
        nll in nats a token, the perplexity that it is, how many "tokens" there are and how many of these are
        of the unknown class, "unknown_tokens"; bits a character and a byte compare models with other tokens.
    """
    nats = -float(log_probs.sum(dtype=np.float64))
    nll = nats / len(stream)
    return {
        "nll": nll,
        "perplexity": perplexity_of(nll),
        "bits_per_character": nats / math.log(2) / stream.num_characters,
        "bits_per_byte": nats / math.log(2) / stream.num_bytes,
        "tokens": float(len(stream)),
        "unknown_tokens": float((stream.ids_N == unknown).sum()),
    }


@checked
def evaluate(
    model: LanguageModel,
    texts: Sequence[str | Path],
    *,
    encoding: str | None = None,
    per_token: Path | str | None = None,
) -> dict[str, Any]:
    """Foretell each token of files, read as one text.

    Args:
        model: of a run.
        texts: files.
        encoding: of all files.
        per_token: a file to write, a JSON object a line: the token, its log-probability and its rank.

    Returns:
        The object of ``evaluate --json``.

    Raises:
        DataError: files without a token, or that cannot be read.
    """
    started = time.perf_counter()
    stream = Stream.of(read_lines(texts, encoding=encoding), model.vocabulary)
    if not len(stream):
        raise DataError("there is no token in these files. Give more text.")
    if per_token is None:
        log_probs = model.log_probs(stream)
    else:
        answers = model.answers(stream)
        log_probs = answers.log_probs_N
        _write_tokens(Path(per_token), model, stream, answers)
    seconds = time.perf_counter() - started
    return {
        "rows": stream.num_lines,
        "skipped": 0,
        "num_classes": model.head.num_classes,
        "task": System.LANGUAGE,
        **likelihood(stream, log_probs, unknown=model.vocabulary.unknown),
        "seconds": seconds,
        "rows_per_s": stream.num_lines / seconds,
        "tokens_per_s": len(stream) / seconds,
    }


def _write_tokens(path: Path, model: LanguageModel, stream: Stream, answers: TokenAnswers) -> None:
    labels = model.vocabulary.labels
    with replacing_file(path) as beside, beside.open("w", encoding="utf-8") as file:
        for id_, log_prob, rank in zip(stream.ids_N.tolist(), *(a.tolist() for a in answers), strict=True):
            row = {"token": labels[id_], "log_prob": log_prob, "rank": rank}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

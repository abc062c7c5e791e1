"""How good translations are: exact likelihood of the references, BLEU and chrF."""

import math
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from widemax.errors import DataError, UsageError, counted
from widemax.options import AtLeast1, checked
from widemax.sequences.subwords import PADDING
from widemax.task import System
from widemax.translation.pairs import Pairs, read_lines
from widemax.translation.translator import Translator

PIECES_AT_ONCE = 8192
_SPACED = re.compile(r"\s[.!?。]$")
_ATTACHED = re.compile(r"\w[.!?。]$")


@torch.no_grad()
def nll_of(translator: Translator, pairs: Pairs) -> dict[str, float | None]:
    """The negative log-likelihood of the targets over all pieces, each among all pieces.

    Returns:
        nll in nats a piece, the perplexity that it is, and how many pieces, "tokens", ends of lines included.
    """
    translator.encoder.eval()
    total, num_pieces = 0.0, 0
    for lines in pairs.chunks(np.arange(len(pairs)), PIECES_AT_ONCE):
        source, target, following = pairs.tensors(lines)
        labels = following[following != PADDING]
        hidden = translator.encoder(source, target, translator.table)
        total -= float(translator.head.log_probs(hidden, labels[:, None]).double().sum())
        num_pieces += len(labels)
    nll = total / num_pieces
    return {"nll": nll, "perplexity": math.exp(min(nll, 700.0)), "tokens": float(num_pieces)}


def is_tokenized(lines: Iterable[str]) -> bool:
    """Whether a space stands before the mark that ends a sentence, in most of the lines that have one.

    Example:
        >>> is_tokenized(["ein hund rennt ."]), is_tokenized(["Ein Hund rennt."])
        (True, False)
    """
    spaced = attached = 0
    for line in lines:
        spaced += bool(_SPACED.search(line))
        attached += bool(_ATTACHED.search(line))
    return spaced > attached


@checked
def scores(translations: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """BLEU and chrF of translations, by sacrebleu.

    References that are tokenized are compared as they are; others are tokenized by rule 13a, which the
    signature says. BLEU of texts of which only one side is tokenized means nothing and is refused.

    Args:
        translations: one line each.
        references: the same lines by people.

    Raises:
        DataError: another number of lines, or one side is tokenized and the other is not.
        UsageError: sacrebleu is not installed.

    Example:
        >>> round(scores(["ein hund rennt ."], ["ein hund rennt ."])["bleu"])
        100
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        raise UsageError(
            "BLEU needs the package sacrebleu; install it with: pip install 'widemax[translation]'"
        ) from None
    if len(translations) != len(references):
        raise DataError(
            f"there are {counted(len(translations), 'translation')} and {len(references):,} references; each "
            "line must stand opposite its reference."
        )
    tokenized = is_tokenized(references)
    if any(map(_ends, translations)) and tokenized != is_tokenized(translations):
        kinds = ("tokenized", "plain text") if tokenized else ("plain text", "tokenized")
        raise DataError(
            f"the references are {kinds[0]} and the translations {kinds[1]}: BLEU of the two means nothing. "
            "Give references of the kind that the model was trained on."
        )
    bleu, chrf = BLEU(tokenize="none" if tokenized else "13a", force=True), CHRF()
    columns = [list(references)]
    return {
        "bleu": float(bleu.corpus_score(list(translations), columns).score),
        "chrf": float(chrf.corpus_score(list(translations), columns).score),
        "signature": str(bleu.get_signature()),
    }


def _ends(line: str) -> bool:
    return bool(_SPACED.search(line) or _ATTACHED.search(line))


@checked
def evaluate(
    translator: Translator,
    source: Sequence[str | Path],
    target: Sequence[str | Path],
    *,
    encoding: str | None = None,
    beam: AtLeast1 = 5,
) -> dict[str, Any]:
    """Translate files and compare the translations with their references.

    Args:
        translator: of a run.
        source: files of lines.
        target: files of their references, line by line.
        encoding: of all files.
        beam: of :meth:`Translator.translate`.

    Returns:
        The object of ``evaluate --json``.

    Raises:
        DataError: files that do not stand opposite one another, or of another kind than the training lines.
    """
    started = time.perf_counter()
    lines, references = (list(read_lines(files, encoding=encoding)) for files in (source, target))
    pairs = Pairs.of(iter(lines), iter(references), translator.subwords, max_pieces=10**9)
    translations = [found.text for found in translator.translate(lines, beam=beam)]
    return {
        "rows": len(lines),
        "skipped": 0,
        "num_classes": translator.head.num_classes,
        "task": System.TRANSLATE,
        **scores(translations, references),
        **nll_of(translator, pairs),
        "beam": beam,
        "seconds": (seconds := time.perf_counter() - started),
        "rows_per_s": len(lines) / seconds,
    }

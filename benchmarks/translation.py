"""A translator's training step, beside torch.nn.Transformer, and its decoding, beside one that recomputes.

python -m benchmarks.translation [--quick]

Multi30k's captions, the default model. The peer has the same sizes and one table for sources, targets and
answers too, torch's own cross-entropy and fused AdamW. Steps over the same lines are taken in turn.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from benchmarks.measure import is_quick, peak_memory_bytes, report, run_fresh, script
from benchmarks.runs import data_folder

SEED = 0
FILES = "multi30k_en_de/{}.lc.norm.tok.{}.gz"
STEPS, QUICK_STEPS, WARM_UP = 20, 3, 2
LABEL_SMOOTHING = 0.1
TRANSLATED = 64
Step = Callable[[Any], float]


def files(part: str) -> tuple[list[str], list[str]]:
    """The two sides of one part of the data."""
    english, german = (str(data_folder() / FILES.format(part, language)) for language in ("en", "de"))
    return [english], [german]


def build() -> tuple[Any, Any]:
    """The default translator before its training, and the training pairs."""
    import numpy as np
    import torch

    from widemax import Config
    from widemax.sequences import Subwords
    from widemax.sequences.subwords import END
    from widemax.translation import Pairs, Translator, read_lines

    torch.manual_seed(SEED)
    sides = files("train")
    config = Config(data={"train": sides[0], "target_lines": sides[1], "task": "translate"})
    subwords = Subwords.learn(chain(*map(read_lines, sides)), size=8000)
    pairs = Pairs.of(*map(read_lines, sides), subwords, max_pieces=256)
    counts = np.bincount(pairs.target.ids_P, minlength=len(subwords))
    counts[END] = len(pairs)
    head = {"kind": "exact", "label_smoothing": LABEL_SMOOTHING}
    return Translator.build(
        config.model_copy(update={"head": type(config.head)(**head)}), subwords, counts
    ), pairs


def widemax_step(translator: Any, pairs: Any) -> Step:
    """Seconds of a step of widemax over some lines."""
    from widemax.optim import LazyAdam
    from widemax.sequences.subwords import PADDING
    from widemax.translation.training import CHUNK_PIECES

    parts = translator.encoder, translator.head
    optimizer = LazyAdam(chain(*(part.parameters() for part in parts)), lr=1e-3)
    for part in parts:
        part.train()

    def step(lines: Any) -> float:
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        for some in pairs.chunks(lines, CHUNK_PIECES):
            source, target, following = pairs.tensors(some)
            hidden_PD = translator.encoder(source, target, translator.table)
            translator.head(hidden_PD, following[following != PADDING], reduction="sum").backward()
        optimizer.step()
        return time.perf_counter() - started

    return step


def torch_step(translator: Any, pairs: Any) -> Step:
    """Seconds of a step of the same model by torch.nn.Transformer, over the same chunks of lines."""
    import torch
    from torch import nn

    from widemax.sequences import sinusoidal
    from widemax.sequences.subwords import PADDING
    from widemax.translation.training import CHUNK_PIECES

    options = translator.config.encoder.options
    dim, rate = options["dim"], options["rate"]
    net = nn.Transformer(
        *(dim, options["num_heads"], options["num_layers"], options["num_layers"], options["hidden_dim"]),
        dropout=rate,
        batch_first=True,
        norm_first=True,
    )
    table = nn.Parameter(translator.table.detach().clone())
    drop = nn.Dropout(rate)
    optimizer = torch.optim.AdamW([*net.parameters(), table], lr=1e-3, weight_decay=0.0, fused=True)

    def embedded(ids: Any) -> Any:
        return drop(nn.functional.embedding(ids, table) * dim**0.5 + sinusoidal(ids.shape[1], dim))

    def step(lines: Any) -> float:
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        for some in pairs.chunks(lines, CHUNK_PIECES):
            source, target, following = pairs.tensors(some)
            length = target.shape[1]
            hidden = net(
                *(embedded(source), embedded(target)),
                tgt_mask=torch.ones(length, length, dtype=torch.bool).triu(1),
                src_key_padding_mask=source == PADDING,
                memory_key_padding_mask=source == PADDING,
                tgt_is_causal=True,
            )
            is_piece = following != PADDING
            logits = hidden[is_piece] @ table.T
            nn.functional.cross_entropy(
                logits, following[is_piece], reduction="sum", label_smoothing=LABEL_SMOOTHING
            ).backward()
        optimizer.step()
        return time.perf_counter() - started

    return step


def steps_of(names: Sequence[str], num_steps: int) -> dict[str, Any]:
    """The median seconds of a step of each, taken in turn, and the peak memory of this process."""
    import numpy as np

    from widemax.kernels import keep_freed_memory

    keep_freed_memory()
    translator, pairs = build()
    made = {"widemax": widemax_step, "torch": torch_step}
    steps = {name: made[name](translator, pairs) for name in names}
    order = np.random.default_rng(SEED).permutation(len(pairs))
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(WARM_UP + num_steps):
        for name, step in steps.items():
            seconds = step(order[number * 256 :][:256])
            if number >= WARM_UP:
                times[name].append(seconds)
    medians = {f"{name}_step_s": statistics.median(values) for name, values in times.items()}
    return {**medians, "peak_mb": peak_memory_bytes() // 2**20}


def decoding() -> dict[str, Any]:
    """Seconds of a beam search with cached keys and values, and with all of the target computed anew."""
    import numpy as np
    import torch

    from widemax.sequences import beam_search
    from widemax.sequences.subwords import END, START

    translator, pairs = build()
    encoder, head, table = translator.encoder.eval(), translator.head, translator.table
    lines = np.arange(TRANSLATED)
    source = pairs.source.padded(lines, last=END)
    limits = pairs.target.lengths[lines] + 1  # an untrained model ends nowhere

    def search(*, cached: bool) -> tuple[Any, float]:
        started = time.perf_counter()
        with torch.no_grad():
            state = list(encoder.encode(source, table))
            prefix = torch.empty(len(lines), 0, dtype=torch.int64)
            caches, beams = encoder.decoder.caches() if cached else None, 1

            def best(latest: Any, n: int) -> tuple[Any, Any]:
                nonlocal prefix
                prefix = torch.cat([prefix, latest[:, None]], 1)
                target = latest[:, None] if cached else prefix
                hidden = encoder.decode(target, table, *state, caches)[:, -1]
                chosen = head.topk(hidden, n)
                return chosen.class_ids, chosen.log_probs

            def take(rows: Any) -> None:
                nonlocal beams, prefix
                prefix = prefix[rows]
                kept = (rows // beams).unique_consecutive()
                beams = len(rows) // len(kept)
                state[:] = (tensor[kept if cached else rows] for tensor in state)
                for own, across in caches or ():
                    own.take(rows)
                    across.take(kept)

            found = beam_search(
                *(best, take, len(lines)), start=START, end=END, beam=5, max_length=limits.tolist()
            )
        return found, time.perf_counter() - started

    times: dict[bool, list[float]] = {True: [], False: []}
    found = {}
    for _ in range(2 if is_quick() else 5):
        for cached in times:
            found[cached], seconds = search(cached=cached)
            times[cached].append(seconds)
    cached_s, recomputed_s = (statistics.median(times[cached]) for cached in (True, False))
    same = found[True].tokens == found[False].tokens
    return {"cached_s": cached_s, "recomputed_s": recomputed_s, "same_translations": same}


def main(argv: Sequence[str]) -> dict[str, Any]:
    if argv[:1] == ["steps"]:
        return steps_of(argv[2:], int(argv[1]))
    if argv[:1] == ["decoding"]:
        return decoding()
    name = "benchmarks.translation"
    num_steps = str(QUICK_STEPS if is_quick() else STEPS)
    row = run_fresh(name, "steps", num_steps, "widemax", "torch")
    del row["peak_mb"]
    for model in ("widemax", "torch"):
        row[f"{model}_peak_mb"] = run_fresh(name, "steps", "3", model)["peak_mb"]
    row |= run_fresh(name, "decoding", *(["--quick"] if is_quick() else []))
    report("translation", [row], seed=SEED)
    print(json.dumps(row), file=sys.stderr)
    return {
        "benchmark": "translation",
        "ratio": row["widemax_step_s"] / row["torch_step_s"],
        "memory_ratio": row["widemax_peak_mb"] / row["torch_peak_mb"],
        "cached_times_faster": row["recomputed_s"] / row["cached_s"],
        "same_translations": row["same_translations"],
    }


if __name__ == "__main__":
    script(main)

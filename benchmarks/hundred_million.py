"""Does a softmax over 100 million classes train, and is it evaluated exactly, on two cores?

    python -m benchmarks.hundred_million [--classes N] [--steps N] [--mapped FOLDER [--every N] [--kill]]

Weights [1e8, 64] in bfloat16 with stochastic rounding, one float32 a row for Adagrad: 13.2 GB. Structure is
planted: a class's rows are noisy copies of one random vector of its own, and classes are as frequent as
1/(rank + 1). New rows are answered over all classes, 100 before and 1,000 after training. No peer holds this
in 16 GB: Adagrad of torch or TensorFlow in float32 needs 51 GB.

``--mapped`` keeps the weights in a file, which may be larger than memory, with a commit every N steps; a run
whose FOLDER exists goes on from its last commit. ``--kill`` kills that run (kill -9) in its midst and lets
another process go on: it must lose no more than the steps since the last commit, and the steps that it
repeats must have bitwise the losses they had. FOLDER stays; delete it when you are done.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, is_quick, peak_memory_bytes, report, script

SEED = 0
ROWS, DIM, SAMPLED = 1024, 64, 8192
TEST_ROWS = 1000
# Before training all rows are alike.
TEST_ROWS_BEFORE = 100
NOISE = 0.3
STD = 0.01
HEAD_CLASSES = 10_000
PEER_BYTES = 8
"""A weight and its accumulator in float32."""


def vectors(class_ids: Any) -> Any:
    """[N, D] the vector of each class, the same whenever it is asked for: signs from a hash of its id."""
    import torch

    bits = class_ids * -7046029254386353131  # 2^64 / golden ratio
    bits = (bits ^ (bits >> 31)) * -4658895280553007687
    bits = bits ^ (bits >> 29)
    return ((bits[:, None] >> torch.arange(DIM)) & 1).float() * 2 - 1


def batch(num_rows: int, num_classes: int, generator: Any) -> tuple[Any, Any]:
    import torch

    from widemax.samplers import LogUniform

    labels = LogUniform(num_classes).draw_ids(num_rows, generator=generator)
    noise = torch.randn(num_rows, DIM, generator=generator)
    return ((vectors(labels) + NOISE * noise) / DIM**0.5).bfloat16(), labels


def answers(run: "Run", hidden: Any, labels: Any, name: str) -> dict[str, float]:
    started = time.perf_counter()
    with nullcontext() if run.rows is None else run.rows.scanned():
        found = run.head.answer(hidden, labels, k=10)
    seconds = time.perf_counter() - started
    is_right = (found.label_ranks == 1).double()
    is_common = labels < HEAD_CLASSES
    return {
        f"{name}_nll": float(-found.label_log_probs.double().mean()),
        f"{name}_top1": float(is_right.mean()),
        f"{name}_top10": float((found.label_ranks <= 10).double().mean()),
        f"{name}_top1_common": float(is_right[is_common].mean()),
        f"{name}_answer_s": seconds,
    }


class AnonymousMemory(threading.Thread):
    """The largest memory of this process that no file backs; the system can take back the rest."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self.start()

    def run(self) -> None:
        status = Path("/proc/self/status")
        while status.exists():
            lines = status.read_text(encoding="utf-8").splitlines()
            now = 1024 * int(next(line.split()[1] for line in lines if line.startswith("RssAnon:")))
            self.peak_bytes = max(self.peak_bytes, now)
            time.sleep(0.02)


class Run:
    """The head, its optimizer, the generator of batches, and where they stand."""

    def __init__(self, num_classes: int, folder: Path | None) -> None:
        import torch

        from widemax.heads import SampledHead
        from widemax.optim import MappedRows, RowwiseAdagrad

        torch.manual_seed(SEED)
        self.rows: MappedRows | None = None
        if folder is None:
            weight = torch.empty(num_classes, DIM, dtype=torch.bfloat16)
            for part in torch.split(weight, 2**20):
                part.normal_(std=STD)
            parameter = torch.nn.Parameter(weight)
        else:
            is_new = not folder.exists()
            self.rows = (
                MappedRows.create(folder, num_classes, DIM, std=STD) if is_new else MappedRows.open(folder)
            )
            parameter = self.rows.parameter
        self.head = SampledHead(
            num_classes,
            DIM,
            weight=parameter,
            bias=False,
            num_sampled=SAMPLED,
            sampler="log_uniform",
            temperature=0.1,
        )
        self.optimizer = RowwiseAdagrad(self.head.parameters(), lr=0.1)
        self.generator = torch.Generator().manual_seed(SEED)
        self.step = 0
        self.facts: dict[str, float] = {}
        if self.rows is not None:
            self.rows.watch(self.optimizer)
            self._restore(self.rows.state())

    def advance(self) -> float:
        hidden, labels = batch(ROWS, self.head.num_classes, self.generator)
        self.optimizer.zero_grad()
        loss = self.head(hidden, labels)
        loss.backward()
        self.optimizer.step()
        self.step += 1
        return float(loss.item())

    def commit(self) -> None:
        assert self.rows is not None
        state = {"step": self.step, "batches": self.generator.get_state()}
        parts = {
            "head": self.head.training_state(),
            "optimizer": self.optimizer.state[self.head.weight],
            "facts": self.facts,
        }
        named = {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}
        self.rows.commit(state | named)

    def _restore(self, state: dict[str, Any]) -> None:
        if not state:
            return
        self.step = state["step"]
        self.generator.set_state(state["batches"])

        def part(name: str) -> dict[str, Any]:
            return {
                key.partition(".")[2]: value for key, value in state.items() if key.startswith(f"{name}.")
            }

        self.head.load_training_state(part("head"))
        saved = {"state": {0: part("optimizer")}, "param_groups": self.optimizer.state_dict()["param_groups"]}
        self.optimizer.load_state_dict(saved)
        self.facts = part("facts")


def train(options: argparse.Namespace) -> dict[str, Any]:
    """One run in this process, from the beginning or from its last commit: the row of its results."""
    import torch

    memory = AnonymousMemory()
    started = time.perf_counter()
    run = Run(options.classes, options.mapped)
    build_s = time.perf_counter() - started
    test = batch(TEST_ROWS, options.classes, torch.Generator().manual_seed(SEED + 1))
    facts = run.facts
    if not facts:
        facts |= answers(run, *(x[:TEST_ROWS_BEFORE] for x in test), "before")
        facts |= {"train_s": 0.0, "commit_s": 0.0, "journal_bytes": 0}
    while run.step < options.steps:
        started = time.perf_counter()
        loss = run.advance()
        facts["train_s"] += time.perf_counter() - started
        if options.child:
            print(f"step {run.step} {loss!r}", file=sys.stderr, flush=True)
        elif run.step % 500 == 0:
            print(f"step {run.step}  loss {loss:.3f}", file=sys.stderr)
        if run.rows is not None and (run.step % options.every == 0 or run.step == options.steps):
            facts["journal_bytes"] += run.rows.journal_bytes
            started = time.perf_counter()
            run.commit()
            facts["commit_s"] += time.perf_counter() - started
    return {
        "classes": options.classes,
        "steps": options.steps,
        "commit_every": options.every if options.mapped else None,
        "build_s": build_s,
        **facts,
        **answers(run, *test, "after"),
        "peak_gb": peak_memory_bytes() / 1e9,
        "peak_anonymous_gb": memory.peak_bytes / 1e9,
        "killed_at": None,
        "continued_at": None,
    }


def kill_and_continue(options: argparse.Namespace) -> dict[str, Any]:
    """One run in two processes, the first of them killed between two commits.

    Raises:
        RuntimeError: more steps were lost than a commit is apart, or a repeated step had another loss.
    """
    command = [sys.executable, "-m", "benchmarks.hundred_million", "--child"]
    for name in ("classes", "steps", "every", "mapped"):
        command += [f"--{name}", str(getattr(options, name))]
    kill_at = options.steps // 2 // options.every * options.every + options.every // 2
    first: dict[int, str] = {}
    with child(command) as process:
        for step, loss in losses(process):
            first[step] = loss
            if step == kill_at:
                process.kill()
    killed_at = max(first)
    with child(command) as process:
        second = dict(losses(process))
        assert process.stdout is not None
        printed = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"the continued run exited with {process.returncode}")
    continued_at = min(second) - 1
    if not 0 <= killed_at - continued_at < options.every:
        raise RuntimeError(f"killed after step {killed_at}, continued after step {continued_at}")
    if any(first[step] != second[step] for step in range(continued_at + 1, killed_at + 1)):
        raise RuntimeError("a repeated step had another loss")
    row: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return row | {"killed_at": killed_at, "continued_at": continued_at}


def child(command: Sequence[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


def losses(process: "subprocess.Popen[str]") -> Iterator[tuple[int, str]]:
    """The steps that a child reports, with the digits of their losses, until it ends."""
    assert process.stderr is not None
    for line in process.stderr:
        word, *rest = line.split()
        if word == "step":
            yield int(rest[0]), rest[1]
        else:
            print(line, end="", file=sys.stderr)


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hundred_million")
    parser.add_argument("--classes", type=int, default=2_000_000 if is_quick() else 100_000_000)
    parser.add_argument("--steps", type=int, default=300 if is_quick() else 1500)
    parser.add_argument("--mapped", type=Path, metavar="FOLDER")
    parser.add_argument("--every", type=int, default=250, help="steps between two commits")
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.kill and options.mapped is None:
        parser.error("--kill needs --mapped FOLDER")
    return options


def main(argv: Sequence[str]) -> dict[str, Any]:
    options = parsed(argv)
    row = kill_and_continue(options) if options.kill else train(options)
    if options.child:
        return row
    report("hundred_million", [row], seed=SEED)
    ratio = row["peak_gb"] * 1e9 / (options.classes * DIM * PEER_BYTES)
    return {"benchmark": "hundred_million", "ratio": round(ratio, 3)} | {
        key: round(value, 4) for key, value in row.items() if value is not None
    }


if __name__ == "__main__":
    script(main)

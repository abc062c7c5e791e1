"""How many requests does `widemax serve` answer, and does it last?

    python -m benchmarks.serving [--quick] [clinc150 | words] [--soak MINUTES]

Beside it stands the server that one writes first (``_plain_server``), both as they come, in turn, asked over
loopback by clients in this process: one after another, 32 at a time, at half of what 32 got, at four times
of it, which must be refused in part and be over within a second, and both at one rate, half of three times
what the plain server gives 32. The runs are CLINC150's 150 intents and 128,044 words by their definitions,
trained for a minute first: how much a run knows does not change how long it takes. The search for the best
classes is timed apart, beside faiss (the extra ``bench``). ``--soak`` asks 8 at a time, reloads now and
then, and says what memory and how many open files the server has gained.
"""

import asyncio
import gc
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from benchmarks.exact_topk import medians
from benchmarks.measure import ROOT, is_quick, report, script
from benchmarks.runs import rounded, widemax

RUNS = {
    "clinc150": ("clinc150", "--input", "text", "--target", "intent"),
    "words": (
        *("open_english_wordnet", "--input", "definition", "--target", "word"),
        *("--set", "head.kind=sampled"),
    ),
}
TEXTS = [f"what is my balance number {number} please" for number in range(100)]
CLIENTS = 32
K = 5
COMMON = 1.5
"""Times what the plain server answers: a rate at which both are asked, half of three times of it."""
MOST_REQUESTS = 200_000
MOST_OPEN = 400
IDLE_S = 3.0
"""After which a connection is made anew: a server closes one that has asked nothing for five seconds."""
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Load:
    """What came of some requests: seconds and status of each."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.codes: Counter[str] = Counter()

    def quantile(self, share: float) -> float:
        return sorted(self.seconds)[min(int(share * len(self.seconds)), len(self.seconds) - 1)]


async def ask(streams: Streams, load: Load, number: int, path: str = "predict") -> None:
    reader, writer = streams
    body = json.dumps({"inputs": [TEXTS[number % len(TEXTS)]], "k": K}).encode()
    begun = time.perf_counter()
    head = f"POST /v1/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    answer = (await reader.readuntil(b"\r\n\r\n")).lower()
    await reader.readexactly(int(answer.split(b"content-length: ")[1].split(b"\r\n")[0]))
    load.seconds.append(time.perf_counter() - begun)
    load.codes[answer[9:12].decode()] += 1


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Streams]:
    """A connection for one request after another."""
    streams = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield streams
    finally:
        streams[1].close()
        await streams[1].wait_closed()


async def closed_loop(port: int, clients: int, seconds: float) -> Load:
    """Clients that ask again once they are answered."""
    load, end = Load(), time.perf_counter() + seconds

    async def client(first: int) -> None:
        number = first
        async with connected(port) as streams:
            while time.perf_counter() < end and len(load.seconds) < MOST_REQUESTS:
                await ask(streams, load, number)
                number += clients

    await asyncio.gather(*map(client, range(clients)))
    return load


async def open_loop(port: int, rate: float, seconds: float) -> tuple[Load, float]:
    """Requests at a rate, whether others are answered or not; as many at once as connections are allowed.

    Beside what came of them: how long after the last of them was sent another one was first answered.
    """
    load, free = Load(), asyncio.Queue[tuple[Streams, float]]()
    to_send = min(int(rate * seconds), MOST_REQUESTS)
    all_sent = asyncio.Event()

    async def one(number: int) -> None:
        nonlocal to_send
        streams, used = await free.get()
        if time.perf_counter() - used > IDLE_S:
            streams = await stack.enter_async_context(connected(port))
        to_send -= 1
        if not to_send:
            all_sent.set()
        await ask(streams, load, number)
        free.put_nowait((streams, time.perf_counter()))

    async with AsyncExitStack() as stack:
        for _ in range(MOST_OPEN):
            free.put_nowait((await stack.enter_async_context(connected(port)), time.perf_counter()))
        begun, tasks = time.perf_counter(), []
        for number in range(to_send):
            await asyncio.sleep(max(0.0, begun + number / rate - time.perf_counter()))
            tasks.append(asyncio.create_task(one(number)))
        await all_sent.wait()  # while there is no free connection, the load goes on
        after, ended = Load(), time.perf_counter()
        async with connected(port) as streams:
            while not after.codes["200"]:
                await ask(streams, after, 0)
        recovered_s = time.perf_counter() - ended
        await asyncio.gather(*tasks)
    return load, recovered_s


@contextmanager
def served(module: str, *arguments: str) -> Iterator[tuple[psutil.Process, int]]:
    """A server's process and port, from the moment it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", module, *[part.replace("PORT", str(port)) for part in arguments]]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(600):
                if process.poll() is not None:
                    raise RuntimeError(f"{module} ended with {process.returncode}.")
                with socket.socket() as trial:
                    if not trial.connect_ex(("127.0.0.1", port)):
                        break
                time.sleep(0.1)
            asyncio.run(closed_loop(port, 1, 1.0))
            yield psutil.Process(process.pid), port
        finally:
            process.terminate()
            process.wait(60)


def measured(
    module: str, arguments: Sequence[str], seconds: float, *, rate_of_plain: float | None = None
) -> dict[str, Any]:
    """What a server does alone, with 32 clients, at half and four times of that, and at a common rate."""
    with served(module, *arguments) as (process, port):

        def seconds_of_cpu() -> float:
            return sum(process.cpu_times()[:2])

        cpu = [seconds_of_cpu()]
        lone = asyncio.run(closed_loop(port, 1, seconds))
        cpu.append(seconds_of_cpu())
        full = asyncio.run(closed_loop(port, CLIENTS, seconds))
        cpu.append(seconds_of_cpu())
        rate = len(full.seconds) / seconds
        half, _ = asyncio.run(open_loop(port, rate / 2, seconds))
        cpu.append(seconds_of_cpu())
        flood, recovered_s = asyncio.run(open_loop(port, 4 * rate, min(seconds, 3)))
        common, _ = asyncio.run(open_loop(port, COMMON * (rate_of_plain or rate), seconds))
    lone_ms, p99_ms = 1000 * lone.quantile(0.5), 1000 * half.quantile(0.99)
    lone_cpu_ms, full_cpu_ms, half_cpu_ms = (
        1000 * (after - before) / len(load.seconds)
        for load, (before, after) in zip((lone, full, half), pairwise(cpu), strict=True)
    )
    return {
        "lone_ms": lone_ms,
        "requests_per_s": rate,
        "cpu_ms_per_request": full_cpu_ms,
        "lone_cpu_ms": lone_cpu_ms,
        "half_cpu_ms": half_cpu_ms,
        "p99_at_half_ms": p99_ms,
        "p99_over_lone_ms": p99_ms - lone_ms,
        "p99_at_common_ms": 1000 * common.quantile(0.99),
        "refused_at_4x": flood.codes["429"] / len(flood.seconds),
        "others_at_4x": sum(n for code, n in flood.codes.items() if code not in ("200", "429")),
        "recovered_s": recovered_s,
    }


def searched(run: str) -> dict[str, Any]:
    """Milliseconds for the k best classes of 32 rows: those of the head, with probabilities, and of faiss."""
    import pyarrow as pa
    import torch

    from widemax import Model
    from widemax.exports import class_vectors
    from widemax.heads import LinearHead

    model = Model.load(run)
    head = model.head
    assert isinstance(head, LinearHead)
    hidden_BD = model.hidden({model.schema.inputs[0].name: pa.array(TEXTS[:CLIENTS])}).detach()
    calls: dict[str, Callable[[], object]] = {"search_ms": lambda: head.topk(hidden_BD, K)}
    if find_spec("faiss"):
        import faiss

        assert head.bias is not None
        index = faiss.IndexFlatIP(head.dim + 1)
        index.add(torch.column_stack([class_vectors(model), head.bias.detach()]).numpy())
        asked = torch.column_stack([hidden_BD, torch.ones(CLIENTS)]).numpy()
        assert (index.search(asked, K)[1] == head.topk(hidden_BD, K).class_ids.numpy()).mean() > 0.99
        calls["faiss_ms"] = lambda: index.search(asked, K)
    return {name: 1000 * seconds for name, seconds in medians(calls).items()}


def soak(run: str, minutes: float) -> dict[str, Any]:
    """What a server that is asked all the time, and reloads, has gained in memory and open files."""
    command = "serve", run, "--port", "PORT"
    with served("widemax", *command) as (process, port):

        async def rounds() -> tuple[Load, list[int], list[int]]:
            total, memory, files = Load(), [], []
            end = time.perf_counter() + 60 * minutes
            while time.perf_counter() < end:
                load = await closed_loop(port, 8, min(5.0, 10 * minutes))
                async with connected(port) as streams:
                    await ask(streams, load, 0, "reload")
                total.codes += load.codes
                memory.append(process.memory_info().rss)
                files.append(process.num_fds())
            return total, memory, files

        load, memory, files = asyncio.run(rounds())
    warm = max(1, len(memory) // 4)  # the first reloads fill what allocators keep
    return {
        "requests": sum(load.codes.values()),
        "failed": sum(n for code, n in load.codes.items() if code != "200"),
        "reloads": len(memory),
        "memory_growth": max(memory[-warm:]) / max(memory[:warm]) - 1,
        "more_files": files[-1] - files[0],
    }


def compared(name: str, folder: str) -> list[dict[str, Any]]:
    """A run served by widemax and plainly, and its search."""
    run, seconds = str(Path(folder, name)), 2.0 if is_quick() else 10.0
    trained(name, run)
    plain = measured("benchmarks._plain_server", [run, "PORT"], seconds)
    rate = plain["requests_per_s"]
    ours = measured("widemax", ["serve", run, "--port", "PORT"], seconds, rate_of_plain=rate)
    ours |= {"over_plain": ours["requests_per_s"] / rate, **searched(run)}
    return [{"run": name, "server": who, **row} for who, row in {"widemax": ours, "plain": plain}.items()]


def trained(name: str, run: str) -> None:
    widemax("train", *RUNS[name], "--set", "train.epochs=2", "--time-limit", "60s", "--out", run)


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What was measured, for a page of the documentation."""
    columns = {
        "run": ("run", ""),
        "server": ("server", ""),
        "requests_per_s": ("requests/s, 32 clients", ",.0f"),
        "cpu_ms_per_request": ("CPU ms each", ".2f"),
        "half_cpu_ms": ("at half load", ".2f"),
        "lone_cpu_ms": ("alone", ".2f"),
        "lone_ms": ("alone, ms", ".1f"),
        "p99_at_half_ms": ("p99 at half load, ms", ".1f"),
        "p99_at_common_ms": ("p99 at 1.5 × the plain one's, ms", ".1f"),
        "refused_at_4x": ("refused at 4 ×", ".0%"),
        "recovered_s": ("answers after, s", ".2f"),
    }
    yield f"| {' | '.join(heading for heading, _ in columns.values())} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(format(row[name], form) for name, (_, form) in columns.items())} |"


def main(argv: Sequence[str]) -> dict[str, Any]:
    gc.disable()  # the pauses of the clients are none of a server's
    with tempfile.TemporaryDirectory() as folder:
        if "--soak" in argv:
            trained("clinc150", f"{folder}/run")
            minutes = float(argv[argv.index("--soak") + 1])
            return {"benchmark": "soak", **soak(f"{folder}/run", minutes)}
        rows = [row for name in argv or RUNS for row in compared(name, folder)]
    report("serving", rows, seed=0)
    print(*table(rows), sep="\n", file=sys.stderr)
    ours = [row for row in rows if row["server"] == "widemax"]
    return {
        "benchmark": "serving",
        "ratio": min(row["over_plain"] for row in ours),
        **{row["run"]: rounded(row, [key for key in row if key not in ("run", "server")]) for row in ours},
    }


if __name__ == "__main__":
    script(main)

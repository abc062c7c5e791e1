"""Processes in network namespaces of their own, as on two machines, whose link is cut while they train."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.distributed.rows import configure, write_rows
from tests.distributed.test_workers import await_step, start

from widemax.training.checkpoint import latest_checkpoint, read_progress

pytestmark = pytest.mark.slow
TIMEOUT_S, PATIENCE_S = 5, 60
NAMES = [f"widemax-{os.getpid()}-{rank}" for rank in range(2)]
ADDRESSES = ["10.231.7.1", "10.231.7.2"]
LINK = "cable"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def machines() -> Iterator[list[str]]:
    """Two namespaces with an address each and one link between them."""
    try:
        ip("netns", "add", NAMES[0])
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        pytest.skip(f"network namespaces cannot be made here: {error}")
    try:
        ip("netns", "add", NAMES[1])
        ip("-n", NAMES[0], "link", "add", LINK, "type", "veth", "peer", "name", LINK, "netns", NAMES[1])
        for name, address in zip(NAMES, ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", LINK)
            for device in ("lo", LINK):
                ip("-n", name, "link", "set", device, "up")
        yield NAMES
    finally:
        for name in NAMES:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def test_a_cut_link_ends_both_with_a_sentence_and_training_goes_on_later(
    machines: list[str], tmp_path: Path
) -> None:
    write_rows(tmp_path / "rows.jsonl")
    configure(tmp_path, every=1e-9, epochs=200, timeout_s=TIMEOUT_S)
    shared = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": ADDRESSES[0],
        "MASTER_PORT": "29511",
        "GLOO_SOCKET_IFNAME": LINK,
    }
    processes = [
        subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, "-m", "widemax", "train", "c.toml", "--out", "run"],
            cwd=tmp_path,
            env={**os.environ, **shared, "RANK": str(rank)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, name in enumerate(machines)
    ]
    try:
        await_step(processes[0], tmp_path / "run", 3)
        ip("-n", machines[0], "link", "set", LINK, "down")
        for process in processes:
            _, error = process.communicate(timeout=TIMEOUT_S + PATIENCE_S)
            assert process.returncode != 0
            assert "no answer from another process of this training" in error
    finally:
        for process in processes:
            process.kill()
            process.wait()
    reached = read_progress(latest_checkpoint(tmp_path / "run")).step
    resumed = start(tmp_path, "resume", "run", "--workers", "2")
    await_step(resumed, tmp_path / "run", reached + 1)
    resumed.terminate()
    resumed.communicate()
    assert resumed.returncode == 130

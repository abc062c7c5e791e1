"""The one-file test: one module outside the package, and everything that lists members knows it.

The module is found by the entry points of its distribution, which is what ``pip install`` leaves behind.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from widemax.artifact import Model
from widemax.losses import losses

TESTS = Path(__file__).parents[1]

MODULE = '''
"""A loss and a sampler from elsewhere."""

import torch
from widemax.losses import losses
from widemax.losses.cross_entropy import cross_entropy
from widemax.samplers import ReplacementSampler, samplers


@losses.register("scratch_loss")
def scratch_loss(logits, labels, *, power: float = 1.0, ignore_index: int = -100):
    """Cross-entropy to a power."""
    return cross_entropy(logits, labels, ignore_index=ignore_index) ** power


@samplers.register("scratch_sampler")
class ScratchSampler(ReplacementSampler):
    """Half of the draws give an even class, half an odd one."""

    def draw_ids(self, num_sampled, *, generator):
        half = torch.rand(2, num_sampled, dtype=torch.float64, generator=generator)
        odd = (half[0] < 0.5) & (self.num_classes > 1)
        count = torch.where(odd, self.num_classes // 2, (self.num_classes + 1) // 2)
        return (half[1] * count).long() * 2 + odd.long()

    def probs(self, class_ids):
        evens, odds = (self.num_classes + 1) // 2, self.num_classes // 2
        share = 0.5 if odds else 1.0
        return torch.where(class_ids % 2 == 0, share / evens, 0.5 / max(odds, 1)).double()
'''


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """With a distribution "scratch" installed in a folder of the Python path."""
    folder = tmp_path / "site"
    info = folder / "scratch-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "scratch_members.py").write_text(MODULE, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: scratch\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[widemax.losses]\nscratch = scratch_members\n[widemax.samplers]\nscratch = scratch_members\n"
    )
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    }


def run(arguments: list[str], environment: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=cwd,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


VERBS = """
import json, sys
from widemax.cli import main

for words in json.loads(sys.argv[1]):
    sys.argv = ["widemax", *words]
    try:
        main()
    except SystemExit as stopped:
        assert not stopped.code, words
"""


def test_the_command_line_lists_them_and_a_config_trains_with_them(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    rows = [f"{color} thing number {n},{color}" for color in ("red", "green", "blue") for n in range(40)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    sections = {
        "exact": ["head.kind=exact", 'head.loss={kind="scratch_loss", power=1.5}'],
        "sampled": ["head.kind=sampled", "head.sampler=scratch_sampler"],
    }
    verbs = [["init", "--help"]]
    for out, settings in sections.items():
        words = [word for setting in (*settings, "train.epochs=2") for word in ("--set", setting)]
        verbs.append(["train", "rows.csv", "--target", "label", "--out", out, *words])
    verbs.append(["predict", "exact", "rows.csv", "-k", "1"])
    out = run(["-c", VERBS, json.dumps(verbs)], environment, tmp_path)
    assert "scratch_loss" in out
    assert "scratch_sampler" in out
    assert '"label": "red"' in out
    assert "scratch_loss" not in losses.names()
    for folder in sections:
        assert "scratch" in (tmp_path / folder / "config.toml").read_text(encoding="utf-8")
    with pytest.raises(Exception, match="unknown loss 'scratch_loss'"):
        Model.load(tmp_path / "exact")


@pytest.mark.slow
def test_the_conformance_tests_run_over_them(environment: dict[str, str]) -> None:
    command = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/contracts",
        "-k",
        "scratch",
        "-m",
        "not slow",
    ]
    shown = run([*command, "--collect-only"], environment, TESTS.parent)
    for name in ("scratch_loss", "scratch_sampler"):
        assert f"test_laws.py::test_{'loss' if 'loss' in name else 'sampler'}" in shown
        assert name in shown
    assert " passed" in run(command, environment, TESTS.parent)

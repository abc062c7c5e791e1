"""A loss or a sampler is two files, itself and its test: with no other change the suite accepts it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

LOSS = '''
"""A loss that a test adds."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from widemax.losses.base import losses
from widemax.losses.cross_entropy import cross_entropy


@losses.register("my_loss")
def my_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    scale: Annotated[float, Field(gt=0)] = 2.0,
    ignore_index: int = -100,
) -> Tensor:
    """Cross-entropy in other units.

    ℓ_b = −scale · log p_y with p = softmax(s).

    Use:
        Never, outside of a test.

    Args:
        logits: [B, C] logits.
        labels: [B] class ids.
        scale: the size of a nat.
        ignore_index: rows with this class id have loss 0.

    Returns:
        [B] losses.

    Raises:
        LabelError: a class id outside [0, C), with its row.

    Example:
        >>> import torch
        >>> my_loss(torch.zeros(1, 2), torch.tensor([0]))  # 2 log(2)
        tensor([1.3863])

    Source:
        This test.
    """
    return scale * cross_entropy(logits, labels, ignore_index=ignore_index)
'''

LOSS_TEST = '''
"""A nat is counted twice."""

import torch

from widemax.losses import losses


def test_one_nat_is_two():
    expected = torch.tensor([2.0, 2.0]) * torch.tensor(3.0).log()
    torch.testing.assert_close(losses["my_loss"](torch.zeros(2, 3), torch.tensor([0, 2])), expected)
'''

SAMPLER = '''
"""A sampler that a test adds. Shapes: S sampled."""

import torch
from torch import Tensor

from widemax.samplers.base import samplers
from widemax.samplers.replacement import ReplacementSampler


@samplers.register("my_sampler")
class MySampler(ReplacementSampler):
    """Draws even classes half of the time, and odd ones otherwise.

    q(y) = 1 / (2 · the number of classes that are even, or odd, like y).

    Use: never, outside of a test.

    Args:
        classes: how many there are.
        duplicates: what becomes of a class drawn twice: it is dropped, kept, or another is drawn for it.

    Example:
        >>> MySampler(4).probs(torch.arange(3)).tolist()
        [0.25, 0.25, 0.25]

    Source: this test.
    """

    def draw_ids(self, num_sampled: int, *, generator: torch.Generator) -> Tensor:
        half_2S = torch.rand(2, num_sampled, dtype=torch.float64, generator=generator)
        odd_S = (half_2S[0] < 0.5) & (self.num_classes > 1)
        count_S = torch.where(odd_S, self.num_classes // 2, (self.num_classes + 1) // 2)
        return (half_2S[1] * count_S).long() * 2 + odd_S.long()

    def probs(self, class_ids: Tensor) -> Tensor:
        evens, odds = (self.num_classes + 1) // 2, self.num_classes // 2
        share = 0.5 if odds else 1.0
        return torch.where(class_ids % 2 == 0, share / evens, 0.5 / max(odds, 1)).double()
'''

SAMPLER_TEST = '''
"""Even and odd classes are drawn alike."""

import torch

from widemax.samplers import samplers


def test_half_of_the_draws_are_odd():
    sampler = samplers["my_sampler"](3)
    assert sampler.probs(torch.arange(3)).tolist() == [0.25, 0.5, 0.25]
    ids = sampler.draw_ids(10_000, generator=torch.Generator().manual_seed(0))
    assert abs((ids == 1).double().mean().item() - 0.5) < 0.02
'''

FILES = {
    "src/widemax/losses/my_loss.py": LOSS,
    "tests/losses/test_my_loss.py": LOSS_TEST,
    "src/widemax/samplers/my_sampler.py": SAMPLER,
    "tests/samplers/test_my_sampler.py": SAMPLER_TEST,
}


SUITE = [
    *("tests/losses", "tests/samplers/test_my_sampler.py", "tests/cli/test_app.py", "tests/test_arrows.py"),
    *("tests/test_public_docs.py", "tests/test_public_names.py", "tests/test_guides.py"),
    *("tests/test_registry.py", "tests/test_no_pickle.py", "tests/test_no_private_members.py"),
]
"""What looks at all members or all modules, beside the contracts."""


@pytest.mark.slow
def test_a_copy_of_the_tree_with_a_new_loss_and_a_new_sampler_passes(tmp_path: Path) -> None:
    for folder in ("benchmarks", "docs", "src", "tests"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "Makefile", "CONTRIBUTING.md"):
        shutil.copy(REPOSITORY / file, tmp_path)
    for name, source in FILES.items():
        (tmp_path / name).write_text(source.lstrip(), encoding="utf-8")
    passed = [run(["-m", "not slow", *SUITE], tmp_path), run(["-k", "my_", "tests/contracts"], tmp_path)]
    assert all("my_loss" in shown and "my_sampler" in shown for shown in passed)


def run(arguments: list[str], tree: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--verbose", "-p", "no:cacheprovider", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tree / "src")},
        cwd=tree,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-10_000:]
    return done.stdout

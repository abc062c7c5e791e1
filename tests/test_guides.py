"""What the guides show is what their code answers."""

import doctest
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
GUIDE = (DOCS / "which-sampler.md").read_text("utf-8")


@pytest.mark.parametrize("guide", ["python.md", "torch.md"])
def test_what_a_guide_shows_is_what_happens(
    guide: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / guide).read_text("utf-8"), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    session = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, guide, guide, 0)
    assert len(session.examples) > 10
    assert doctest.DocTestRunner().run(session).failed == 0


def laws(text: str) -> list[str]:
    return [line.partition(":")[0] for line in text.splitlines()]


def test_the_guide_shows_what_its_sampler_answers(capsys: pytest.CaptureFixture[str]) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)
    (shown,) = re.findall(r"```text\n(.*?)```", GUIDE, flags=re.DOTALL)
    exec(compile(script, "which-sampler.md", "exec"), {})
    assert laws(capsys.readouterr().out) == laws(shown)

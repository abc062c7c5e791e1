"""What the guides show is what their code answers."""

import doctest
import re
import subprocess
import sys
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


@pytest.mark.slow
def test_the_commands_of_the_guide_to_recommendations_run(tmp_path: Path) -> None:
    text = (DOCS / "recommend.md").read_text("utf-8")
    blocks = text.split("```")[1::2]
    make_events, in_python = (block[len("python") :] for block in blocks if block.startswith("python"))
    commands = "".join(block for block in blocks if block.startswith("\n"))
    python = f"{sys.executable} - <<'END'\n"
    script = f'{python}{make_events}END\nwidemax() {{ {sys.executable} -m widemax "$@"; }}\n'
    script += f"{commands}{python}{in_python}END\n"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert '"known": false' in done.stdout
    assert done.stdout.count("Prediction(") == 12

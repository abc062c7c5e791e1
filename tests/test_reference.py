"""docs/reference is what the docstrings say, and every docstring says what a page needs."""

import inspect
import re
import runpy
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
GENERATOR = runpy.run_path(str(ROOT / "docs" / "build_reference.py"))
ROOMS, members, sections = GENERATOR["ROOMS"], GENERATOR["members"], GENERATOR["sections"]
MEMBERS = [(folder, name) for folder, room in ROOMS.items() for name in members(room.registry)]


def read(folder):
    return {str(path.relative_to(folder)): path.read_text("utf-8") for path in folder.rglob("*.md")}


def stale(committed, generated):
    """Pages that are missing, out of date, or left over."""
    names = committed.keys() | generated.keys()
    return sorted(name for name in names if committed.get(name) != generated.get(name))


def test_the_committed_pages_are_those_of_the_docstrings(tmp_path):
    (tmp_path / "losses").mkdir()
    (tmp_path / "losses" / "gone.md").touch()
    GENERATOR["write"](tmp_path)
    generated = read(tmp_path)
    assert len(generated) == len(MEMBERS) + 1
    assert stale(read(REFERENCE), generated) == [], "docs/reference is out of date; run `make docs`."


def test_a_stale_page_is_found():
    assert stale({"a.md": "old", "b.md": "", "c.md": ""}, {"a.md": "new", "b.md": "", "d.md": ""}) == [
        "a.md",
        "c.md",
        "d.md",
    ]


FORMULA = re.compile(r"[=←∝·Σ√−+]")


def lacks(member, *, meanings):
    """What a page needs and the docstring of a member does not say."""
    found = sections(member.__doc__)
    description = found.pop("")
    summary = description.partition("\n\n")[0]
    needed = {
        "a summary sentence": summary.endswith((".", ":")),
        "a formula or a table": FORMULA.search(description),
        "Use": found.get("Use"),
        "Example": ">>>" in found.get("Example", ""),
        "Source": found.get("Source"),
    }
    for name, parameter in inspect.signature(member).parameters.items():
        needed[f"{parameter.kind.description} {name}"] = meanings.get(name)
    return [part for part, is_there in needed.items() if not is_there]


@pytest.mark.parametrize(("folder", "name"), MEMBERS)
def test_a_docstring_says_what_its_page_needs(folder, name):
    member = ROOMS[folder].registry[name]
    assert lacks(member, meanings=GENERATOR["argument_meanings"](member)) == []


def undocumented(logits, labels, *, gamma=2.0):
    """Loss without a formula

    Args:
        logits: [B, C] logits.
        labels: [B] class ids.

    Returns:
        [B] losses.
    """


def without_use(logits):
    """Loss.

    ℓ = −log p.

    Args:
        logits: [B, C] logits.

    Example:
        >>> 1 + 1
        2

    Source: nobody.
    """


def test_what_a_docstring_lacks_is_reported():
    meanings = {"logits": "[B, C] logits.", "labels": "[B] class ids."}
    assert lacks(without_use, meanings=meanings) == ["Use"]
    assert lacks(undocumented, meanings=meanings) == [
        "a summary sentence",
        "a formula or a table",
        "Use",
        "Example",
        "Source",
        "keyword-only gamma",
    ]


@pytest.mark.parametrize(("folder", "name"), MEMBERS)
def test_an_example_runs_as_its_page_shows_it(folder, name):
    page = (REFERENCE / folder / f"{name}.md").read_text("utf-8")
    script = page.partition("## Example\n\n```python\n")[2].partition("```")[0]
    assert script
    with torch.random.fork_rng():
        exec(compile(script, f"{name}.md", "exec"), {})


def test_links_lead_to_files():
    for path in REFERENCE.rglob("*.md"):
        for target in re.findall(r"\]\(([^)]+)\)", path.read_text("utf-8")):
            assert (path.parent / target).resolve().is_file(), f"{path}: {target}"


markdown, prose = GENERATOR["markdown"], GENERATOR["prose"]


def test_what_markdown_would_read_is_escaped():
    assert markdown("softmax(h)_c and Σ_j s_bj * 2 <b>") == "softmax(h)\\_c and Σ_j s_bj \\* 2 \\<b>"
    assert markdown("``a_*`` of :func:`~widemax.losses.poly`") == "`a_*` of `poly`"
    assert GENERATOR["cell"]("q(y|x),\nwhich") == "q(y\\|x), which"


def test_a_formula_stands_apart_from_its_sentence():
    assert (
        prose("ℓ_b = (1 − p)^2: the square.\nNo more.")
        == "```text\nℓ_b = (1 − p)^2\n```\n\nThe square. No more."
    )
    assert prose("At step t::\n\n    a ← b") == "At step t:\n\n```text\na ← b\n```"
    words = "What is so far from its sign = 1 is no formula."
    assert prose(words) == words


def test_a_drawn_table_is_a_table():
    drawn = "====  ==========\nname  what it is\n====  ==========\na|b   c\n====  =========="
    assert prose(drawn) == "| name | what it is |\n|---|---|\n| a\\|b | c |"


def test_the_guide_shows_what_its_sampler_answers(capsys):
    guide = (ROOT / "docs" / "which-sampler.md").read_text("utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL)
    (shown,) = re.findall(r"```text\n(.*?)```", guide, flags=re.DOTALL)
    exec(compile(script, "which-sampler.md", "exec"), {})

    def laws(text):
        return [line.partition(":")[0] for line in text.splitlines()]

    assert laws(capsys.readouterr().out) == laws(shown)
    assert set(re.findall(r"reference/samplers/(\w+)\.md", guide)) <= set(members(ROOMS["samplers"].registry))

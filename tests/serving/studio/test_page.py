"""The page in Debian's Chromium over a real server and real runs: what a reader sees, types and clicks."""

import csv
import fcntl
import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.serving.conftest import Process
from tests.serving.studio.conftest import Studio

from widemax import Config, train
from widemax.parsing import Parser, words_in

REPOSITORY = Path(__file__).parents[3]
AXE = REPOSITORY / "studio" / "node_modules" / "axe-core" / "axe.min.js"
sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no browser: apt-get install chromium")

VIEWS = {
    "runs": "text=second",
    "runs?new=1&compare=1&data=drinks.csv": "text=McNemar",
    "nowhere?run=first": "text=There is no view “nowhere”",
    "predict?run=first&text=leaf+cup": "text=of the probability",
    "mistakes?run=first": "text=Surest mistakes",
    "classes?run=first&at=0&data=drinks.csv": "svg[aria-label^='Accuracy by class frequency']",
    "playground": "text=its two features",
    "audit?run=first": "text=Run the audit",
}
"""Views, and what stands in each once it is drawn."""
VIEWS_OF_SYSTEMS = {
    "predict?run=trees&text=the+dog+sees+a+bird+.": "svg >> text=nsubj",
    "predict?run=lines&text=one+dog+.": "text=larger is better",
    "predict?run=letters&text=the+cat": "mark",
    "runs?run=trees": "text=LAS",
    "mistakes?run=trees": "text=this is asked of classifiers",
}


def shown_both_ways(views: dict[str, str]) -> list[Any]:
    """Each view in one theme and width in quick tests, which take turns, and in the other in slow ones."""
    ways = [("light", 1440), ("dark", 375)]
    return [
        pytest.param(view, shown, *way, marks=[pytest.mark.slow] * ((at + turn) % 2), id=f"{view}-{way[0]}")
        for at, (view, shown) in enumerate(views.items())
        for turn, way in enumerate(ways)
    ]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any, studio: Any) -> Iterator[Callable[..., Any]]:
    """Opens a view. What goes wrong in the page, and whatever it asks of another host, fails the test."""
    contexts, wrong = [], []

    def visit(
        view: str,
        *,
        at: Any = studio,
        theme: str = "light",
        width: int = 1440,
        away: bool = False,
        headers: dict[str, str] | None = None,
    ) -> Any:
        size = {"width": width, "height": 900}
        context = browser.new_context(viewport=size, color_scheme=theme, extra_http_headers=headers)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request", lambda request: request.url.startswith((at.url, "blob:")) or wrong.append(request.url)
        )
        if not away:
            page.on("console", lambda told: told.type in ("error", "warning") and wrong.append(told.text))
        page.goto(f"{at.url}/#/{view}")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.mark.parametrize(("view", "shown", "theme", "width"), shown_both_ways(VIEWS))
def test_views_are_whole_and_open_to_all(
    visit: Any, view: str, shown: str, theme: str, width: int, tmp_path: Path
) -> None:
    page = visit(view, theme=theme, width=width)
    page.wait_for_selector(shown)
    check_whole(page, tmp_path / "view.png", theme=theme)


@pytest.mark.slow
def test_the_picture_of_the_readme_shows_the_page(visit: Any, tmp_path: Path) -> None:
    """``WIDEMAX_PICTURES=docs/images`` puts a new one there."""
    image = pytest.importorskip("PIL.Image", reason="needs the extra images")
    data = {"train": "clinc150", "input": "text", "target": "intent"}
    train(Config(data=data, output={"dir": str(tmp_path / "intents")}))
    studio = Studio(tmp_path)
    try:
        page = visit("mistakes?run=intents&data=clinc150:test", at=studio, width=1280)
        page.wait_for_selector("text=Surest mistakes")
        picture = Path(os.environ.get("WIDEMAX_PICTURES", tmp_path), "studio.png")
        page.screenshot(path=picture, clip={"x": 0, "y": 0, "width": 1280, "height": 860})
    finally:
        studio.stop()
    image.open(picture).quantize(96).save(picture, optimize=True)
    taken, shown = (
        np.asarray(image.open(path).convert("L").resize((64, 43)), np.float64)
        for path in (picture, REPOSITORY / "docs" / "images" / "studio.png")
    )
    assert np.abs(taken - shown).mean() < 4  # of 255; bars differ from one machine to another


BROKEN_WORDS = """[...document.querySelectorAll("th, td")].filter((cell) => {
    const range = document.createRange();
    range.selectNodeContents(cell);
    const isWord = !cell.children.length && /^\\w+$/.test(cell.textContent.trim());
    return isWord && range.getClientRects().length > 1;
}).map((cell) => cell.textContent)"""
"""Words of tables that stand on several lines."""


def check_whole(page: Any, picture: Path, *, theme: str) -> None:
    """That a view is as wide as the screen, in the colors of the theme, and has no grave finding of axe."""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(BROKEN_WORDS) == []
    assert len(page.screenshot(path=picture, full_page=True)) > 10_000
    luminance = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]")
    assert (luminance > 128) == (theme == "light")
    if AXE.is_file():
        page.evaluate(AXE.read_text("utf-8"))
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        grave = [entry for entry in found if entry["impact"] in ("serious", "critical")]
        assert [(entry["id"], [node["html"][:120] for node in entry["nodes"]]) for entry in grave] == []


def test_what_is_typed_is_answered_and_stands_in_the_address(visit: Any, studio: Any) -> None:
    page = visit("predict?run=first")
    page.get_by_label("text").fill("bean black 3")
    best = studio.post("runs/first/predict", inputs=[{"text": "bean black 3"}])["rows"][0][0]
    page.wait_for_selector(f"li:has-text('{best['label']}') >> text={100 * best['probability']:.1f} %")
    page.wait_for_selector("text=What moved the logit of coffee")
    assert "text=bean+black+3" in page.url
    page.reload()
    page.wait_for_selector("li:has-text('coffee')")
    assert page.get_by_label("text").input_value() == "bean black 3"


def test_a_set_that_is_too_large_says_to_abstain(visit: Any, folder: Path) -> None:
    served = Process("serve", folder / "first", "--port", 0, "--coverage", 0.9, says="serving ", under="/v1")
    try:
        for text in ("bean black", "zzz"):
            asked = {"inputs": [{"text": text}], "k": 1}
            (row,) = served.client.post("predict", json=asked).raise_for_status().json()["rows"]
            page = visit(f"predict?text={text.replace(' ', '+')}&k=1", at=served)
            noun = "class" if row["set_size"] == 1 else "classes"
            page.wait_for_selector(f"text=The prediction set has {row['set_size']} {noun}")
            assert page.locator("text=better no answer").count() == row["abstain"]
        assert row["abstain"]
    finally:
        served.stop()


def test_a_file_is_predicted_and_downloaded(visit: Any, studio: Any, tmp_path: Path) -> None:
    texts = ['green leaf, "fresh"', "=cup", "fruit glass"] * 100
    given = tmp_path / "drinks to name.csv"
    with given.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "text"), *enumerate(texts)])
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("txt\nleaf\n")
    page = visit("predict?run=first&k=2")
    page.set_input_files("input[type=file]", wrong)
    page.wait_for_selector('text=wrong.csv, row 1, has no column "text"; it has txt.')
    page.set_input_files("input[type=file]", given)
    page.wait_for_selector("text=300 of 300 rows")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    with Path(download.value.path()).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = studio.post("runs/first/predict", inputs=[{"text": text} for text in texts], k=2)["rows"]
    assert [row["label_1"] for row in rows] == [answer[0]["label"] for answer in expected]
    assert [row["text"] for row in rows[:2]] == [texts[0], "'=cup"]  # no spreadsheet runs it


def test_a_server_that_was_killed_goes_on_where_it_was(visit: Any, folder: Path) -> None:
    first = Studio(folder)
    page = visit("predict?run=first&text=bean", at=first, away=True)
    page.wait_for_selector("li:has-text('coffee')")
    first.stop(signal.SIGKILL)
    page.get_by_label("text").fill("leaf leaf leaf")
    page.wait_for_selector("text=The server does not answer")
    second = Studio(folder, port=int(first.url.rpartition(":")[2]))
    try:
        page.wait_for_selector("li:first-child:has-text('tea')")
        page.wait_for_selector("text=The server does not answer", state="detached")
        assert page.get_by_label("text").input_value() == "leaf leaf leaf"
    finally:
        second.stop()


def test_from_another_machine_the_token_opens_it(visit: Any, folder: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    studio = Studio(folder, "--token-file", token)
    try:
        # As a proxy on this machine says it; the refusals stand in the console.
        page = visit("audit?run=first", at=studio, away=True, headers={"X-Forwarded-For": "203.0.113.7"})
        page.get_by_label("token").fill("another")
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_selector("text=the token is not the one of this server")
        check_whole(page, tmp_path / "view.png", theme="light")
        page.get_by_label("token").fill("0123456789abcdef")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("link", name="Mistakes").click()
        page.wait_for_selector("text=Surest mistakes")
        assert page.evaluate("document.cookie") == ""  # no script reads it
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_selector("text=stands in the file of")
    finally:
        studio.stop()


def test_a_config_fills_the_form(visit: Any, tmp_path: Path) -> None:
    page = visit("runs?new=1", away=True)
    page.get_by_text("Fill in from a config").click()
    page.get_by_label("its TOML").fill("train.epoch = 1")
    page.get_by_role("button", name="Fill in").click()
    page.wait_for_selector("text=did you mean 'epochs'?")
    config = tmp_path / "config.toml"
    config.write_text('data = {train = "drinks.csv", target = "drink"}\ntrain = {epochs = 5, batch_size = 9}')
    page.get_by_label("or a file").set_input_files(config)
    page.wait_for_selector("pre:has-text('--set train.epochs=5 --set train.batch_size=9')")
    assert (page.get_by_label("epochs").input_value(), "set=train.batch_size%3D9" in page.url) == ("5", True)
    page.get_by_label("or that of a run").select_option("second")
    page.wait_for_selector("pre:has-text('--seed 1 --out run-1')")


def test_curves_grow_while_another_process_trains(visit: Any, folder: Path) -> None:
    run = folder / "growing"
    shutil.copytree(folder / "first", run)
    metrics = run / "metrics.jsonl"
    records = [json.loads(line) for line in metrics.read_text("utf-8").splitlines()]
    metrics.write_text("", "utf-8")
    (run / "manifest.json").unlink()
    (run / ".widemax").mkdir(exist_ok=True)
    with (run / ".widemax" / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        page = visit("runs?run=growing")
        page.wait_for_selector("text=Its first record comes with the end of the first epoch")
        for number in (1, 2):
            with metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(records[number - 1]) + "\n")
            page.wait_for_selector(f"[data-records='{number}'] canvas")
    page.wait_for_selector("tr:has-text('growing') >> text=stopped early")
    shutil.rmtree(run)


def test_mistakes_follow_the_pair_that_is_chosen(visit: Any, studio: Any) -> None:
    pair = studio.get("runs/first/evaluation", data="drinks.csv")["confusions"][0]
    page = visit("mistakes?run=first&data=drinks.csv")
    page.get_by_role("button", name=re.compile(f"{pair['label']}.*{pair['predicted']}")).first.click()
    page.wait_for_selector(f"tbody tr:nth-child({min(pair['rows'], 25)})")
    page.wait_for_selector(f"tbody tr:nth-child({pair['rows'] + 1})", state="detached")
    assert f"label={pair['label_id']}" in page.url
    page.get_by_label("answer only from a confidence of").fill("1")
    page.wait_for_selector("text=No row is answered")


def test_a_class_is_found_and_shown(visit: Any) -> None:
    page = visit("classes?run=first")
    page.get_by_label("find a class").fill("jui")
    page.get_by_role("button", name=re.compile("juice")).click()
    page.wait_for_selector("h2:has-text('juice')")
    pixels = "c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer"
    painted = f"c => new Set(new Uint32Array({pixels})).size"
    assert page.eval_on_selector("canvas", painted) > 1
    page.locator("canvas").focus()
    page.keyboard.press("+")
    page.get_by_role("button", name="Whole").click()


@pytest.mark.slow
def test_a_million_labels_are_searched_and_a_part_of_them_drawn(visit: Any, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = enumerate(draw.standard_normal((1_000_000, 2)).round(3).tolist())
    lines = [f"{x},{y},item {number:07d}\n" for number, (x, y) in rows]
    (tmp_path / "wide.csv").write_text("x,y,item\n" + "".join(lines), "utf-8")
    sections = {
        "data": {"train": str(tmp_path / "wide.csv"), "target": "item", "max_valid_rows": 100},
        "encoder": {"dim": 4},
        "head": {"kind": "sampled", "dim": 4},
        "train": {"time_limit_s": 1.0, "refit": False},
        "output": {"dir": str(tmp_path / "wide")},
    }
    train(Config.from_dict(sections))
    studio = Studio(tmp_path)
    try:
        page = visit("classes?run=wide&find=0777777", at=studio)
        page.get_by_role("button", name="item 0777777").click()
        page.wait_for_selector("h2:has-text('item 0777777')")
        page.get_by_label("find a class").fill("ITEM 00")
        page.wait_for_selector("text=100,000 found")
        page.wait_for_selector("text=200,000 of 1,000,000 classes, drawn at random")
        page.wait_for_selector("canvas")
        page.wait_for_selector("text=Of the first 4,096 rows.", timeout=300_000)
    finally:
        studio.stop()


def test_the_playground_answers_and_trains(visit: Any) -> None:
    page = visit("playground")
    page.wait_for_selector("[aria-label*='Sigmoid: 0.38, 0.77, 0.48, 0.92. Softmax: 0.04, 0.21, 0.06, 0.70']")
    page.get_by_label("temperature").fill("1")
    page.wait_for_selector("[aria-label*='Softmax: 0.22, 0.26, 0.23, 0.29']")
    assert "t=10" in page.url
    panel = page.locator("section", has=page.locator("#regions"))
    panel.get_by_role("button", name="Step", exact=True).click()
    panel.locator("div:has(> span:text-is('steps')) b:text-is('1')").wait_for()
    panel.get_by_role("button", name="Play").click()
    panel.locator("div:has(> span:text-is('steps')) b:text-matches('^[1-9][0-9]')").wait_for()
    panel.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="losses.cross_entropy").first.click()
    page.wait_for_selector("dialog[open] >> text=cross_entropy(logits")


def test_keys_alone_lead_everywhere(visit: Any) -> None:
    page = visit("playground")
    page.wait_for_selector("h1")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.get_by_role("link", name="Runs", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("h1:has-text('Runs')")
    page.get_by_role("button", name=re.compile("Colors: auto")).press("Enter")
    assert page.evaluate("document.documentElement.style.colorScheme") == "light"


@pytest.fixture(scope="module")
def of_systems(systems: Path) -> Iterator[Any]:
    """Studio over a parser, a translator and a language model."""
    studio = Studio(systems)
    yield studio
    studio.stop()


@pytest.mark.parametrize(("view", "shown", "theme", "width"), shown_both_ways(VIEWS_OF_SYSTEMS))
def test_views_of_systems_are_whole_and_open_to_all(
    visit: Any, of_systems: Any, view: str, shown: str, theme: str, width: int, tmp_path: Path
) -> None:
    page = visit(view, at=of_systems, theme=theme, width=width, away=view.startswith("mistakes"))
    page.wait_for_selector(shown)
    check_whole(page, tmp_path / "view.png", theme=theme)


def test_sentences_get_trees_as_the_library_draws_them(visit: Any, of_systems: Any, systems: Path) -> None:
    page = visit("predict?run=trees", at=of_systems)
    page.get_by_label("sentences, one a line").fill("the dog sees a bird .\n\n<b>Ann</b> hears Bob .")
    page.wait_for_selector(".tree >> nth=1")
    parser = Parser.load(systems / "trees")
    for at, words in enumerate((words_in("the dog sees a bird ."), words_in("<b>Ann</b> hears Bob ."))):
        (tree,) = parser.parse([words])
        told = page.locator(".tree").nth(at).locator("svg text").all_text_contents()
        assert sorted(told) == sorted([*words, *tree.relations])
    page.get_by_text("6 words as a table").click()
    assert page.locator("details >> nth=0 >> tbody tr").count() == 6


def test_lines_get_translations_and_their_alternatives(visit: Any, of_systems: Any) -> None:
    page = visit("predict?run=lines&best=2", at=of_systems)
    page.get_by_label("lines to translate").fill("one dog .")
    asked = {"inputs": ["one dog ."], "beam": 5, "k": 2}
    (row,) = of_systems.post("runs/lines/predict", **asked)["rows"]
    page.wait_for_selector("text=larger is better")
    assert row["translation"] in page.locator(".best").inner_text()
    (other,) = row["alternatives"]
    assert other["translation"] in page.get_by_role("list", name="Alternatives").inner_text()
    assert "text=one+dog" in page.url


def test_texts_go_on_and_are_drawn_again(visit: Any, of_systems: Any) -> None:
    page = visit("predict?run=letters&tokens=30&text=the", at=of_systems)
    page.wait_for_selector("mark")
    first = page.locator("mark").text_content()
    page.get_by_role("button", name="Draw again").click()
    page.wait_for_function("first => document.querySelector('mark')?.textContent !== first", arg=first)
    assert "seed=1" in page.url

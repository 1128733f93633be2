"""Every slide of the built lectures, shown in a browser: `make check-book`."""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("playwright")

ROOT = Path(__file__).resolve().parents[2]
DECKS = sorted((ROOT / "build" / "slides").glob("[0-9]*.html"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALLEST = 16
LINES_OF_CODE, ROWS_OF_A_TABLE = 8, 16
LOOK = """() => {
    const slide = Reveal.getCurrentSlide(), frame = slide.getBoundingClientRect();
    const shown = [...slide.querySelectorAll("*")].filter(one => one.getClientRects().length);
    const text = one => [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    const outside = one => {
        const box = one.getBoundingClientRect();
        return box.right > frame.right + 1 || box.bottom > frame.bottom + 1 || box.left < frame.left - 1;
    };
    const count = selector => slide.querySelectorAll(selector).length;
    return {
        text: slide.innerText,
        overflow: shown.filter(outside).map(one => one.outerHTML.slice(0, 80)),
        smallest: Math.min(...shown.filter(text).map(one => parseFloat(getComputedStyle(one).fontSize))),
        code: Math.max(0, ...[...slide.querySelectorAll(".highlight")].map(one => one.innerText.trim().split("\\n").length)),
        rows: count("tr"),
        figures: [...slide.querySelectorAll("img")].map(one => {
            const scale = Math.min(one.clientWidth / one.naturalWidth, one.clientHeight / one.naturalHeight);
            return {alt: one.alt, width: one.naturalWidth * scale, height: one.naturalHeight * scale};
        }),
    };
}"""

each = pytest.mark.parametrize("deck", DECKS, ids=lambda path: path.stem)


def slides(page):
    """What stands on each slide, in the lecture's order."""
    page.wait_for_function("window.Reveal && Reveal.isReady()")
    page.evaluate("document.fonts.ready")
    for _ in range(page.evaluate("Reveal.getTotalSlides()")):
        yield page.evaluate(LOOK)
        page.keyboard.press("ArrowRight")


def minutes(deck):
    """How long the notebook of `deck` takes, as its first cells say."""
    notebook = json.loads((ROOT / "notebooks" / f"{deck.stem}.ipynb").read_text(encoding="utf-8"))
    return int(re.search(r"\*(\d+) minutes", "".join(notebook["cells"][1]["source"]))[1])


def test_a_lecture_for_each_notebook(open_page):
    page = open_page("slides/index.html")
    links = page.eval_on_selector_all("a", "all => all.map(one => one.getAttribute('href'))")
    assert links == [f"{path.stem}.html" for path in NOTEBOOKS] == [path.name for path in DECKS]
    assert page.faults == []


@each
def test_every_slide_can_be_read(open_page, deck):
    page = open_page(deck.as_uri())
    shown = list(slides(page))
    assert page.faults == []
    assert 10 <= len(shown) <= max(20, minutes(deck) / 1.5)
    for number, slide in enumerate(shown, start=1):
        assert slide["text"].strip() or slide["figures"], f"slide {number} is empty"
        assert slide["overflow"] == [], f"slide {number}"
        assert slide["smallest"] >= SMALLEST, f"slide {number}"
        assert slide["code"] <= LINES_OF_CODE and slide["rows"] <= ROWS_OF_A_TABLE, f"slide {number}"
        for figure in slide["figures"]:
            assert len(figure["alt"]) > 40, f"slide {number}"
            assert figure["width"] > 1100 or figure["height"] > 330, f"slide {number}: a figure too small to read"


@each
def test_a_prediction_stands_before_its_answer(open_page, deck):
    """After **Predict** nothing but text on a slide: its answer comes on the next."""
    page = open_page(deck.as_uri(), java_script_enabled=False)
    answers = page.eval_on_selector_all(
        "section > p:has(> strong:first-child)",
        """all => all.filter(one => one.textContent.startsWith("Predict."))
                  .map(one => one.parentElement.querySelectorAll("p ~ :is(pre, img, .dataframe, .highlight)").length)""")
    assert answers and set(answers) == {0}


@each
def test_the_notes_are_the_speakers(open_page, deck):
    page = open_page(deck.as_uri(), java_script_enabled=False)
    notebook = json.loads((ROOT / "notebooks" / f"{deck.stem}.ipynb").read_text(encoding="utf-8"))
    types = [cell["metadata"].get("slideshow", {}).get("slide_type") for cell in notebook["cells"]]
    assert page.locator("aside.notes").count() == types.count("notes") >= 2


def test_the_speakers_view_shows_the_notes_and_leads_the_lecture(open_page):
    """The letter S opens a window of its own; who goes on there goes on in the hall too."""
    page = open_page(f"slides/{DECKS[0].name}")
    page.wait_for_function("window.Reveal && Reveal.isReady()")
    while not page.evaluate("Reveal.getCurrentSlide().querySelector('aside.notes')"):
        assert not page.evaluate("Reveal.isLastSlide()")
        page.keyboard.press("ArrowRight")
    wanted = page.evaluate("Reveal.getCurrentSlide().querySelector('aside.notes').textContent.trim()")
    with page.expect_popup() as opened:
        page.keyboard.press("s")
    speaker = opened.value
    speaker.wait_for_function("document.querySelector('.speaker-controls-notes .value').textContent.trim()")
    assert wanted.split() == speaker.locator(".speaker-controls-notes .value").text_content().split()
    speaker.wait_for_selector("#upcoming-slide iframe")
    before = page.evaluate("Reveal.getSlidePastCount()")
    speaker.keyboard.press("ArrowRight")
    page.wait_for_function(f"Reveal.getSlidePastCount() === {before + 1}")
    assert page.faults == []

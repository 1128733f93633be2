"""The buttons below a Predict, on the site and in the lectures: by mouse, by keyboard, for a screen reader."""

from pathlib import Path

import pytest

from helpers.quiz import predictions

pytest.importorskip("playwright")

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PLACES = {"site": "book/notebooks", "lecture": "slides"}

each_place = pytest.mark.parametrize("place", PLACES)


def judged(path):
    return [one for one in predictions(path) if one.right is not None]


@each_place
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_buttons_where_the_text_tells_and_only_there(open_page, place, path):
    page = open_page(f"{PLACES[place]}/{path.stem}.html")
    groups = page.eval_on_selector_all(".predict", "all => all.map(one => [...one.querySelectorAll('button')].map("
                                       "button => [button.textContent, button.dataset.right]))")
    assert groups == [[[choice.replace("`", ""), str(number == one.right).lower()]
                       for number, choice in enumerate(one.choices)] for one in judged(path)]
    assert page.faults == []


@each_place
def test_it_says_right_or_not_after_the_choice(open_page, place):
    page = open_page(f"{PLACES[place]}/02-opening-and-closing.html")
    if place == "lecture":
        page.wait_for_function("window.Reveal && Reveal.isReady()")
        while not page.evaluate("Reveal.getCurrentSlide().querySelector('.predict')"):
            assert not page.evaluate("Reveal.isLastSlide()")
            page.keyboard.press("ArrowRight")
    group, verdict = page.get_by_role("group", name="Choose, then go on"), page.locator(".predict .verdict")
    assert verdict.get_attribute("aria-live") == "polite" and verdict.text_content() == ""
    group.get_by_role("button", name="the client", exact=True).click()
    assert verdict.text_content().startswith("the client: not so.")
    before, slide = page.url, place == "lecture" and page.evaluate("Reveal.getSlidePastCount()")
    for key, name in (("Space", "both"), ("Enter", "neither"), ("Space", "both")):
        group.get_by_role("button", name=name, exact=True).focus()
        page.keyboard.press(key)
        assert verdict.text_content().startswith(f"{name}: {'right.' if name == 'both' else 'not so.'}")
    assert page.url == before and slide == (place == "lecture" and page.evaluate("Reveal.getSlidePastCount()"))


@each_place
def test_without_a_script_there_is_no_button(open_page, place):
    page = open_page(f"{PLACES[place]}/02-opening-and-closing.html", java_script_enabled=False)
    assert page.locator(".predict").count() == 1 and page.get_by_role("button", name="neither").count() == 0

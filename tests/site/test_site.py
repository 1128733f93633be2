"""Every page of the built site, opened in a browser: `make check-book`."""

from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import pytest

axe = pytest.importorskip("axe_playwright_python.sync_playwright")

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
PAGES = sorted(path.relative_to(BUILD).as_posix() for path in (BUILD / "book").rglob("*.html"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

each = pytest.mark.parametrize("name", PAGES)


def attributes(page, selector, name):
    return page.eval_on_selector_all(selector, f"all => all.map(one => one.{name})")


@pytest.fixture(scope="session")
def anchors(browser, server):
    """For each page of the site, the ids that a link may name."""
    page = browser.new_page(java_script_enabled=False)
    found = {}
    for name in PAGES:
        page.goto(f"{server}/{name}")
        found[f"{server}/{name}"] = {"", *page.eval_on_selector_all("[id]", "all => all.map(one => one.id)")}
    page.close()
    return found


def test_the_whole_course_is_there():
    wanted = {f"book/notebooks/{path.stem}.html" for path in NOTEBOOKS}
    wanted |= {f"book/{name}.html" for name in ("index", "glossary", "reference", "data/README", "search")}
    assert wanted - set(PAGES) == set() and len(NOTEBOOKS) >= 13


@each
def test_opens_without_a_fault(open_page, name):
    assert open_page(name).faults == []


@each
def test_links_lead_somewhere(open_page, server, anchors, name):
    page = open_page(name)
    broken = []
    for link in set(page.eval_on_selector_all("a[href]", "all => all.map(one => one.getAttribute('href'))")):
        address, anchor = urldefrag(urljoin(page.url, link))
        if not address.startswith(server):
            continue
        if address in anchors:
            broken += [link] if unquote(anchor) not in anchors[address] else []
        elif not (BUILD / unquote(address.removeprefix(f"{server}/"))).is_file():
            broken.append(link)
    assert broken == []


@each
def test_figures_are_shown_and_described(open_page, name):
    page = open_page(name)
    figures = page.eval_on_selector_all("article img", "all => all.map(one => [one.naturalWidth, one.alt])")
    assert [alt for width, alt in figures if width == 0 or len(alt) <= 40] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_there_with_its_outputs_and_its_folded_solutions(open_page, path):
    page = open_page(f"book/notebooks/{path.stem}.html")
    source = path.read_text(encoding="utf-8")
    assert page.locator("article img").count() == source.count('"image/png": "')
    solutions = page.locator("details.folded")
    assert solutions.count() == source.count('"jp-MarkdownHeadingCollapsed": true') >= 2
    code = solutions.first.locator(".cell_input").first
    assert not code.is_visible()
    solutions.first.locator("summary").click()
    assert code.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@each
def test_accessible(open_page, name, scheme):
    page = open_page(name, color_scheme=scheme)
    assert page.locator("html").get_attribute("data-theme") == scheme
    page.eval_on_selector_all("details", "all => all.forEach(one => one.open = true)")
    found = axe.Axe().run(page).response["violations"]
    grave = [fault for fault in found if fault["impact"] in ("serious", "critical")]
    assert [(fault["id"], [node["html"] for node in fault["nodes"]][:3]) for fault in grave] == []


@each
def test_fits_a_telephone(open_page, name):
    page = open_page(name, viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_search_finds_a_notebook(open_page):
    page = open_page("book/search.html?q=netstat")
    page.wait_for_selector("#search-results li")
    assert any("02-opening-and-closing" in link for link in attributes(page, "#search-results a", "href"))
    assert page.faults == []


def test_one_search_box(open_page):
    page = open_page("book/index.html")
    buttons = page.locator("button.search-button__button, button.search-button-field")
    assert sum(button.is_visible() for button in buttons.all()) == 1

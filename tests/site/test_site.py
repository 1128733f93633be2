"""Every page of the built site, opened in a browser: `make check-book`."""

import re
from functools import cache
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import pytest

axe = pytest.importorskip("axe_playwright_python.sync_playwright")

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
PAGES = sorted(path.relative_to(BUILD).as_posix() for path in (BUILD / "book").rglob("*.html")
               if "_static" not in path.parts)
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

each = pytest.mark.parametrize("name", PAGES)


@cache
def anchors(path):
    """The ids of a page that a link may name."""
    return {"", *map(unescape, re.findall(r'\bid="([^"]*)"', path.read_text(encoding="utf-8")))}


def leads_nowhere(link, page, server):
    address, anchor = urldefrag(urljoin(page, link))
    target = BUILD / unquote(address.removeprefix(f"{server}/"))
    if not address.startswith(server):
        return False
    return not target.is_file() or (target.suffix == ".html" and unquote(anchor) not in anchors(target))


def test_the_whole_course_is_there():
    wanted = {f"book/notebooks/{path.stem}.html" for path in NOTEBOOKS}
    wanted |= {f"book/{name}.html" for name in ("index", "glossary", "reference", "data/README", "search")}
    assert wanted - set(PAGES) == set() and len(NOTEBOOKS) >= 13


@each
def test_opens_without_a_fault(open_page, server, name):
    page = open_page(name)
    assert page.faults == []
    links = set(page.eval_on_selector_all("a[href]", "all => all.map(one => one.getAttribute('href'))"))
    assert [link for link in links if leads_nowhere(link, page.url, server)] == []
    figures = page.eval_on_selector_all("article img", "all => all.map(one => [one.naturalWidth, one.alt])")
    assert [alt for width, alt in figures if width == 0 or len(alt) <= 40] == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "wider than a telephone"


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


@each
def test_accessible_in_light_and_in_dark(open_page, name):
    page = open_page(name)
    page.add_style_tag(content="* { transition: none !important }")
    page.eval_on_selector_all("details", "all => all.forEach(one => one.open = true)")
    for scheme, rules in {"light": {}, "dark": {"runOnly": ["color-contrast", "link-in-text-block"]}}.items():
        page.emulate_media(color_scheme=scheme)
        page.wait_for_selector(f"html[data-theme={scheme}]")
        found = axe.Axe().run(page, options={"resultTypes": ["violations"]} | rules).response["violations"]
        grave = [fault for fault in found if fault["impact"] in ("serious", "critical")]
        assert [(fault["id"], [node["html"] for node in fault["nodes"]][:3]) for fault in grave] == [], scheme


def test_search_finds_a_notebook(open_page):
    page = open_page("book/search.html?q=netstat")
    page.wait_for_selector("#search-results li")
    assert page.locator("#search-results a[href*='02-opening-and-closing']").count()
    assert page.faults == []


def test_one_search_box(open_page):
    page = open_page("book/index.html")
    buttons = page.locator("button.search-button__button, button.search-button-field")
    assert sum(button.is_visible() for button in buttons.all()) == 1

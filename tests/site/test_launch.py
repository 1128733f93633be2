"""Buttons that lead to the repository, Binder and a JupyterHub: on a small site, built with and without addresses."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import nbformat
import pytest

pytest.importorskip("sphinx_book_theme")
pytest.importorskip("playwright")

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = "https://github.com/owner/name"
HUB = "https://hub.example.org"
BINDER = "https://mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/notebooks/01-one.ipynb"


@pytest.fixture
def links_of(tmp_path, open_page):
    """`links_of("index", REPOSITORY=…)`: where the header's buttons of that page lead, by their words."""
    (tmp_path / "pages" / "notebooks").mkdir(parents=True)
    (tmp_path / "pages" / "index.md").write_text("# Start\n\n```{toctree}\nnotebooks/01-one\n```\n")
    cell = nbformat.v4.new_markdown_cell("# One\n\nA page.")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "pages" / "notebooks" / "01-one.ipynb")

    def links(name, **addresses):
        environment = {key: value for key, value in os.environ.items() if key not in ("REPOSITORY", "HUB")}
        subprocess.run([sys.executable, "-m", "sphinx", "-W", "-q", "-E", "-c", ROOT / ".book", tmp_path / "pages",
                        tmp_path / "site"], check=True, env=environment | addresses)
        page = open_page((tmp_path / "site" / f"{name}.html").as_uri())
        return dict(page.eval_on_selector_all(".article-header-buttons a[href^=http]",
                                              "all => all.map(one => [one.innerText.trim() || one.textContent.trim(),"
                                              " one.getAttribute('href')])"))
    return links


def test_without_an_address_no_button_leads_away(links_of):
    assert links_of("notebooks/01-one") == {} == links_of("index")


@pytest.mark.parametrize("name", ["index", "notebooks/01-one"])
def test_each_page_leads_to_the_repository_and_to_an_issue_about_itself(links_of, name):
    links = links_of(name, REPOSITORY=f"{REPOSITORY}/")
    assert links["Repository"] == REPOSITORY
    issue = urlsplit(links["Open issue"])
    assert issue.path == "/owner/name/issues/new"
    assert parse_qs(issue.query)["title"] == [f"Issue on page /{name}.html"]
    assert "JupyterHub" not in links


def test_a_notebook_is_launched_on_binder_and_on_the_hub(links_of):
    links = links_of("notebooks/01-one", REPOSITORY=REPOSITORY, HUB=HUB)
    assert links["Binder"] == BINDER
    hub = urlsplit(links["JupyterHub"])
    assert hub.netloc == "hub.example.org" and hub.path == "/hub/user-redirect/git-pull"
    assert parse_qs(hub.query) == {"repo": [REPOSITORY], "branch": ["main"],
                                   "urlpath": ["lab/tree/name/notebooks/01-one.ipynb"]}

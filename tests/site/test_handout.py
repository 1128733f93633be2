"""The printed course: a PDF of each notebook and of each deck, `make handout`."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HANDOUT = ROOT / "build" / "handout"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

pytestmark = pytest.mark.skipif(not shutil.which("pdftotext"), reason="needs pdftotext (Debian: poppler-utils)")
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def pages(pdf):
    """The text of each page."""
    text = subprocess.run(["pdftotext", "-layout", pdf, "-"], capture_output=True, text=True, check=True).stdout
    return text.split("\f")[:-1]


def images(pdf):
    """(page, width, height) of each picture of the PDF that is no part of another's transparency."""
    listed = subprocess.run(["pdfimages", "-list", pdf], capture_output=True, text=True, check=True).stdout
    return [tuple(row.split()[place] for place in (0, 3, 4)) for row in listed.splitlines()[2:] if row.split()[2] == "image"]


def cells(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def test_a_file_for_each_notebook_and_each_deck():
    wanted = {f"{path.stem}{kind}.pdf" for path in NOTEBOOKS for kind in ("", "-slides")}
    assert {path.name for path in HANDOUT.iterdir()} == wanted


@each
def test_solutions_stand_at_the_end(path):
    lines = [line.strip() for page in pages(HANDOUT / f"{path.stem}.pdf") for line in page.splitlines()]
    start = lines.index("Solutions")
    before, after = lines[:start], lines[start:]
    told = [re.sub(r"^\W+", "", line) for line in after if re.fullmatch(r"\W*Solution \d+", line)]
    count = sum("".join(cell["source"]).startswith("#### Solution") for cell in cells(path))
    assert told == [f"Solution {number}" for number in range(1, count + 1)] and "Summary" in before
    assert not [line for line in before if re.search(r"\d\d\.\d: right\.", line)]


@each
def test_no_figure_is_split(path):
    """A figure that goes on on the next page would be there twice, or not whole."""
    figures = sum("image/png" in output.get("data", {}) for cell in cells(path) for output in cell.get("outputs", []))
    assert len(images(HANDOUT / f"{path.stem}.pdf")) == figures


@each
def test_a_page_for_each_slide(path):
    deck = (ROOT / "build" / "slides" / f"{path.stem}.html").read_text(encoding="utf-8")
    slides = len(re.findall(r"<section>", deck)) - len(re.findall(r"<section>\s*<section>", deck))
    printed = pages(HANDOUT / f"{path.stem}-slides.pdf")
    assert len(printed) == slides

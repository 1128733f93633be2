"""The README's pictures are the notebooks' own figures, and stand where one sees them first."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / ".book"))
pictures = __import__("pictures")
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_a_picture_is_the_notebooks_own(name):
    """Where this fails: `make pictures`."""
    assert (pictures.FOLDER / name).read_bytes() == pictures.stored(*pictures.PICTURES[name])


def test_the_readme_shows_them_with_alternative_text():
    shown = re.findall(r"!\[([^\]]{40,})\]\(\.github/pictures/([^)]+)\)", README)
    assert sorted(name for _, name in shown) == sorted(pictures.PICTURES)
    assert README.index("one-page.png") < README.index("\n## ")
    assert all(path.name in pictures.PICTURES for path in pictures.FOLDER.iterdir())


def test_no_figure_is_an_error():
    with pytest.raises(LookupError, match="0 figures whose alternative text begins"):
        pictures.stored("00-start-here", "no such figure")

"""The site's page of the helpers names every room that a reader may enter."""

import re
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / ".book" / "reference.md").read_text(encoding="utf-8")
LISTED = re.findall(r"automodule:: (helpers[\w.]*)", PAGE)


def _rooms(folder):
    return {f"{'.'.join(folder.relative_to(ROOT).parts)}.{path.stem}" for path in folder.iterdir()
            if not path.name.startswith("_") and (path.suffix == ".py" or (path / "__init__.py").exists())}


def test_no_room_is_missing():
    """`helpers.testbed` records; it is described where it is used, in the guide for contributors and the datasheet."""
    rooms = _rooms(ROOT / "helpers") - {"helpers.testbed"}
    assert set(LISTED) == rooms | _rooms(ROOT / "helpers" / "protocols")
    assert len(LISTED) == len(set(LISTED))


def test_each_heading_stands_over_its_module():
    assert re.findall(r"^#+ (helpers[\w.]*)$", PAGE, re.M) == LISTED


def test_each_room_says_what_it_is():
    for name in LISTED:
        assert len(import_module(name).__doc__) > 40, name

"""The README's pictures, taken from the notebooks' stored outputs: `python .book/pictures.py`, or `make pictures`."""

import base64
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".github" / "pictures"
# name of the file: (notebook, how the figure's alternative text begins)
PICTURES = {"one-page.png": ("00-start-here", "Three TIME_WAIT curves of the same page"),
            "report.png": ("12-your-own-capture", "Waterfall of the incident")}


def stored(notebook: str, begins: str) -> bytes:
    """The PNG of the one figure in `notebook` whose alternative text begins so; else `LookupError`."""
    cells = json.loads((ROOT / "notebooks" / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]
    found = [output["data"]["image/png"] for cell in cells for output in cell.get("outputs", [])
             if output.get("metadata", {}).get("image/png", {}).get("alt", "").startswith(begins)]
    if len(found) != 1:
        raise LookupError(f"{notebook}: {len(found)} figures whose alternative text begins with “{begins}”, not one")
    return base64.b64decode(found[0])


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, figure in PICTURES.items():
        (FOLDER / name).write_bytes(stored(*figure))

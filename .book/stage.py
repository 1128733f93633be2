"""Lay the course out as Sphinx wants it: `python .book/stage.py build/pages`.

The pages are copies: the README as the start page, the notebooks, the datasheet, and the pages of this folder.
"""

import json
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOCTREE = "```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{pages}\n```\n"


def stage(folder):
    """Fill `folder`, emptied first, with every page of the site and what the pages link to."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("notebooks", "data", "helpers", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    for note in (folder / "tests").rglob("*.md"):           # about captures of the tests: no page of the course
        note.unlink()
    shutil.copytree(ROOT / ".github" / "pictures", folder / ".github" / "pictures")
    for file in ROOT.glob("[!.]*"):
        if file.is_file() and file.name != "README.md":
            shutil.copy(file, folder)
    for page in sorted((ROOT / ".book").glob("*.md")):
        shutil.copy(page, folder)
    (folder / "glossary.md").write_text(glossary(), encoding="utf-8")
    (folder / "index.md").write_text(start_page(), encoding="utf-8")


def start_page():
    """The README, and after it the site's table of contents, with the notebooks' names that the README gives."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    names = {page: name for name, page in re.findall(r"\[(\d\d [^]]+)\]\((notebooks/[^)]+)\.ipynb\)", readme)}
    contents = {"The course": [f"{name} <{page}>" for page, name in names.items()],
                "To look things up": ["glossary", "notebooks/true-of", "data/README", "reference"],
                "To teach it": ["notebooks/for-lecturers"]}
    tocs = [TOCTREE.format(caption=caption, pages="\n".join(pages)) for caption, pages in contents.items() if pages]
    return "\n".join([readme, *tocs])


def glossary():
    """The glossary of notebook 00 as a page of its own."""
    notebook = json.loads((ROOT / "notebooks" / "00-start-here.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"]]
    return next(cell for cell in cells if cell.startswith("## Glossary")).removeprefix("#")


if __name__ == "__main__":
    stage(Path(sys.argv[1]))

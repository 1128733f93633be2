"""Turn each notebook into a lecture, by the slide types of its cells: `python .book/slides.py build/slides`.

The decks need no network: reveal.js is copied from the package sphinx-revealjs, and figures stand in the page.
"""

import re
import shutil
import sys
from html import escape
from importlib.resources import files
from pathlib import Path

import nbformat
from nbconvert.exporters import SlidesExporter
from predict import with_buttons
from pygments.formatters import HtmlFormatter

HERE = Path(__file__).resolve().parent
NOTEBOOKS = sorted((HERE.parent / "notebooks").glob("*.ipynb"))
REVEAL = ("dist/reset.css", "dist/reveal.css", "dist/reveal.js", "plugin/notes/notes.js", "LICENSE")
INDEX = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>The lectures</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="lecture.css">
</head>
<body class="index">
<main>
<h2>The lectures</h2>
<p>Space or an arrow goes on, Esc shows all slides, S opens the speaker's notes, ? lists the keys.</p>
<ul>
{decks}
</ul>
</main>
</body>
</html>
"""


def build(folder):
    """Write a deck for each notebook, their index and what they need into `folder`, emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    copy_reveal(folder / "reveal")
    for name in ("predict.js", "predict.css"):
        shutil.copy(HERE / "static" / name, folder)
    style = HtmlFormatter(style="friendly").get_style_defs(".highlight")
    (folder / "lecture.css").write_text((HERE / "lecture" / "lecture.css").read_text() + style, encoding="utf-8")
    entries = []
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        with_buttons(notebook.cells, path)
        (folder / f"{path.stem}.html").write_text(deck(notebook), encoding="utf-8")
        entries.append(f'<li><a href="{path.stem}.html">{path.stem[:2]} {escape(title(notebook))}</a></li>')
    (folder / "index.html").write_text(INDEX.format(decks="\n".join(entries)), encoding="utf-8")


def deck(notebook):
    """The notebook as one page of HTML, a `<section>` for each slide."""
    exporter = SlidesExporter(template_name="lecture", extra_template_basedirs=[str(HERE)], exclude_anchor_links=True)
    exporter.register_filter("links_between_decks", links_between_decks)
    html, _ = exporter.from_notebook_node(with_places(notebook), {"metadata": {"name": title(notebook)}})
    return html


def with_places(notebook):
    """The notebook, its cells without a heading knowing under which heading they stand."""
    place = ""
    for cell in notebook.cells:
        heading = re.match(r"#+ (.+)", cell.source) if cell.cell_type == "markdown" else None
        place = heading[1] if heading else place
        cell.metadata.place = "" if heading else escape(place)
    return notebook


def title(notebook):
    """The notebook's first heading."""
    return notebook.cells[0].source.splitlines()[0].removeprefix("# ")


def links_between_decks(html):
    """`html` with its links to notebooks leading to their decks."""
    return re.sub(r'href="(\d\d-[\w-]+)\.ipynb', r'href="\1.html', html)


def copy_reveal(folder):
    """Copy what a deck needs of reveal.js, and its licence, to `folder`."""
    reveal = files("sphinx_revealjs") / "_static" / "revealjs"
    for name in REVEAL:
        target = folder / name.removeprefix("dist/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((reveal / name).read_bytes())


if __name__ == "__main__":
    build(Path(sys.argv[1]))

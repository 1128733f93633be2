"""Print site and lectures: a PDF of each notebook and one of each deck: `python .book/handout.py build`.

It needs `build/book` and `build/slides`, and Chromium (the environment variable CHROMIUM, or on the path). In a
notebook's PDF the solutions stand at the end. In a deck's, each slide is a page.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

QUIET = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-sync", "--no-pdf-header-footer", "--virtual-time-budget=4000"]
SECONDS = 120
REVEAL = re.compile(r'<link[^>]*reveal/reveal\.css[^>]*>')
PAGES = """<style>
@page { size: A4; margin: 18mm 15mm; }
article img, pre, table.dataframe tr, .cell_input, .cell_output { break-inside: avoid; }
article img { display: block; max-width: 100%; max-height: 240mm; object-fit: contain; }
article :is(h1, h2, h3, h4, summary) { break-after: avoid; }
article p { orphans: 3; widows: 3; }
.predict, .copybtn, .headerlink, .prev-next-footer, .tocHeader { display: none !important; }
article pre { white-space: pre-wrap; }
html { font-size: 12px; }
table.dataframe { font-size: 8.5px; }
table.dataframe :is(th, td) { padding: 1px 4px !important; }
details.folded { break-inside: avoid; }
#solutions-at-the-end { break-before: page; }
</style>
<script>
document.documentElement.dataset.theme = document.documentElement.dataset.mode = "light";
const article = document.querySelector("article"), solutions = [...article.querySelectorAll("details.folded")];
const last = document.createElement("section");
last.id = "solutions-at-the-end";
last.innerHTML = "<h2>Solutions</h2>";
for (const one of solutions) { one.open = true; last.append(one); }
if (solutions.length) article.append(last);
</script>"""
SLIDES = """<style>
@page { size: 1340px 781px; margin: 30px; }
body { margin: 0; }
.reveal .slides > section > section {
    display: flex; position: relative; width: 1280px; height: 720px; contain: size; break-after: page;
}
aside.notes, .predict { display: none !important; }
</style>
<script>
for (const slide of document.querySelectorAll(".slides > section > section"))
    for (const size of [34, 32, 30, 28, 26, 24]) {
        slide.style.fontSize = `${size}px`;
        if (slide.scrollHeight <= slide.clientHeight && slide.scrollWidth <= slide.clientWidth) break;
    }
</script>"""


def printable(html, is_deck):
    """`html` as it should be printed: a deck without reveal.js, whose slides would lie on one another."""
    if is_deck:
        html = re.sub(r"<script.*?</script>", "", REVEAL.sub("", html), flags=re.DOTALL)
    head, end, rest = html.rpartition("</body>")
    return f"{head}{SLIDES if is_deck else PAGES}{end}{rest}"


def pages(build):
    """(HTML page, name of its PDF, is it a deck) of all to print. Raises `FileNotFoundError` if there is none."""
    found = [(path, f"{path.stem}.pdf", False) for path in sorted((build / "book/notebooks").glob("[0-9]*.html"))]
    decks = [(path, f"{path.stem}-slides.pdf", True) for path in sorted((build / "slides").glob("[0-9]*.html"))]
    if not found or not decks:
        raise FileNotFoundError(f"no site or no slides in {build}; run make book and make slides first")
    return found + decks


def print_page(chromium, page, pdf, is_deck):
    """Print one page. Its copy stands beside it meanwhile, for its links to styles and figures lead somewhere."""
    copy = page.with_name(f".print-{page.name}")
    copy.write_text(printable(page.read_text(encoding="utf-8"), is_deck), encoding="utf-8")
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            subprocess.run([chromium, *QUIET, f"--user-data-dir={profile}", f"--print-to-pdf={pdf.resolve()}",
                            copy.resolve().as_uri()], check=True, capture_output=True, timeout=SECONDS)
    finally:
        copy.unlink()
    if not pdf.is_file():
        raise FileNotFoundError(f"Chromium wrote no {pdf}; open {page} in it and see")


def main(build):
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    try:
        if not chromium:
            raise FileNotFoundError("no Chromium on the path; install it, or name it in the variable CHROMIUM")
        todo, out = pages(build), build / "handout"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        for page, name, is_deck in todo:
            print_page(chromium, page, out / name, is_deck)
    except (OSError, subprocess.SubprocessError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(todo)} files in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

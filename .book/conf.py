"""The site: the notebooks as they were run, the datasheet and the helpers' docstrings."""

import json
import os
import sys
from pathlib import Path

from docutils import nodes
from sphinx.transforms import SphinxTransform

sys.path.insert(0, str(Path(__file__).resolve().parent))
from predict import with_buttons

project = "Who closes first, and where does TIME_WAIT go?"
author = "the authors of the course"
language = "en"
extensions = ["myst_nb", "sphinx_copybutton", "sphinx.ext.autodoc"]

nb_execution_mode = "off"
nb_ipywidgets_js = {}
myst_enable_extensions = ["attrs_block"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
default_role = "code"

html_theme = "sphinx_book_theme"
html_title = project
html_show_copyright = False
html_use_index = html_domain_indices = False
html_favicon = "static/favicon.svg"
html_context = {"default_mode": "auto"}
html_static_path = ["static"]
html_css_files = ["site.css", "predict.css"]
html_js_files = ["predict.js"]
html_theme_options = {"use_fullscreen_button": False, "home_page_in_toc": True, "show_toc_level": 2,
                      "navbar_persistent": []}

if repository := os.environ.get("REPOSITORY", "").rstrip("/"):      # without an address no button could lead anywhere
    html_theme_options |= {
        "repository_url": repository, "repository_branch": "main",
        "use_repository_button": True, "use_issues_button": True,
        "launch_buttons": {"notebook_interface": "jupyterlab", "binderhub_url": "https://mybinder.org",
                           "jupyterhub_url": os.environ.get("HUB", "")}}


def as_the_site_reads_it(app, docname, source):
    """The README is the start page; a notebook's figures get their alternative texts, its folded headings a mark."""
    source[0] = source[0].replace("(../README.md", "(../index.md")
    if app.env.doc2path(docname).suffix != ".ipynb":
        return
    notebook = json.loads(source[0])
    with_buttons(notebook["cells"], app.env.doc2path(docname))
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if alt := output.get("metadata", {}).get("image/png", {}).get("alt"):
                cell["metadata"]["mystnb"] = {"image": {"alt": alt}}
        if cell["metadata"].get("jp-MarkdownHeadingCollapsed"):
            cell["source"] = ["{.folded}\n", *cell["source"]]
    source[0] = json.dumps(notebook)


class Fold(SphinxTransform):
    """What stands under a heading marked `folded` is one click away, in HTML's `<details>`."""

    default_priority = 500

    def apply(self):
        for section in list(self.document.findall(nodes.section)):
            if "folded" in section["classes"]:
                title = section.next_node(nodes.title)
                section.remove(title)
                opening = f'<details class="folded" id="{section["ids"][0]}"><summary>{title.astext()}</summary>'
                section.parent.replace(section, [nodes.raw("", opening, format="html"), *section.children,
                                                 nodes.raw("", "</details>", format="html")])


def setup(app):
    app.connect("source-read", as_the_site_reads_it)
    app.add_transform(Fold)

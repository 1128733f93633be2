"""Every notebook in a real JupyterLab in a real browser: Run All, and what the reader then sees.

nbval compares the text of the outputs. Here it is the browser's part: figures are drawn, nothing is asked of any
other machine, and JupyterLab itself has nothing to complain about.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import require

if os.environ.get("CI"):
    from playwright.async_api import async_playwright
else:
    async_playwright = pytest.importorskip("playwright.async_api").async_playwright

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PATIENCE = 900  # seconds until a step is given up, on the slowest and busiest of machines
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},  # draws every cell, not only those in the window
}
BROWSER = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
           "--no-proxy-server", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
OWN_FOLDERS = {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
               "JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython"}
RUN_ALL = """async path => {
    const {commands} = window.jupyterapp;
    const panel = await commands.execute('docmanager:open', {path});
    await panel.context.ready;
    await panel.sessionContext.ready;
    await panel.sessionContext.session.kernel.info;
    await commands.execute('notebook:run-all-cells');
}"""
# The command may return before the last cell has run: wait for the kernel's own numbers.
ALL_RAN = """() => [...window.jupyterapp.shell.currentWidget.content.model.cells]
    .every(cell => cell.type !== 'code' || cell.executionCount !== null && cell.executionState === 'idle')"""
CELLS = "() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells"
FIGURES_DRAWN = """wanted => [...document.querySelectorAll('.jp-NotebookPanel .jp-OutputArea img')]
    .filter(image => image.naturalWidth && image.getBoundingClientRect().width).length >= wanted"""
WIDGET = "application/vnd.jupyter.widget-view+json"     # shown instead of the picture where a kernel runs
SLIDER, PICTURE = ".jp-NotebookPanel .widget-slider .noUi-handle", ".jp-NotebookPanel img.widget-image"
CHANGED = "before => document.querySelector('.jp-NotebookPanel img.widget-image').src !== before"
END = """async () => {
    const panel = window.jupyterapp.shell.currentWidget;
    await panel.sessionContext.shutdown();
    panel.dispose();        // close() would ask whether to save
}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab that works on a copy of the notebooks, with settings of its own: its address and its token."""
    place = tmp_path_factory.mktemp("lab")
    for folder in ("notebooks", "data"):
        shutil.copytree(ROOT / folder, place / "course" / folder)
    for name, values in SETTINGS.items():
        file = place / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(values), encoding="utf-8")
    environment = os.environ | {name: str(place / folder) for name, folder in OWN_FOLDERS.items()}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
               "--LabApp.expose_app_in_browser=True"]
    with (place / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=place / "course", env=environment, stdout=log, stderr=log)
    try:
        yield address(server, place)
    finally:
        server.terminate()
        server.wait(PATIENCE)


def address(server, place):
    """Where `server` listens, and its token: it writes both down as soon as it does."""
    give_up = time.monotonic() + PATIENCE
    while True:
        trouble = server.poll() is not None or time.monotonic() > give_up
        assert not trouble, (place / "log").read_text(encoding="utf-8")
        for file in place.glob("runtime/jpserver-*.json"):
            with suppress(ValueError):  # not wholly written yet
                about = json.loads(file.read_text(encoding="utf-8"))
                return about["url"], about["token"]
        time.sleep(0.1)


@pytest.fixture(scope="module")
def visits(lab):
    """What `visit` returned for each notebook, by its name, or the exception that ended it."""
    require("chromium")
    return asyncio.run(visit_all(*lab))


async def visit_all(url, token):
    """Visit one after the other in one window: JupyterLab itself takes longer to load than a notebook."""
    results, page = {}, None
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=BROWSER)
        for path in NOTEBOOKS:
            try:
                async with asyncio.timeout(PATIENCE):
                    page = page or await window(browser, f"{url}lab?token={token}")
                    results[path.stem] = await visit(page, url, path)
            except Exception as why:  # the notebook's own test raises it; the next begins in a window of its own
                results[path.stem], page = why, None
        await browser.close()
    return results


async def window(browser, address):
    """A page with JupyterLab, and with what it asked for and complained of since it was last looked at."""
    page = await browser.new_page(viewport={"width": 1280, "height": 1600})
    page.set_default_timeout(PATIENCE * 1000)
    page.asked, page.complaints = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("websocket", lambda socket: page.asked.append(socket.url.replace("ws:", "http:", 1)))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda message: page.complaints.append(message.text) if matters(message) else None)
    await page.goto(address)
    await page.wait_for_function("() => window.jupyterapp?.shell")
    await page.evaluate("() => window.jupyterapp.restored")
    return page


async def visit(page, url, path):
    """Run all of a notebook and see its figures: its `cells`, the requests `outside`, the browser's `complaints`."""
    await page.evaluate(RUN_ALL, f"notebooks/{path.name}")
    await page.wait_for_function(ALL_RAN, polling=100)
    cells = await page.evaluate(CELLS)
    await page.wait_for_function(FIGURES_DRAWN, arg=figures(cells), polling=100)
    moved = await move_a_slider(page) if any(WIDGET in output.get("data", {}) for output in outputs(cells)) else None
    await page.evaluate(END)
    asked, complaints = page.asked.copy(), page.complaints.copy()
    page.asked.clear(), page.complaints.clear()
    outside = [address for address in asked if not address.startswith((url, "data:", "blob:"))]
    return {"cells": cells, "outside": outside, "complaints": complaints, "moved": moved}


async def move_a_slider(page):
    """Press the right arrow key on the first slider; whether the picture then is another one."""
    before = await page.locator(PICTURE).get_attribute("src")
    await page.locator(SLIDER).first.press("ArrowRight")
    await page.wait_for_function(CHANGED, arg=before)
    return await page.locator(PICTURE).evaluate("image => image.naturalWidth > 100")


def matters(message):
    """Whether a line of the console is an error; not a lost connection, which JupyterLab makes anew."""
    return message.type == "error" and not re.search(r"net::ERR_|WebSocket connection", message.text)


def figures(cells):
    return sum("image/png" in output.get("data", {}) for output in outputs(cells))


def outputs(cells):
    return [output for cell in cells if cell["cell_type"] == "code" for output in cell["outputs"]]


def kinds(cells):
    """What each cell has for outputs: their types, and the media types of each but that of a widget, which isn't kept."""
    return [[(output["output_type"], sorted({*output.get("data", [])} - {WIDGET})) for output in outputs([cell])]
            for cell in cells]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_run_all_in_jupyterlab(visits, path):
    result = visits[path.stem]
    if isinstance(result, Exception):
        raise result
    stored = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in result["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert [output for output in outputs(code) if output["output_type"] == "error"] == []
    assert kinds(result["cells"]) == kinds(stored)
    assert result["moved"] in (None, True) and (result["moved"] is not None or "Controls(" not in str(stored))
    assert result["outside"] == []
    assert result["complaints"] == []

"""`make lab` opens JupyterLab without a pop-up about news, and with the table of contents in the side bar."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import require

ROOT = Path(__file__).resolve().parent.parent
LAB = ROOT / ".book" / "lab"
SIDE_BAR = "() => [...document.querySelectorAll('.jp-SideBar .lm-mod-current')].map(tab => tab.dataset.id)"


def playwright():
    if os.environ.get("CI"):
        from playwright.sync_api import sync_playwright
        return sync_playwright
    return pytest.importorskip("playwright.sync_api").sync_playwright


@pytest.fixture
def lab(tmp_path):
    """The address of a JupyterLab with the settings and the workspace of `make lab`, kept in a folder of its own."""
    (tmp_path / "settings").mkdir()
    shutil.copy(LAB / "overrides.json", tmp_path / "settings")
    names = ("WORKSPACES", "SETTINGS")
    env = os.environ | {f"JUPYTERLAB_{name}_DIR": str(tmp_path / name.lower() / "own") for name in names}
    env |= {f"JUPYTER_{name}_DIR": str(tmp_path / name.lower()) for name in ("CONFIG", "RUNTIME")}
    lab = [sys.executable, "-m", "jupyter", "lab"]
    subprocess.run([*lab, "workspaces", "import", LAB / "workspace.json"], env=env, check=True, capture_output=True)
    server = subprocess.Popen(
        [*lab, "--allow-root", "--no-browser", "--ServerApp.ip=127.0.0.1", "--IdentityProvider.token=open",
         f"--LabServerApp.app_settings_dir={tmp_path / 'settings'}", f"--ServerApp.root_dir={ROOT}"],
        env=env, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield address(tmp_path / "runtime", server)
    finally:
        server.terminate()
        server.wait(30)


def address(folder, server, patience=120):
    """Where the server listens, once it answers."""
    until = time.monotonic() + patience
    while time.monotonic() < until and server.poll() is None:
        for file in folder.glob("jpserver-*.json"):
            url = json.loads(file.read_text())["url"]
            with urllib.request.urlopen(f"{url}api?token=open", timeout=30):
                return url
        time.sleep(0.3)
    raise TimeoutError("JupyterLab doesn't start")


def test_it_opens_with_the_table_of_contents(lab):
    require("chromium")
    with playwright()() as player:
        browser = player.chromium.launch(executable_path=shutil.which("chromium"), args=[
            "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-proxy-server"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{lab}lab/tree/notebooks/00-start-here.ipynb?token=open", timeout=120_000)
        page.wait_for_selector(".jp-TableOfContents-content >> text=The map", timeout=120_000)
        page.wait_for_timeout(3_000)                # a pop-up comes late
        assert page.evaluate(SIDE_BAR) == ["table-of-contents"]
        assert page.locator(".Toastify__toast").count() == 0
        browser.close()


def test_the_makefile_uses_them():
    rule = (ROOT / "Makefile").read_text(encoding="utf-8").partition(".venv/lab:")[2].partition("\n\n")[0]
    assert {file.name for file in LAB.iterdir()} == {"overrides.json", "workspace.json"}
    assert all(f".book/lab/{file.name}" in rule for file in LAB.iterdir())

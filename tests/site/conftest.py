"""The built site and slides behind a server, and a browser that notes whatever goes wrong on a page."""

import functools
import http.server
import os
import shutil
import threading
from pathlib import Path

import pytest

BUILD = Path(__file__).resolve().parents[2] / "build"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def server():
    """The address of a server of the folder `build`."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=BUILD)) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.fixture(scope="session")
def browser():
    """The system's Chromium, or the one that playwright has installed."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, server):
    """`open_page(address, **context)`: the page, loaded; `page.faults` lists what it should not have done."""
    contexts = []

    def opened(address, **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 720}} | options)
        contexts.append(context)
        page = context.new_page()
        page.faults = []
        home = address if address.startswith("file:") else server
        page.on("console", lambda message: message.type in ("error", "warning") and page.faults.append(message.text))
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("request", lambda request: outside(request.url, home) and page.faults.append(f"asks {request.url}"))
        page.on("response", lambda response: response.status >= 400 and page.faults.append(f"lacks {response.url}"))
        page.on("requestfailed", lambda request: page.faults.append(f"failed: {request.url}"))
        page.goto(address if address.startswith("file:") else f"{server}/{address}", wait_until="networkidle")
        return page

    yield opened
    for context in contexts:
        context.close()


def outside(url, home):
    return not url.startswith(("data:", "blob:", "about:", "file:" if home.startswith("file:") else home))

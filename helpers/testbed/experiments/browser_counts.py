"""How many connections a browser opens for a page: many pages one after the other in one network."""

import time
from collections.abc import Callable
from pathlib import Path

from helpers.captures import read_capture
from helpers.connections import connections
from helpers.testbed.clients.chromium import Chromium
from helpers.testbed.clients.firefox import Firefox
from helpers.testbed.experiments.pages import Counts
from helpers.testbed.hosts import network
from helpers.testbed.running.recording import WORKSHOP, Unclean, prepare_workshop, write_table
from helpers.testbed.servers import nginx
from helpers.testbed.servers.page import write_page
from helpers.testbed.witnesses import dumpcap

COLUMNS = ("browser", "start", "images", "repeat", "connections", "used", "flushed")
SOCKET_COLUMNS = ("browser", "start", "images", "repeat", "client_port", "opened", "closed", "opened_for",
                  "close_reason")
FLUSH = "Cert verifier changed"
FIRST_PORT = 8001
WATCHED = 2.5
HEADERS = 128


def record(counts: Counts, folder: Path, say: Callable[[str], None]) -> None:
    """Write `<name>.csv` into `folder`: a row per page that was opened; and `browser-sockets.csv`, from Chromium's log.

    Each is opened on a port of its own, so that no earlier connection can be used. `used` connections carried a
    request; `flushed` ones Chromium closed itself, unused, because it had only just set itself up (empty: not known).
    """
    network.build()
    prepare_workshop()
    pages = [(way, images, repeat) for way in counts.ways for repeat in range(1, counts.repeats + 1)
             for images in counts.images]
    ports = {page: FIRST_PORT + number for number, page in enumerate(pages)}
    for images in counts.images:
        write_page(WORKSHOP / f"page-{images}", images)
    server = nginx.Nginx(WORKSHOP / "nginx", {
        port: (WORKSHOP / f"page-{images}", 65) for (_, images, _), port in ports.items()})
    capture = dumpcap.Dumpcap(WORKSHOP / "capture.pcapng", snaplen=HEADERS)
    sockets = []
    for way in counts.ways:
        sockets += _open_pages(way, [port for page, port in ports.items() if page[0] == way], server, say)
    lost = capture.close()[1]
    server.close()
    if lost:
        raise Unclean(f"dumpcap lost {lost} frames")
    _write(folder, counts, ports, server, sockets)


def _open_pages(way, ports, server, say):
    """Open the page on each of `ports`, in one browser that has long started or, `cold`, each in its own.

    Returns the sockets of the browsers' logs.
    """
    browser, logs = None if way[1] == "cold" else _browser(way, "all"), []
    for number, port in enumerate(ports, 1):
        url = f"http://{network.ADDRESSES['server']}:{port}/"
        cold = _browser(way, port, url) if browser is None else browser.visit(url)
        _wait_for_request(server, port)
        time.sleep(WATCHED)
        if cold:
            cold.close()
            logs.append(cold.log())
        say(f"{' '.join(way)} {number}/{len(ports)}")
    if browser:
        browser.close()
        logs.append(browser.log())
    return [socket for log in logs if log for socket in log["sockets"]]


def _browser(way, label, *url):
    folder = WORKSHOP / "-".join((*way, str(label)))
    browser = Firefox(folder) if way[0] == "firefox" else Chromium(folder, incognito=way[1] == "incognito")
    browser.start(*url)
    return browser


def _wait_for_request(server, port, patience=30):
    until = time.monotonic() + patience
    while not any(request["server_port"] == str(port) for request in server.requests()):
        if time.monotonic() > until:
            raise TimeoutError(f"nobody asks for the page on port {port}")
        time.sleep(0.1)


def _write(folder, counts, ports, server, sockets):
    found = connections(read_capture(WORKSHOP / "capture.pcapng"))["server"].value_counts()
    address, requests = network.ADDRESSES["server"], server.requests()
    used = {port: {request["client_port"] for request in requests if request["server_port"] == str(port)}
            for port in ports.values()}
    known = {port: [socket for socket in sockets if socket["remote"] == f"{address}:{port}"] for port in ports.values()}
    flushed = {port: sum(FLUSH in (socket["close_reason"] or "") for socket in found) if found else ""
               for port, found in known.items()}
    write_table(folder / "browser-sockets.csv", SOCKET_COLUMNS, [
        (*way, images, repeat, *_lived(socket, known[port])) for (way, images, repeat), port in ports.items()
        for socket in known[port]])
    write_table(folder / f"{counts.name}.csv", COLUMNS, [
        (*way, images, repeat, found[f"{address}:{port}"], len(used[port]), flushed[port])
        for (way, images, repeat), port in ports.items()])


def _lived(socket, same_page):
    """A socket's row: its port, when it opened and closed (s since the page's first socket), what for, why closed."""
    begun = min(other["opened"] for other in same_page)
    closed = "" if socket["closed"] is None else f"{socket['closed'] - begun:.3f}"
    opened_for = "preconnect" if socket["opened_for"] == "preconnect" else "request"
    return (socket["local"].rsplit(":", 1)[1], f"{socket['opened'] - begun:.3f}", closed, opened_for,
            socket["close_reason"] or "")

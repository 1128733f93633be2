"""How many connections a browser opens for a page: many pages one after the other in one network."""

import time

from helpers.captures import read_capture
from helpers.connections import connections
from helpers.testbed import dumpcap, network, nginx
from helpers.testbed.chromium import Chromium
from helpers.testbed.firefox import Firefox
from helpers.testbed.page import write_page
from helpers.testbed.recording import WORKSHOP, Unclean, prepare_workshop, write_table

COLUMNS = ("browser", "start", "images", "repeat", "connections", "used")
FIRST_PORT = 8001
WATCHED = 2.5
HEADERS = 128


def record(counts, folder, say):
    """Write `<name>.csv` into `folder`: a row per page that was opened.

    Each is opened on a port of its own, so that no earlier connection can be used. `used` connections
    carried a request.
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
    for way in counts.ways:
        _open_pages(way, [port for page, port in ports.items() if page[0] == way], server, say)
    lost = capture.close()[1]
    server.close()
    if lost:
        raise Unclean(f"dumpcap lost {lost} frames")
    _write(folder / f"{counts.name}.csv", ports, server)


def _open_pages(way, ports, server, say):
    """Open the page on each of `ports`, in one browser that has long started or, `cold`, each in its own."""
    browser = None if way[1] == "cold" else _browser(way, "all")
    for number, port in enumerate(ports, 1):
        url = f"http://{network.ADDRESSES['server']}:{port}/"
        cold = _browser(way, port, url) if browser is None else browser.visit(url)
        _wait_for_request(server, port)
        time.sleep(WATCHED)
        if cold:
            cold.close()
        say(f"{' '.join(way)} {number}/{len(ports)}")
    if browser:
        browser.close()


def _browser(way, label, *url):
    folder = WORKSHOP / "-".join((*way, str(label)))
    if way[0] == "firefox":
        browser = Firefox(folder)
    else:
        browser = Chromium(folder, incognito=way[1] == "incognito", logged=False)
    browser.start(*url)
    return browser


def _wait_for_request(server, port, patience=30):
    until = time.monotonic() + patience
    while not any(request["server_port"] == str(port) for request in server.requests()):
        if time.monotonic() > until:
            raise TimeoutError(f"nobody asks for the page on port {port}")
        time.sleep(0.1)


def _write(file, ports, server):
    found = connections(read_capture(WORKSHOP / "capture.pcapng"))["server"].value_counts()
    address, requests = network.ADDRESSES["server"], server.requests()
    used = {port: {request["client_port"] for request in requests if request["server_port"] == str(port)}
            for port in ports.values()}
    write_table(file, COLUMNS, [(*way, images, repeat, found[f"{address}:{port}"], len(used[port]))
                                for (way, images, repeat), port in ports.items()])

"""The pages as they travel today: over TLS, HTTP/2 and HTTP/3. A new experiment is a few lines here."""

from helpers.testbed.experiments.pages import CLIENTS, IDLE, OPENING_PAGE, PROGRAMS, SECTIONS, Experiment, Fetch, Visit

WAYS = {"https": "HTTPS with HTTP/1.1", "h2": "HTTP/2", "h3": "HTTP/3"}
LATE = "; after 75 s its script fetches from port 8443, which makes Chromium notice what the server closed"
FIRST = Visit(0, port=443)
NOTICE = Fetch(75, port=8443)


def _page(protocol, images, client):
    late, number = protocol != "h3" and client == "chromium", f"{images or 'no'} image{'' if images == 1 else 's'}"
    server = "Caddy" if protocol == "h3" else "nginx"
    return Experiment(
        f"{protocol}-{images}-images-{client}", f"{WAYS[protocol]}, {number}, {CLIENTS[client]}", SECTIONS[images],
        f"{server} keeps an idle connection for 65 s; {CLIENTS[client]} opens a page with {number} over "
        f"{WAYS[protocol]}{LATE * late}.",
        images, client, visits=(FIRST, NOTICE) if late else (FIRST,), protocol=protocol)


def _idle(protocol, client):
    return Experiment(
        f"{protocol}-idle-close-{client}",
        f"The server closes an idle connection: {WAYS[protocol]}, {CLIENTS[client]}", IDLE,
        f"nginx keeps an idle connection for 15 s; {CLIENTS[client]} opens the page over {WAYS[protocol]} "
        "and is left alone.",
        OPENING_PAGE, client, incognito=client == "chromium", keepalive_timeout=15, visits=(FIRST,), protocol=protocol)


ENCRYPTED = (
    _idle("https", "chromium"), *(_idle("h2", client) for client in PROGRAMS),
    *(_page(protocol, images, client) for protocol in WAYS for client in PROGRAMS for images in SECTIONS),
    Experiment("h2-requests", "HTTP/2: GOAWAY in the middle of work", "(not in the article)",
               "nginx accepts 4 requests on a connection (keepalive_requests) and keeps an idle one for 15 s; Firefox "
               "opens a page with 7 images over HTTP/2.",
               7, "firefox", keepalive_timeout=15, visits=(FIRST,), protocol="h2",
               directives=(("keepalive_requests", "4"),)),
    Experiment("resumption", "A second visit: the TLS session is resumed", "(not in the article)",
               "nginx keeps an idle connection for 5 s and takes early data (ssl_early_data), and lets nothing "
               "be kept (expires -1); Firefox opens a page without images over HTTP/2, and once more 12 s later.",
               0, "firefox", keepalive_timeout=5, visits=(FIRST, Visit(12, port=443)), protocol="h2",
               directives=(("ssl_early_data", "on"), ("expires", "-1"))))

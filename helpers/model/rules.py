"""What is played: a page, a client, a server and the wire between them, each a few declared numbers.

Times are in seconds, sizes in bytes. Each client names its evidence: recordings of this course, or a source.
"""

from dataclasses import dataclass, replace
from math import inf


@dataclass(frozen=True)
class Page:
    """`images`: the size of each. `html`: the page's own. `icon`: of `favicon.ico`, which browsers ask for last."""

    images: tuple[int, ...] = ()
    html: int = 371
    icon: int = 852


@dataclass(frozen=True)
class Client:
    """How a client uses its connections.

    `in_advance`: how many it opens before it knows the page; `limit`: how many at most. `binds_early`: what is opened
    for a request carries that request; else it goes over whichever is free first. `shares`: one connection carries all
    requests at once (HTTP/2, HTTP/3). `unused`, `idle`: how long it leaves a connection open that carried nothing, or
    that has been idle. `watches`: it looks at idle connections all the time, so it keeps these limits and answers a FIN
    at once; else it looks when its next request comes. `says_goodbye`: over TLS it sends close_notify or GOAWAY before
    it answers a FIN. `probes_after`: idle so long, a connection is probed (TCP keep-alive). `asks_icon`: the icon too.
    `tcp`: it speaks TCP; `handshake`: round trips of TLS or QUIC. `protocol`: as `connections` names it.
    """

    name: str
    evidence: str
    in_advance: int = 1
    limit: int = 6
    binds_early: bool = False
    shares: bool = False
    unused: float = inf
    idle: float = inf
    watches: bool = True
    says_goodbye: bool = False
    probes_after: float = inf
    asks_icon: bool = True
    tcp: bool = True
    handshake: int = 0
    protocol: str = "http/1.1"


@dataclass(frozen=True)
class Server:
    """`keepalive_timeout`: how long it leaves an idle connection open; 0: it closes after each answer.

    `header_timeout`: how long it waits for a first request (nginx's `client_header_timeout`). `requests`: how many it
    answers on a connection (`keepalive_requests`). `fin_timeout`: how long its kernel waits in FIN_WAIT_2 for an orphan
    (`tcp_fin_timeout`).
    """

    keepalive_timeout: float = 65
    header_timeout: float = 60
    requests: int = 1000
    fin_timeout: float = 60


@dataclass(frozen=True)
class Wire:
    """`round_trip`: there and back; `bandwidth`: bits per second, for what the server sends; all share it, in turn."""

    round_trip: float = 0.00002
    bandwidth: float = 1e9


NGINX, LOOPBACK = Server(), Wire()
RULES_2018 = Client(
    "the rules of 2018", "the article, sections on long connections; played by real sockets in long-7-images-replay",
    in_advance=3, unused=10, probes_after=45, binds_early=True, asks_icon=False)
FIREFOX = Client(
    "Firefox", "long-7-images-firefox, idle-close-firefox; network.http.keep-alive.timeout (115 s)",
    unused=5, idle=115, probes_after=10)
CHROMIUM = Client(
    "Chromium", "long-7-images-chromium, spare-asked-after-75-s, idle-close-patient; client_socket_pool.cc (60, 300 s)",
    in_advance=2, unused=60, idle=300, watches=False, probes_after=45)
CHROMIUM_INCOGNITO = replace(
    CHROMIUM, name="Chromium, incognito", evidence="browser-counts, incognito; idle-close-quiet", in_advance=1)
HTTPS_FIREFOX = Client(
    "Firefox over HTTPS", "https-7-images-firefox", unused=5, idle=115, probes_after=10, says_goodbye=True, handshake=1)
HTTPS_CHROMIUM = Client(
    "Chromium over HTTPS", "https-7-images-chromium, https-idle-close-chromium", in_advance=2, unused=60, idle=300,
    watches=False, probes_after=45, says_goodbye=True, handshake=1)
HTTP2 = Client(
    "Chromium over HTTP/2", "h2-7-images-chromium, h2-idle-close-chromium", in_advance=2, limit=1, shares=True,
    unused=60, idle=300, probes_after=45, handshake=1, protocol="h2")
HTTP2_FIREFOX = Client(
    "Firefox over HTTP/2", "h2-7-images-firefox, h2-idle-close-firefox", limit=1, shares=True, idle=115,
    probes_after=10, says_goodbye=True, handshake=1, protocol="h2")
HTTP3 = Client(
    "a browser over HTTP/3", "h3-7-images-chromium, h3-7-images-firefox; RFC 9000 section 10.1", limit=1, shares=True,
    idle=30, handshake=1, tcp=False, protocol="h3")
REQUESTS_GET = Client(
    "a program that opens a connection for each request", "clinic-no-reuse", limit=1, idle=0, asks_icon=False)
# Pools with room for their four workers, the `limit`; the versions are those of `clients`
REQUESTS_SESSION = Client("requests.Session, 4 workers", "client-requests-session, clients", limit=4, watches=False,
                          asks_icon=False)
AIOHTTP = Client("aiohttp, 4 workers", "client-aiohttp, clients; keepalive_timeout 15", limit=4, idle=15,
                 asks_icon=False)
NODE_GET = Client("Node's http.get, 4 workers", "client-node-get, clients; http.globalAgent, timeout 5000", limit=4,
                  idle=5, asks_icon=False)
POOLS = {"requests-session": REQUESTS_SESSION, "aiohttp": AIOHTTP, "node-get": NODE_GET}
CLIENTS = {client.name: client for client in (
    RULES_2018, FIREFOX, CHROMIUM, CHROMIUM_INCOGNITO, HTTPS_FIREFOX, HTTPS_CHROMIUM, HTTP2, HTTP2_FIREFOX, HTTP3,
    REQUESTS_GET, *POOLS.values())}

"""The experiments: what each server has, who visits it and when. A new experiment is a few lines here.

A task of the testbed has a `name`, a `title`, the `programs` that it needs besides the testbed's own, and a
`recorder`: the module whose `record(task, folder, say)` does it.
"""

from dataclasses import dataclass
from typing import ClassVar

PROGRAMS = {"chromium": "chromium", "firefox": "firefox-esr"}
OPENING_PAGE = 2


@dataclass(frozen=True)
class Visit:
    """The client opens the page on `port` of the server, `at` seconds after its first visit began."""

    at: float
    port: int = 80


@dataclass(frozen=True)
class Fetch(Visit):
    """A script of the open page asks for the page on `port`: one request on one connection."""


@dataclass(frozen=True)
class Counts:
    """A browser opens pages with each number of `images`, `repeats` times in each of `ways` (browser, start).

    `warm`: a browser that has long started; `cold`: one started for the page; `incognito`: warm, in an
    incognito window.
    """

    name: str
    title: str
    ways: tuple[tuple[str, str], ...]
    images: tuple[int, ...]
    repeats: int
    recorder: ClassVar = "helpers.testbed.experiments.browser_counts"

    @property
    def programs(self) -> set[str]:
        return {PROGRAMS[browser] for browser, _ in self.ways}


@dataclass(frozen=True)
class Experiment:
    """One experiment: a page with `images` on nginx, a `client` and its visits.

    `article`: the section of the 2018 article that it repeats, in our words. `client`: `replay`, `chromium`
    or `firefox`. `keepalive_timeout`: nginx's, in seconds. `streamed`: the HTML is so long and nginx so slow with
    it (`limit_rate`) that it takes a second to arrive. `anonymous`: a script of the page asks for each image once
    more, without credentials (no cookies). `incognito`: of Chromium, whose ordinary window
    opens 2 connections in advance and lets requests of its own disturb the silence, and whose incognito
    window opens 1 and is quiet. `limit`: seconds after the last visit when a socket that is still there is
    an error. `protocol`: `http`, or over TLS `https` (HTTP/1.1), `h2` and, over QUIC and with Caddy, `h3`.
    `directives`: of nginx, more of them, as (name, value). `longest_gap`: seconds between two samples of the
    sockets that make the recording unclean; a trial on a busy machine allows more than what is shipped.
    """

    name: str
    title: str
    article: str
    about: str
    images: int
    client: str
    incognito: bool = False
    keepalive_timeout: int = 65
    streamed: bool = False
    anonymous: bool = False
    visits: tuple[Visit, ...] = (Visit(0),)
    limit: float = 300
    protocol: str = "http"
    directives: tuple[tuple[str, str], ...] = ()
    longest_gap: float = 0.35
    recorder: ClassVar = "helpers.testbed.running.recording"

    @property
    def programs(self) -> set[str]:
        more = {"certutil", *["caddy"] * (self.protocol == "h3")} if self.encrypted else set()
        return more | ({PROGRAMS[self.client]} if self.client in PROGRAMS else set())

    @property
    def encrypted(self) -> bool:
        return self.protocol != "http"


CLIENTS = {"replay": "the rules of 2018, replayed", "chromium": "Chromium", "firefox": "Firefox"}
WHO = {**CLIENTS, "replay": "a client that keeps the rules of 2018"}
LATE = "; after 75 s its script fetches from port 8080, which makes Chromium notice what the server closed"
NOTICE = Fetch(75, port=8080)
SECTIONS = {
    0: "Long connections, experiment 1 (2): only the HTML",
    1: "Long connections, experiment 1 (1): the HTML and 1 image",
    2: "The opening page: the HTML and 2 images, watched from opening to closing",
    4: "Long connections, experiment 1 (3): the HTML and 4 images",
    7: "Long connections, experiment 1 (4): the HTML and 7 images"}


def _images(number):
    return f"{number or 'no'} image{'' if number == 1 else 's'}"


def _long(images, client):
    """A page over long connections. Chromium notices the server's FINs at its next request: it makes one."""
    late = client == "chromium"
    return Experiment(
        f"long-{images}-images-{client}", f"Long connections, {_images(images)}, {CLIENTS[client]}",
        SECTIONS[images],
        f"nginx keeps an idle connection for 65 s; {WHO[client]} opens a page with {_images(images)}"
        f"{LATE * late}.",
        images, client, visits=(Visit(0), NOTICE) if late else (Visit(0),))


def _short(client):
    return Experiment(
        f"short-7-images-{client}", f"Short connections, 7 images, {CLIENTS[client]}",
        "Short connections, experiment 2: the HTML and 7 images with keepalive_timeout 0",
        f"nginx closes after every response; {WHO[client]} opens a page with 7 images.",
        7, client, keepalive_timeout=0)


def _streamed(client):
    late = client == "chromium"
    return Experiment(
        f"page-streamed-{client}", f"A page that takes a second to arrive, 1 image, {CLIENTS[client]}", SECTIONS[1],
        f"nginx sends the HTML within a second, the rest at once, and keeps an idle connection for 65 s; "
        f"{WHO[client]} opens a page with 1 image, whose tag is among the first lines{LATE * late}.",
        1, client, streamed=True, visits=(Visit(0), NOTICE) if late else (Visit(0),))


def _pool_groups(client):
    late = client == "chromium"
    return Experiment(
        f"pool-groups-{client}", f"Requests with and without credentials, 7 images, {CLIENTS[client]}", SECTIONS[7],
        f"nginx sends each image at 100 kB a second and keeps an idle connection for 65 s; {WHO[client]} opens a page "
        f"with 7 images, whose script asks for each image once more without credentials{LATE * late}.",
        7, client, anonymous=True, directives=(("limit_rate", "100k"),),
        visits=(Visit(0), NOTICE) if late else (Visit(0),))


def _spare(seconds):
    return Experiment(
        f"spare-asked-after-{seconds}-s", f"An unused connection, and a request after {seconds} s, Chromium",
        SECTIONS[0],
        f"nginx would keep a connection for 1000 s, used or not; Chromium opens a page with no image, for which it "
        f"needs one of its two connections; its script fetches from port 8080 after {seconds} s and after 310 s.",
        0, "chromium", keepalive_timeout=1000, directives=(("client_header_timeout", "1000"),),
        visits=(Visit(0), Fetch(seconds, port=8080), Fetch(310, port=8080)))


IDLE = "The opening page, step 3: the server closes what lies idle"
EXPERIMENTS = {experiment.name: experiment for experiment in (
    *(_long(images, client) for client in CLIENTS for images in SECTIONS),
    *(_short(client) for client in CLIENTS),
    *(_streamed(client) for client in PROGRAMS),
    *(_pool_groups(client) for client in PROGRAMS),
    _spare(45), _spare(75),
    Experiment("idle-close-firefox", "The server closes an idle connection: Firefox answers", IDLE,
               "nginx keeps an idle connection for 15 s; Firefox opens a page with 7 images, no more.",
               7, "firefox", keepalive_timeout=15),
    Experiment("idle-close-quiet", "The server closes an idle connection: Chromium stays silent", IDLE,
               "nginx keeps an idle connection for 15 s; Chromium opens the page and is left alone.",
               OPENING_PAGE, "chromium", incognito=True, keepalive_timeout=15),
    Experiment("idle-close-visit", "The server closes an idle connection: Chromium answers at its next visit",
               IDLE, "nginx keeps an idle connection for 15 s; Chromium opens the page and, 45 s later, "
               "another one on port 8080.",
               OPENING_PAGE, "chromium", incognito=True, keepalive_timeout=15,
               visits=(Visit(0), Visit(45, port=8080))),
    Experiment("idle-close-patient", "A patient server: the client closes", IDLE,
               "nginx would keep an idle connection for 1000 s; Chromium opens the page and, 310 s later, "
               "another one on port 8080: by then its own limit of 300 s has passed.",
               OPENING_PAGE, "chromium", incognito=True, keepalive_timeout=1000,
               visits=(Visit(0), Visit(310, port=8080))))}

COUNTS = Counts(
    "browser-counts", "How many connections the browsers open for a page",
    (("chromium", "warm"), ("chromium", "cold"), ("chromium", "incognito"), ("firefox", "warm"), ("firefox", "cold")),
    (0, 1, 2, 4, 7, 12), 10)

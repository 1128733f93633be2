"""The programs that people write, each a line: what is counted of all of them, and the recording of each."""

from dataclasses import dataclass
from typing import ClassVar

from helpers.testbed.clients.programs import MODULES, NEEDS, Client

CLIENTS = (
    Client("requests-get", "requests.get", "python", "requests_get", "requests", findings="no-reuse"),
    Client("requests-session", "requests.Session", "python", "requests_session", "requests", findings="close-wait"),
    Client("requests-session-20", "requests.Session, pool_maxsize=20", "python", "requests_session_20", "requests",
           findings="close-wait"),
    Client("httpx", "httpx.Client", "python", "httpx_client", "httpx", findings="close-wait"),
    Client("httpx-20", "httpx.Client, 20 connections at most", "python", "httpx_client_20", "httpx",
           findings="close-wait"),
    Client("httpx-h2", "httpx.AsyncClient(http2=True)", "python", "httpx_h2", "httpx", "h2", findings="close-wait"),
    Client("aiohttp", "aiohttp.ClientSession", "python", "aiohttp_session", "aiohttp"),
    Client("urllib", "urllib.request.urlopen", "python", "urllib_request", "urllib.request", findings="no-reuse"),
    Client("node-get", "http.get", "node", "get", "node:http"),
    Client("node-no-agent", "http.get, agent: false", "node", "no-agent", "node:http", findings="no-reuse"),
    Client("node-fetch", "fetch", "node", "fetch", "undici"),
    Client("node-http2", "http2.connect", "node", "http2", "node:http2", "h2"),
    Client("go", "http.Get, body read", "go", "default", "net/http"),
    Client("go-unread", "http.Get, body not read", "go", "unread", "net/http", findings="no-reuse"),
    Client("go-unread-large", "http.Get, large body not read", "go", "unread", "net/http", path="/large",
           findings="no-reuse reset-instead-of-close"),
    Client("go-20", "http.Get, MaxIdleConnsPerHost 20", "go", "pool-20", "net/http"),
    Client("go-h2", "http.Get over HTTP/2", "go", "default", "net/http", "h2"),
    Client("java", "HttpClient.send", "java", "default", "java.net.http"),
    Client("curl-loop", "curl in a loop", "curl", "loop", "curl", stays=False, findings="no-reuse"),
    Client("curl-urls", "curl URL URL …", "curl", "urls", "curl", stays=False),
    Client("wrk", "wrk", "wrk", "default", "wrk", stays=False, findings="reset-instead-of-close"))


@dataclass(frozen=True)
class Idle:
    """One `client` asks with few workers; then it is idle for `seconds`, and nginx closes after `keepalive_timeout`.

    `limit`: seconds after the end within which the last socket must be gone.
    """

    name: str
    title: str
    about: str
    client: Client
    workers: int = 4
    times: int = 10
    seconds: float = 60
    limit: float = 200
    article: str = "(not in the article)"
    keepalive_timeout: ClassVar = 3
    recorder: ClassVar = "helpers.testbed.experiments.program_idle"

    @property
    def protocol(self) -> str:
        return "h2" if self.client.protocol == "h2" else "http"

    @property
    def programs(self) -> set[str]:
        return set(NEEDS[self.client.language])

    @property
    def modules(self) -> tuple[str, ...]:
        return MODULES if self.client.language == "python" else ()


@dataclass(frozen=True)
class Counts:
    """`workers` of each of `clients` ask `times` times each and are then idle for `seconds`; `repeats` times.

    nginx keeps an idle connection for `keepalive_timeout` seconds, so it closes none before the programs end.
    """

    name: str
    title: str
    clients: tuple[Client, ...]
    workers: int = 20
    times: int = 20
    repeats: int = 10
    seconds: float = 60
    keepalive_timeout: ClassVar = 65
    modules: ClassVar = MODULES
    recorder: ClassVar = "helpers.testbed.experiments.program_counts"

    @property
    def programs(self) -> set[str]:
        return {program for client in self.clients for program in NEEDS[client.language]}


IDLES = tuple(
    Idle(f"client-{client.name}", client.title,
         f"{client.title}: 4 workers ask 10 times each; " + (
             "then the program is idle for a minute, and nginx closes after 3 s." if client.stays
             else "then the program ends."), client)
    for client in CLIENTS)
COUNTED = Counts("clients", "How many connections 20 workers open for 400 requests, in 21 programs", CLIENTS)

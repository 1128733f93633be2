"""Who closes first: the cells of server, client, version and framing, and the regimes; each is a line here."""

from dataclasses import dataclass
from itertools import product
from typing import ClassVar

SERVERS = ("nginx", "http.server", "http.server/1.0", "raw")
VERSIONS = ("1.0", "1.0 keep-alive", "1.1", "1.1 close")
FRAMINGS = ("content-length", "chunked", "until-close")
AB_SPEAKS = ("1.0", "1.0 keep-alive")
CHUNKED_NEEDS = ("1.1", "1.1 close")
PATIENCE = 3
ARTICLE = "Which end has TIME_WAIT: who closes first in HTTP/1.0 and 1.1, by how the body's length is known"


@dataclass(frozen=True)
class Cell:
    """One kind of connection: who serves, who asks, what the request says of persistence, how the body ends.

    `server`: `nginx`; Python's `http.server`, told to speak HTTP/1.1; `http.server/1.0`, the same as it is by
    default; or `raw`, which never closes as long as its patience lasts.
    """

    server: str
    client: str
    version: str
    framing: str

    def possible(self) -> bool:
        """Whether such connections exist: ab speaks HTTP/1.0 only, and chunked takes HTTP/1.1 at both ends."""
        chunks = self.version in CHUNKED_NEEDS and self.server != "http.server/1.0"
        return (self.client == "curl" or self.version in AB_SPEAKS) and (chunks or self.framing != "chunked")

    def races(self) -> bool:
        """Whether both ends may close: the server will, and curl can tell where the body ends."""
        closes = self.server == "http.server/1.0" or self.version in ("1.0", "1.1 close")
        return self.client == "curl" and closes and self.server != "raw" and self.framing != "until-close"


@dataclass(frozen=True)
class Closers:
    """A number of `connections` of each of `cells`, one exchange each, into one table.

    `delay`: seconds that packets travel each way (0: on a cable).
    """

    name: str
    title: str
    cells: tuple[Cell, ...]
    connections: int = 100
    delay: float = 0
    recorder: ClassVar = "helpers.testbed.experiments.closers"

    @property
    def programs(self) -> set[str]:
        return {cell.client for cell in self.cells}


@dataclass(frozen=True)
class Regime:
    """Connections of one `cell`, recorded like any experiment until each of `closers` has closed first.

    They are `once` or more of clients that ask once and leave, and two of each of `idlers` clients that ask
    twice, the second time when the server's patience has ended.
    """

    name: str
    title: str
    about: str
    cell: Cell
    closers: tuple[str, ...]
    once: int = 10
    idlers: int = 0
    article: str = ARTICLE
    limit: float = 120
    keepalive_timeout: ClassVar = PATIENCE
    recorder: ClassVar = "helpers.testbed.experiments.regimes"

    @property
    def programs(self) -> set[str]:
        return {self.cell.client}


CLOSERS = Closers("closers", "Who closes first, in every cell of server, client, version and framing", tuple(
    filter(Cell.possible, (Cell(*cell) for cell in product(SERVERS, ("curl", "ab"), VERSIONS, FRAMINGS)))))
CLOSERS_RTT = Closers("closers-rtt", "Who closes first, where both may and packets travel for 20 ms",
                      tuple(filter(Cell.races, CLOSERS.cells)), delay=0.02)
REGIMES = (
    Regime("closers-patience", "Who closes first: the end whose patience ends first",
           "Both ends would keep the connection. curl closes when it has its answer and leaves (4 times); "
           "where it waits 5 s before it asks again (3 times), nginx's keepalive_timeout of 3 s ends first.",
           Cell("nginx", "curl", "1.1", "content-length"), ("client", "server"), once=4, idlers=3),
    Regime("closers-race", "Who closes first: a race",
           "Python's http.server speaks HTTP/1.0, as it does by default, so it closes after its answer; "
           "Content-Length tells curl where the answer ends, and it closes too. Repeated until each had won "
           "and both had closed at once.",
           Cell("http.server/1.0", "curl", "1.1", "content-length"), ("client", "server", "both")),
    Regime("closers-end-of-file", "Who closes first: the end of the file is the server's to send",
           "Neither Content-Length nor chunked: curl can't know that the answer is whole until nginx closes.",
           Cell("nginx", "curl", "1.1", "until-close"), ("server",)))

"""What TIME_WAIT costs: each table, and the parts in which it is recorded. A new part is a line here."""

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True)
class Cost:
    """A table and its JSON file, recorded in `waves`: the parts of one wave are recorded at the same time.

    A part has a `kind` (the key of its account in the JSON file) and a `recorder`; it has hosts of its own, so no
    part inherits a TIME_WAIT of another.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    waves: tuple[tuple, ...]
    programs: frozenset = frozenset()
    recorder: ClassVar = "helpers.testbed.running.side_by_side"


@dataclass(frozen=True)
class Ports:
    """A client with `ports` makes `rate` attempts a second; each connection that it gets ends at once.

    `kernel`: the client's settings. `closer`: who ends a connection: `client`, `server` or `client, with a
    reset`. `then`: what the client changes after `change_at` seconds: the server's `port`, its own `address`
    or `nothing`.
    """

    setting: str
    kernel: dict = field(default_factory=lambda: {"tcp_tw_reuse": 0})
    closer: str = "client"
    then: str = "nothing"
    change_at: float = 5
    ports: tuple[int, int] = (40000, 40099)
    rate: int = 200
    seconds: int = 68
    kind: ClassVar = "settings"
    recorder: ClassVar = "helpers.testbed.experiments.ports"


@dataclass(frozen=True)
class Rebind:
    """A server whose connection `closer` closed first ends; its successor tries to have the port.

    `reuse_before`, `reuse_after`: whether the old and the new one set SO_REUSEADDR.
    """

    closer: str
    reuse_before: bool
    reuse_after: bool
    patience: float = 75
    kind: ClassVar = "restarts"
    recorder: ClassVar = "helpers.testbed.experiments.rebind"


@dataclass(frozen=True)
class Series:
    """`rate` connections a second from so many client `addresses`; the server closes each first."""

    rate: int
    addresses: int = 1
    seconds: int = 150
    kind: ClassVar = "series"
    recorder: ClassVar = "helpers.testbed.experiments.steady_rate"


@dataclass(frozen=True)
class Bill:
    """`requests` by ab, 10 at a time, over connections that are `short` or `long`.

    `buckets`: the server's `tcp_max_tw_buckets`; None: the kernel's own.
    """

    connections: str
    requests: int = 20_000
    buckets: int | None = None
    run: int = 1
    kind: ClassVar = "bills"
    recorder: ClassVar = "helpers.testbed.experiments.per_request"


@dataclass(frozen=True)
class Memory:
    """What is used before `number` connections, and after them, when the server has them in `state`."""

    state: str
    number: int
    kind: ClassVar = "memory"
    recorder: ClassVar = "helpers.testbed.experiments.memory"


@dataclass(frozen=True)
class Range:
    """So many `connections`, open at once, from a client with `ports`.

    `bound`: it calls bind() with port 0 before connect().
    """

    ports: tuple[int, int]
    bound: bool = False
    connections: int = 40
    kind: ClassVar = "ranges"
    recorder: ClassVar = "helpers.testbed.experiments.local_ports"


@dataclass(frozen=True)
class Bind:
    """A client with one port, whose first connection it has closed itself, wants a second one.

    `way`: `connect alone`, `bind to the port`, `bind to the address` or `IP_BIND_ADDRESS_NO_PORT`. `to`: `another port`
    of the server or `the same`. `reuse_before`, `reuse_after`: whether the old and the new socket set SO_REUSEADDR.
    """

    way: str
    reuse_before: bool = False
    reuse_after: bool = False
    to: str = "another port"
    ports: tuple[int, int] = (40001, 40001)
    kind: ClassVar = "sockets"
    recorder: ClassVar = "helpers.testbed.experiments.local_ports"


@dataclass(frozen=True)
class Weight:
    """`number` connections that `closer` ends first: how many objects they leave in the kernel's slabs."""

    closer: str
    number: int = 5_000
    kind: ClassVar = "ends"
    recorder: ClassVar = "helpers.testbed.experiments.weight"


@dataclass(frozen=True)
class Threads:
    """`number` idle connections to a `server` (`nginx` or a kind of `helpers.testbed.servers.python_servers`)."""

    server: str
    number: int = 200
    kind: ClassVar = "servers"
    recorder: ClassVar = "helpers.testbed.experiments.weight"


@dataclass(frozen=True)
class FinWait2:
    """`number` connections that the server closed and no client answers, looked at after so many seconds (`looks`)."""

    number: int = 5
    looks: tuple[float, ...] = (3, 66)
    kind: ClassVar = "looks"
    recorder: ClassVar = "helpers.testbed.experiments.fin_wait_2"


@dataclass(frozen=True)
class Unread:
    """`repeats` uploads to a `server` that refuses them.

    `server`: `nginx, lingering_close on`, `off` or `always`; or `raw, all` or `unread`.
    """

    server: str
    repeats: int = 20
    kind: ClassVar = "servers"
    recorder: ClassVar = "helpers.testbed.experiments.unread"


PORTS = Cost(
    "ports", "A client with 100 ports: what TIME_WAIT blocks, and what helps",
    ("setting", "time", "succeeded", "failed", "error", "time_wait_client", "time_wait_server"),
    ((Ports("plain"),
      Ports("tcp_tw_reuse 1", {"tcp_tw_reuse": 1}),
      Ports("tcp_tw_reuse 2", {"tcp_tw_reuse": 2}),
      Ports("another port", then="port"),
      Ports("another address", then="address"),
      Ports("server closes first", closer="server"),
      Ports("SO_LINGER 0", closer="client, with a reset")),))
REBIND = Cost(
    "rebind", "A server that starts again over its own TIME_WAIT",
    ("closer", "reuse_before", "reuse_after", "time_wait_server", "attempts", "error", "seconds"),
    ((Rebind("server", True, True), Rebind("server", False, False), Rebind("server", False, True),
      Rebind("server", True, False), Rebind("client", False, False)),))
LOAD = Cost(
    "load", "What TIME_WAIT costs: 50 to 200 connections a second, 20,000 requests each way, memory",
    ("rate", "addresses", "time", "connections", "failed", "time_wait_client", "time_wait_server"),
    ((Series(50), Series(100), Series(200), Series(200, addresses=8)),
     *((Bill(kind, run=run),) for run in (1, 2, 3, 4, 5) for kind in ("short", "long")),
     (Bill("short", 10_000, buckets=2_000),),
     (Memory("TIME_WAIT", 10_000),), (Memory("ESTABLISHED", 5_000),)),
    frozenset({"ab", "nstat"}))
BUCKETS = Cost(
    "buckets", "A client with 100 ports whose kernel keeps fewer TIME_WAITs: tcp_max_tw_buckets",
    PORTS.columns,
    (tuple(Ports(f"tcp_max_tw_buckets {buckets}", {"tcp_tw_reuse": 0, "tcp_max_tw_buckets": buckets},
                 rate=50, seconds=10) for buckets in (131_072, 100, 50)),))
RANGE = Cost(
    "range", "The ports that a client gets: ranges with an even and an odd low end, connect() and bind()",
    ("low", "high", "how", "nth", "port"),
    (tuple(Range(ports, bound) for bound in (False, True)
           for ports in ((40000, 40399), (40001, 40400), (32768, 60999))),))
BIND = Cost(
    "bind", "bind() before connect(), while the port's last connection is in TIME_WAIT",
    ("way", "to", "reuse_before", "reuse_after", "time_wait_client", "bind_error", "connect_error"),
    ((*(Bind("connect alone", to=to) for to in ("another port", "the same")),
      *(Bind("bind to the port", before, after) for before in (False, True) for after in (False, True)),
      Bind("bind to the port", True, True, to="the same"),
      Bind("bind to the address"), Bind("bind to the address", True, True), Bind("IP_BIND_ADDRESS_NO_PORT")),))
WEIGHT = Cost(
    "weight", "What a TIME_WAIT weighs at the client and at the server",
    ("closer", "time_wait_client", "time_wait_server", "slab", "bytes_each", "objects_before", "objects_with"),
    ((Weight("server"),), (Weight("client"),)))
THREADS = Cost(
    "thread-per-connection", "What 200 idle connections take of a server: processes and threads",
    ("server", "connections", "processes", "threads"),
    ((Threads("nginx"), Threads("http.server")),), frozenset({"nginx"}))
FIN_WAIT_2 = Cost(
    "fin-wait-2-counted", "Orphaned FIN_WAIT_2: what ss -s, sockstat and a list by state call it",
    ("seconds", "source", "what", "number"), ((FinWait2(),),), frozenset({"nginx"}))
UNREAD = Cost(
    "unread-close", "close() with unread data, and nginx's lingering close",
    ("server", "nth", "sent", "status", "error", "ending", "reset_by", "time_wait_client", "time_wait_server"),
    (tuple(Unread(f"nginx, lingering_close {setting}") for setting in ("on", "off", "always")),
     (Unread("raw, all"), Unread("raw, unread"))), frozenset({"nginx"}))
COSTS = PORTS, REBIND, LOAD, BUCKETS, RANGE, BIND, WEIGHT, THREADS, FIN_WAIT_2, UNREAD

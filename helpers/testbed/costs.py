"""What TIME_WAIT costs: each table, and the parts that it is recorded in. A new part is a line here."""

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True)
class Cost:
    """A table, and what its JSON file says, recorded in `waves` of parts, those of a wave side by side.

    A part has a `kind`, under which its account goes into the JSON file, and a `recorder`; it has hosts of
    its own, so no part inherits a TIME_WAIT of another.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    waves: tuple[tuple, ...]
    programs: frozenset = frozenset()
    recorder: ClassVar = "helpers.testbed.abreast"


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
    recorder: ClassVar = "helpers.testbed.ports"


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
    recorder: ClassVar = "helpers.testbed.rebind"


@dataclass(frozen=True)
class Series:
    """`rate` connections a second from so many client `addresses`; the server closes each first."""

    rate: int
    addresses: int = 1
    seconds: int = 150
    kind: ClassVar = "series"
    recorder: ClassVar = "helpers.testbed.series"


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
    recorder: ClassVar = "helpers.testbed.bills"


@dataclass(frozen=True)
class Memory:
    """What is used before, and with what `number` connections leave in `state` at the server."""

    state: str
    number: int
    kind: ClassVar = "memory"
    recorder: ClassVar = "helpers.testbed.memory"


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
COSTS = PORTS, REBIND, LOAD

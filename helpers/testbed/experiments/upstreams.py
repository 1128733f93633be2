"""The proxy in between: the ways in which nginx speaks to the server behind it, each in one line."""

from dataclasses import dataclass
from typing import ClassVar

HTTP_1_1 = "proxy_http_version 1.1;"
CONNECTION_CLEARED = 'proxy_set_header Connection "";'


@dataclass(frozen=True)
class Upstream:
    """How the proxy speaks to its upstream: how many idle connections its `pool` keeps, and `directives`.

    Everything else is nginx's default: before version 1.29.7 that is no pool, HTTP/1.0 and `Connection: close`.
    """

    name: str
    title: str
    pool: int = 0
    directives: tuple[str, ...] = ()


@dataclass(frozen=True)
class Proxy:
    """`requests` through nginx to nginx, `concurrency` at a time, over each of `upstreams`, into one table.

    All are made with each of `port_ranges` at the proxy (None: the kernel's own), `runs` times. `patience`: values
    of the upstream's `keepalive_timeout`, in seconds; with each, we watch who closes the idle connections of a pool.
    `buckets`: values of tcp_max_tw_buckets at the proxy (None: the kernel's own).
    """

    name: str
    title: str
    upstreams: tuple[Upstream, ...]
    requests: int = 2000
    concurrency: int = 20
    port_ranges: tuple[str | None, ...] = (None, "40000 40099")
    runs: int = 5
    patience: tuple[int, ...] = (75, 5)
    buckets: tuple[int | None, ...] = (None,)
    recorder: ClassVar = "helpers.testbed.experiments.proxy"
    programs: ClassVar = frozenset({"ab"})


UPSTREAMS = (
    Upstream("default", "nginx's default before 1.29.7"),
    Upstream("http-1.1", "HTTP/1.1, but no pool", 0, (HTTP_1_1, CONNECTION_CLEARED)),
    Upstream("pool", "a pool of 32", 32, (HTTP_1_1, CONNECTION_CLEARED)),
    Upstream("pool-http-1.0", "a pool of 32, but HTTP/1.1 forgotten", 32),
    Upstream("pool-connection-close", "a pool of 32, but Connection not cleared", 32, (HTTP_1_1,)),
    Upstream("pool-of-2", "a pool of 2 for 20 requests at a time", 2, (HTTP_1_1, CONNECTION_CLEARED)))
FEW_BUCKETS = Proxy(
    "proxy-buckets", "A proxy with 100 local ports whose kernel keeps fewer TIME_WAITs: tcp_max_tw_buckets",
    (UPSTREAMS[1],), port_ranges=("40000 40099",), runs=3, patience=(), buckets=(131_072, 100, 50))
PROXY = Proxy("proxy", "A proxy in between: six ways to its upstream, then with 100 local ports", UPSTREAMS)

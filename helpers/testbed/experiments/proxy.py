"""Client, proxy and upstream: a row per way of the proxy to its upstream, range of local ports, and run."""

import platform
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

from helpers.testbed.experiments.upstreams import Proxy, Upstream
from helpers.testbed.hosts import network
from helpers.testbed.running.recording import WORKSHOP, prepare_workshop, write_json, write_table
from helpers.testbed.servers import nginx
from helpers.testbed.servers.python_servers import BODY

FRONT, BACK = "10.77.0.3", "10.77.0.4"
HOSTS = ("client", "proxy", "server")
ENDS = ("client", "proxy_to_client", "proxy_to_upstream", "upstream")
COLUMNS = (
    "upstream", "ports", "run", "requests", "failed", "status_502", "cannot_assign", "connects",
    "kernel_connects", *(f"time_wait_{end}" for end in ENDS), "idle", "requests_per_second")
NO_PORT = "connect() to {server}:{port} failed (99: Cannot assign requested address)"
BLOCKS = """\
upstream upstream{port} {{
    {upstream}
}}
server {{
    listen {port};
    location / {{
        {location}
    }}
}}"""
UPSTREAM_TIMEOUT, POOL_TIMEOUT = 75, 60
FIRST_PORT = 8001
SETTLED, SETTLED_AFTER = 0.3, 10


class ProxyNginx(nginx.Nginx):
    """nginx on the host `proxy`; `sites`: by port, the `Upstream` at the same port of the server."""

    host = "proxy"

    def _blocks(self, sites):
        return "\n".join(blocks(port, upstream) for port, upstream in sites.items())


def record(task: Proxy, folder: Path, say: Callable[[str], None]) -> None:
    """Record `task`: a table, and a JSON file of what a reader of the table needs to know.

    Each row has a port of its own at the proxy and at the server, so no TIME_WAIT of one can disturb another.
    """
    network.build(connect=cables)
    prepare_workshop()
    begun = time.time()
    ways = product(task.buckets, range(1, task.runs + 1), task.port_ranges, task.upstreams)
    rows = dict(enumerate(ways, FIRST_PORT))
    idle = dict(enumerate(task.patience, FIRST_PORT + len(rows)))
    pooled = next((upstream for upstream in task.upstreams if upstream.name == "pool"), None)
    upstreams = {port: upstream for port, (*_, upstream) in rows.items()} | dict.fromkeys(idle, pooled)
    server = start_server({port: idle.get(port, UPSTREAM_TIMEOUT) for port in upstreams})
    proxy, settings = ProxyNginx(WORKSHOP / "proxy", upstreams), network.kernel_settings("proxy")
    closings, measured = watch_idle(idle, task, say), {}
    for port, (buckets, _, port_range, _) in rows.items():
        say(f"{port - FIRST_PORT + 1}/{len(rows)} rows")
        network.set_kernel("proxy", {"ip_local_port_range": port_range or settings["ip_local_port_range"],
                                     "tcp_max_tw_buckets": buckets or settings["tcp_max_tw_buckets"]})
        measured[port] = measure(port, task)
        drop_time_waits(buckets)
    columns = COLUMNS if task.buckets == (None,) else (*COLUMNS, "buckets")
    write_table(folder / f"{task.name}.csv", columns, table(rows, measured, server, proxy, columns))
    write_json(folder / f"{task.name}.json", about(task, begun, settings, closings))


def cables() -> None:
    """A third host, `proxy`, between client and server: one cable to each, and no way past it."""
    subprocess.run(["ip", "netns", "add", "proxy"], check=True)
    network.run("proxy", "sysctl", "-qe", "net.ipv6.conf.all.disable_ipv6=1",
                "net.ipv6.conf.default.disable_ipv6=1")
    network.run("proxy", "ip", "link", "set", "lo", "up")
    for host, link, address in (("client", "front", FRONT), ("server", "back", BACK)):
        network.run("proxy", "ip", "link", "add", link, "type", "veth",
                    "peer", "name", network.INTERFACE, "netns", host)
        network.run("proxy", "ip", "address", "add", address, "peer", network.ADDRESSES[host], "dev", link)
        network.run("proxy", "ip", "link", "set", link, "up")


def start_server(patience: dict[int, int]) -> nginx.Nginx:
    """nginx as the upstream; `patience`: by port, its `keepalive_timeout`."""
    (root := WORKSHOP / "root").mkdir()
    (root / "index.html").write_bytes(BODY)
    return nginx.Nginx(WORKSHOP / "nginx", {port: (root, seconds) for port, seconds in patience.items()})


def blocks(port: int, upstream: Upstream) -> str:
    """The part of the proxy's nginx configuration that is about `upstream`."""
    pool = [f"keepalive {upstream.pool};"] if upstream.pool else []
    behind = [f"server {network.ADDRESSES['server']}:{port};", *pool]
    return BLOCKS.format(port=port, upstream="\n    ".join(behind), location="\n        ".join(
        [f"proxy_pass http://upstream{port};", *upstream.directives]))


def measure(port: int, task: Proxy) -> dict:
    """What the requests of `task` to `port` of the proxy leave behind at the three hosts: a part of a row."""
    opened = active_opens()
    per_second = make_requests(port, task)
    left = settle(port)
    return {"ports": local_ports(), "kernel_connects": active_opens() - opened,
            **{f"time_wait_{end}": left[end, "TIME_WAIT"] for end in ENDS},
            "idle": left["proxy_to_upstream", "ESTABLISHED"], "requests_per_second": per_second}


def drop_time_waits(buckets: int | None) -> None:
    """Wait until the proxy has no TIME_WAIT left where their number is limited: the limit is one for all ports."""
    until = time.monotonic() + 70
    while buckets and any(state == "TIME_WAIT" for _, _, state in network.sockets("proxy")):
        if time.monotonic() > until:
            raise TimeoutError("the proxy's TIME_WAITs don't end")
        time.sleep(SETTLED)


def table(rows: dict[int, tuple], measured: dict[int, dict], server: nginx.Nginx, proxy: nginx.Nginx,
          columns: tuple[str, ...]) -> Iterator[list]:
    """One row for each of `rows`: what was `measured`, and what the logs of both nginx say."""
    answers = Counter((int(row["server_port"]), row["status"]) for row in proxy.requests())
    served = {(int(row["server_port"]), row["connection"]) for row in server.requests()}
    connects = Counter(port for port, _ in served)
    errors = (proxy.folder / "error.log").read_text()
    for port, (buckets, run, _, upstream) in rows.items():
        requests = sum(count for (its, _), count in answers.items() if its == port)
        row = {"upstream": upstream.name, "run": run, "requests": requests,
               "failed": requests - answers[port, "200"], "status_502": answers[port, "502"],
               "cannot_assign": errors.count(NO_PORT.format(server=network.ADDRESSES["server"], port=port)),
               "connects": connects[port], "buckets": buckets, **measured[port]}
        yield [row[name] for name in columns]


def make_requests(port: int, task: Proxy) -> int:
    """Make the requests of `task` with ab, keeping connections, to `port` of the proxy; return requests a second."""
    done = subprocess.run(
        ["ab", "-q", "-k", "-n", str(task.requests), "-c", str(task.concurrency), f"http://{FRONT}:{port}/"],
        capture_output=True, text=True, timeout=60)
    per_second = re.search(r"Requests per second: +([\d.]+)", done.stdout)
    if done.returncode or not per_second:
        raise OSError(f"ab: {done.stderr.strip() or done.stdout.strip()}")
    return round(float(per_second[1]))


def ends(port: int) -> Counter:
    """How many sockets of `port` there are now, by which of `ENDS` they are, and state."""
    front, back = f"{FRONT}:{port}", f"{network.ADDRESSES['server']}:{port}"
    found = Counter()
    for host in HOSTS:
        for local, peer, state in network.sockets(host):
            if front in (local, peer):
                found["client" if host == "client" else "proxy_to_client", state] += 1
            elif back in (local, peer):
                found["upstream" if host == "server" else "proxy_to_upstream", state] += 1
    return found


def settle(port: int) -> Counter:
    """What `ends` returns once it is twice the same, and no connection is closing."""
    before, until = None, time.monotonic() + SETTLED_AFTER
    while (now := ends(port)) != before or {state for _, state in now} - {"TIME_WAIT", "ESTABLISHED"}:
        if time.monotonic() > until:
            raise TimeoutError(f"the sockets of port {port} don't settle: {now}")
        before = now
        time.sleep(SETTLED)
    return now


def watch_idle(idle: dict[int, int], task: Proxy, say: Callable[[str], None]) -> list[dict]:
    """Who closes the idle connections of a pool, and when. `idle`: the upstream's patience by port."""
    left = {}
    for port in idle:
        make_requests(port, task)
        left[port] = time.monotonic(), settle(port)["proxy_to_upstream", "ESTABLISHED"]
    return [_closing(port, patience, *left[port], say)
            for port, patience in sorted(idle.items(), key=lambda item: item[1])]


def _closing(port, patience, since, connections, say):
    limit = since + POOL_TIMEOUT + patience
    while (now := ends(port))["proxy_to_upstream", "ESTABLISHED"]:
        if time.monotonic() > limit:
            raise TimeoutError(f"idle connections are still there: {now}")
        say("waiting until the idle connections are closed")
        time.sleep(SETTLED)
    after, now = round(time.monotonic() - since, 1), settle(port)
    return {"keepalive_timeout_upstream": patience, "keepalive_timeout_pool": POOL_TIMEOUT,
            "idle": connections, "closed_after": after,
            "time_wait_proxy": now["proxy_to_upstream", "TIME_WAIT"],
            "time_wait_upstream": now["upstream", "TIME_WAIT"]}


def active_opens() -> int:
    """How many connections the proxy's kernel has opened so far."""
    names, values = [line.split() for line in network.run("proxy", "cat", "/proc/net/snmp").splitlines()
                     if line.startswith("Tcp:")]
    return int(dict(zip(names, values))["ActiveOpens"])


def local_ports() -> int:
    """How many local ports the proxy has for connections that it opens."""
    low, high = map(int, network.kernel_settings("proxy")["ip_local_port_range"].split())
    return high - low + 1


def about(task: Proxy, begun: float, settings: dict, closings: list[dict]) -> dict:
    """What `proxy.json` says: what was done and with what, and who closes what lies idle in a pool."""
    return {
        "name": task.name, "title": task.title,
        "recorded": datetime.fromtimestamp(begun, UTC).isoformat(timespec="seconds"),
        "requests": task.requests, "concurrency": task.concurrency,
        "client": {"program": "ab", "flags": ["-k"]},
        "addresses": network.ADDRESSES | {"proxy": [FRONT, BACK]},
        "upstreams": {upstream.name: {"title": upstream.title, "nginx": blocks(FIRST_PORT, upstream)}
                      for upstream in task.upstreams},
        "processes": {"proxy": 1, "upstream": 1}, "keepalive_timeout_upstream": UPSTREAM_TIMEOUT,
        "port_ranges": [each or settings["ip_local_port_range"] for each in task.port_ranges],
        "runs": task.runs, "body_bytes": len(BODY),
        "idle_connections": closings, "kernel": settings,
        "versions": {"kernel": platform.release(), "nginx": nginx.version(), "ab": ab_version(),
                     "python": platform.python_version(),
                     "ss": network.run("client", "ss", "-V").split()[-1].removeprefix("iproute2-")}}


def ab_version() -> str:
    """ab's version, such as `2.3`."""
    return subprocess.run(["ab", "-V"], capture_output=True, text=True).stdout.split("Version ")[1].split()[0]

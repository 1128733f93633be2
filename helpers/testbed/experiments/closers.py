"""Who closes first, in every cell: `closers.csv` and `closers-rtt.csv`, a row per connection."""

import re
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from helpers.captures import Capture, read_capture
from helpers.connections import HOSTS, connections
from helpers.exchanges import exchanges
from helpers.testbed.experiments.closer_cells import FRAMINGS, PATIENCE, SERVERS, Cell, Closers
from helpers.testbed.hosts import network
from helpers.testbed.hosts.wire import PromptProcess, Wire
from helpers.testbed.running.recording import AFTER, WORKSHOP, Unclean, prepare_workshop
from helpers.testbed.servers import nginx
from helpers.testbed.servers.python_servers import BODY, Server
from helpers.testbed.witnesses import dumpcap

CURL = {"1.0": ("--http1.0",), "1.0 keep-alive": ("--http1.0", "--header", "Connection: keep-alive"),
        "1.1": (), "1.1 close": ("--header", "Connection: close")}
AB = {"1.0": (), "1.0 keep-alive": ("-k",)}
AB_REPORT = rb"Length: +%d bytes(?s:.*)Complete requests: +1\nFailed requests: +0\n(?!Non-2xx)" % len(BODY)
SSI = {"ssi": "on", "ssi_types": "*"}  # nginx can't tell a length before it has looked for what to include
NGINX = {"content-length": {}, "chunked": SSI, "until-close": {**SSI, "chunked_transfer_encoding": "off"}}
COLUMNS = ("server", "client", "version", "framing", "closer", "time_wait_client", "time_wait_server",
           "ss_client", "ss_server")
FIRST_PORT = 8001
SETTLED_AFTER = 10


def record(task: Closers, folder: Path, say: Callable[[str], None]) -> None:
    """Record the cells of `task`; write a table of what the packets and the kernel say of each connection.

    Each cell has a server port of its own, so no TIME_WAIT of one can disturb another. One capture at the client
    tells who closed first even on a long wire, since sequence numbers decide that, not times.
    """
    network.build(Wire(task.delay, carrier=PromptProcess).lay if task.delay else None)
    prepare_workshop()
    ports = dict(enumerate(task.cells, FIRST_PORT))
    start_servers(ports)
    capture, listed = dumpcap.Dumpcap(WORKSHOP / "capture.pcapng"), {host: set() for host in HOSTS}
    for number, (port, cell) in enumerate(ports.items(), 1):
        make_exchanges(cell, port, task.connections)
        for host in HOSTS:
            listed[host] |= time_waits(host, port)
        say(f"{number}/{len(ports)} cells")
    time.sleep(AFTER)
    if lost := capture.close()[1]:
        raise Unclean(f"dumpcap lost {lost} frames")
    rows = table(read_capture(WORKSHOP / "capture.pcapng"), ports, listed)
    rows.to_csv(folder / f"{task.name}.csv", index=False, lineterminator="\n")


def start_servers(ports: dict[int, Cell]) -> dict[str, nginx.Nginx | Server]:
    """Start the servers of `ports` (a cell by port); return them by kind."""
    kinds = {kind: [port for port, cell in ports.items() if cell.server == kind] for kind in SERVERS}
    (root := WORKSHOP / "root").mkdir()
    for framing in FRAMINGS:
        (root / framing).write_bytes(BODY)
    sites = {port: (root, _directives(ports[port])) for port in kinds.pop("nginx")}
    started = {"nginx": nginx.Nginx(WORKSHOP / "nginx", sites)} if sites else {}
    return started | {
        kind: Server(kind, its, WORKSHOP / f"{its[0]}.log") for kind, its in kinds.items() if its}


def _directives(cell):
    """The value of nginx's `keepalive_timeout` for `cell`, and the directives after it."""
    return "; ".join([str(PATIENCE), *(f"{name} {value}" for name, value in NGINX[cell.framing].items())])


def settings(cell: Cell) -> dict:
    """The settings of the server of `cell`."""
    if cell.server == "nginx":
        return {"keepalive_timeout": PATIENCE, **NGINX[cell.framing]}
    version = "HTTP/1.0" if cell.server == "http.server/1.0" else "HTTP/1.1"
    return {"protocol_version": version, "timeout": PATIENCE}


def url(cell: Cell, port: int) -> str:
    """The URL on which the server of `cell` listens at `port`; its path names the framing."""
    return f"http://{network.ADDRESSES['server']}{'' if port == 80 else f':{port}'}/{cell.framing}"


def flags(cell: Cell) -> tuple[str, ...]:
    """The options that make the client of `cell` speak its version."""
    return (AB if cell.client == "ab" else CURL)[cell.version]


def exchange(cell: Cell, port: int, times: int = 1) -> None:
    """One client that asks `times` times, waiting longer than the server in between.

    Raises `OSError` where it doesn't bring the whole body with status 200.
    """
    options = {"ab": ("-q", "-n", "1"), "curl": ("-sS", "--write-out", "%{http_code}")}[cell.client]
    pause = ("--rate", f"{60 // (PATIENCE + 2)}/m") if times > 1 else ()
    command = [cell.client, *options, *pause, *flags(cell), *[url(cell, port)] * times]
    done = subprocess.run(command, capture_output=True)
    by_curl, by_ab = done.stdout == (BODY + b"200") * times, re.search(AB_REPORT, done.stdout)
    if not (by_ab if cell.client == "ab" else by_curl):
        raise OSError(f"{cell} got no good answer: {(done.stderr or done.stdout).decode()}")


def make_exchanges(cell: Cell, port: int, number: int) -> None:
    """Make `number` exchanges, one by one; all at once where the first had to wait for the server."""
    begun = time.monotonic()
    exchange(cell, port)
    waits = time.monotonic() - begun > PATIENCE / 2
    with ThreadPoolExecutor(number if waits else 1) as pool:
        list(pool.map(exchange, [cell] * (number - 1), [port] * (number - 1)))


def time_waits(host: str, port: int) -> set[tuple[str, str]]:
    """The sockets (client, server) of `port` that `ss` lists on `host`, once all of them are in TIME_WAIT."""
    server, until = f"{network.ADDRESSES['server']}:{port}", time.monotonic() + SETTLED_AFTER
    while True:
        mine = [row for row in network.sockets(host) if server in row[:2]]
        if all(state == "TIME_WAIT" for *_, state in mine):
            return {(local, peer) if host == "client" else (peer, local) for local, peer, _ in mine}
        if time.monotonic() > until:
            raise TimeoutError(f"sockets on {host} don't settle: {mine}")
        time.sleep(0.1)


def table(capture: Capture, ports: dict[int, Cell], listed: dict[str, set[tuple[str, str]]]) -> pd.DataFrame:
    """One row per connection of `capture`, in order of cell: `COLUMNS`.

    `ports`: the cell by server port. `listed`: by host, the (client, server) that `ss` had in TIME_WAIT.
    """
    rows = connections(capture).join(exchanges(capture).set_index("stream"), rsuffix="_exchange")
    rows["cell"] = rows["server"].str.rsplit(":", n=1).str[1].astype(int).map(ports)
    sockets = list(zip(rows["client"], rows["server"]))
    for host in HOSTS:
        rows[f"time_wait_{host}"] = rows["time_wait"].isin([host, "both"])
        rows[f"ss_{host}"] = [socket in listed[host] for socket in sockets]
    _check(rows)
    for name in ("server", "client", "version"):
        rows[name] = [getattr(cell, name) for cell in rows["cell"]]
    return rows[list(COLUMNS)]


def _check(rows):
    """An error where a connection isn't one whole exchange as asked, ended by FINs, on its own 4-tuple."""
    good = (rows["status"] == 200) & (rows["framing"] == [cell.framing for cell in rows["cell"]])
    good &= (rows["ending"] == "fin") & ~rows.duplicated(["client", "server"], keep=False)
    if not good.all():
        raise Unclean(f"connections that can't be told: {rows[~good].head().to_dict('records')}")

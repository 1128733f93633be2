"""The memory of a TIME_WAIT at either end, and the processes and threads that a server needs for its connections."""

import re
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from helpers.testbed.experiments.costs import Threads, Weight
from helpers.testbed.experiments.ports import SERVER_PORTS, start_server
from helpers.testbed.hosts import network
from helpers.testbed.running.recording import WORKSHOP, prepare_workshop
from helpers.testbed.running.side_by_side import kernels, time_waits, write_account
from helpers.testbed.servers import nginx
from helpers.testbed.servers.page import write_page
from helpers.testbed.servers.python_servers import Server

SLABS = ("tw_sock_TCP", "tcp_bind_bucket", "tcp_bind2_bucket")
SETTLED_AFTER = 1
REQUEST = b"GET /content-length HTTP/1.1\r\nHost: server\r\n\r\n"


def record(part: Weight | Threads, folder: Path, say: Callable[[str], None]) -> None:
    """Record one part: a row per slab, or a row per server and number of idle connections."""
    rows = weighed(part) if part.kind == "ends" else held(part)
    write_account(folder, {**asdict(part), **kernels()}, rows)


def weighed(part: Weight) -> list[tuple]:
    """By slab, its objects before and with so many TIME_WAITs at the end that `part.closer` names, and their size."""
    network.build()
    network.set_kernel("client", {"tcp_tw_reuse": 0})
    server = start_server(part.closer)
    connect(part.closer)
    before = slabs()
    for _ in range(part.number):
        connect(part.closer)
    time.sleep(SETTLED_AFTER)
    after, waiting = slabs(), {host: time_waits(host) for host in network.ADDRESSES}
    server.terminate()
    return [(part.closer, waiting["client"], waiting["server"], name, *before[name], after[name][1]) for name in SLABS]


def connect(closer: str) -> None:
    """One connection with a byte each way, which `closer` ends."""
    with socket.create_connection((network.ADDRESSES["server"], SERVER_PORTS[0]), 5) as connection:
        connection.sendall(b"?")
        while closer == "server" and connection.recv(1):
            pass
        if closer == "client":
            connection.recv(1)


def slabs() -> dict:
    """By slab of `SLABS`, the bytes of an object, and how many are in use on the whole machine.

    The kernel may keep objects of one size in one slab: then the number counts those of other kinds too.
    """
    found = {}
    for name in SLABS:
        folder = Path("/sys/kernel/slab") / name
        if not folder.exists():
            raise OSError(f"this kernel has no slab {name}")
        found[name] = tuple(int((folder / value).read_text().split()[0]) for value in ("slab_size", "objects"))
    return found


def held(part: Threads) -> list[tuple]:
    """The server's processes and threads: without connections, and with `part.number` idle ones."""
    network.build()
    prepare_workshop()
    server, pid = started(part.server)
    rows = [(part.server, 0, *used(pid))]
    kept = [idle() for _ in range(part.number)]
    time.sleep(SETTLED_AFTER)
    established = network.run("server", "ss", "-Htn", "state", "established").count("\n")
    rows.append((part.server, established, *used(pid)))
    for connection in kept:
        connection.close()
    server.close()
    return rows


def started(kind: str) -> tuple:
    """The server of this kind, and the number of its process."""
    if kind == "nginx":
        folder = WORKSHOP / "page"
        write_page(folder, 0)
        (folder / "content-length").write_bytes(b"x" * 1000)
        server = nginx.Nginx(WORKSHOP / "nginx", {80: (folder, 65)})
        return server, int((WORKSHOP / "nginx" / "nginx.pid").read_text())
    server = Server(kind, [80], WORKSHOP / "log")
    listening = subprocess.run(network.on("server", "ss", "-Htlnp"), capture_output=True, text=True).stdout
    return server, int(re.search(r"pid=(\d+)", listening)[1])


def idle() -> socket.socket:
    """A connection after one request, kept."""
    connection = socket.create_connection((network.ADDRESSES["server"], 80), 5)
    connection.sendall(REQUEST)
    if b" 200 " not in connection.recv(65536):
        raise OSError("the server doesn't answer")
    return connection


def used(pid: int) -> tuple[int, int]:
    """How many processes (with its children) and threads the server has."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return 1 + len(children), sum(len(list(Path(f"/proc/{each}/task").iterdir())) for each in (pid, *children))

"""The local ports that a client gets: from connect() or bind(), and while an earlier connection is in TIME_WAIT."""

import errno
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from helpers.testbed.experiments.costs import Bind, Range
from helpers.testbed.hosts import network
from helpers.testbed.running.side_by_side import kernels, time_waits, write_account

SERVER_PORTS = 8001, 8002
IP_BIND_ADDRESS_NO_PORT = 24
SETTLED_AFTER = 0.2


def record(part: Range | Bind, folder: Path, say: Callable[[str], None]) -> None:
    """Record one part: the ports of many connections, or what bind() and connect() say to a second socket."""
    network.build()
    low, high = part.ports
    network.set_kernel("client", {"ip_local_port_range": f"{low} {high}", "tcp_tw_reuse": 0})
    server = start_server()
    rows = many(part) if part.kind == "ranges" else [second(part)]
    server.terminate()
    write_account(folder, {**asdict(part), **kernels()}, rows)


def start_server() -> subprocess.Popen:
    """A server on `SERVER_PORTS` that never closes first, started and listening."""
    server = subprocess.Popen(network.on("server", sys.executable, "-m", "helpers.testbed.experiments.ports", "client"),
                              stdout=subprocess.PIPE)
    if not server.stdout.readline():
        raise OSError("the server of ports doesn't start")
    return server


def many(part: Range) -> list[tuple]:
    """A row for each of `part.connections`, all open at once: the range, how, which one, and its port."""
    kept, rows = [], []
    for number in range(1, part.connections + 1):
        connection = socket.socket()
        if part.bound:
            connection.bind((network.ADDRESSES["client"], 0))
        connection.connect((network.ADDRESSES["server"], SERVER_PORTS[0]))
        kept.append(connection)
        rows.append((*part.ports, "bind" if part.bound else "connect", number, connection.getsockname()[1]))
    for connection in kept:
        connection.close()
    return rows


def second(part: Bind) -> tuple:
    """The row of `part`: after one connection that the client closed, the errors of a second socket."""
    with made(part, part.reuse_before) as connection:
        connection.connect((network.ADDRESSES["server"], SERVER_PORTS[0]))
    time.sleep(SETTLED_AFTER)
    waiting, errors = time_waits("client"), {"bind": "", "connect": ""}
    try:
        step = "bind"
        with made(part, part.reuse_after) as connection:
            step = "connect"
            connection.connect((network.ADDRESSES["server"], SERVER_PORTS[part.to == "another port"]))
    except OSError as why:
        errors[step] = errno.errorcode[why.errno]
    return part.way, part.to, part.reuse_before, part.reuse_after, waiting, errors["bind"], errors["connect"]


def made(part: Bind, reuse: bool) -> socket.socket:
    """A socket, bound in the way of `part`: to the range's one port, to an address alone, or not at all."""
    connection = socket.socket()
    connection.settimeout(5)
    try:
        if reuse:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if part.way == "IP_BIND_ADDRESS_NO_PORT":
            connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        if part.way != "connect alone":
            port = part.ports[0] if part.way == "bind to the port" else 0
            connection.bind((network.ADDRESSES["client"], port))
    except OSError:
        connection.close()
        raise
    return connection

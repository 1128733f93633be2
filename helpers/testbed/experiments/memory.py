"""Memory and descriptors that connections use: at a server that has closed them, and at one that keeps them."""

import re
import socket
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from helpers.testbed.experiments.costs import Memory
from helpers.testbed.hosts import network
from helpers.testbed.running import load
from helpers.testbed.running.side_by_side import kernels, time_waits, write_account

PATIENCE = 1000
SETTLED_AFTER = 1
REQUEST = b"GET / HTTP/1.1\r\nHost: server\r\n\r\n"
SLABS = "tw_sock_TCP", "TCP"


def record(part: Memory, folder: Path, say: Callable[[str], None]) -> None:
    """Record what is used before the connections of `part`, and after them."""
    idle = part.state == "ESTABLISHED"
    process = load.serve({80: PATIENCE if idle else 0})
    load.ask(load.CONCURRENCY)
    without = used(process)
    kept = [keep() for _ in range(part.number)] if idle else load.ask(part.number)
    with_them = used(process)
    for connection in kept if idle else ():
        connection.close()
    write_account(folder, {**asdict(part), "without": without, "with": with_them, **kernels()})


def keep() -> socket.socket:
    """A connection after one request, kept."""
    connection = socket.create_connection((network.ADDRESSES["server"], 80), 5)
    connection.sendall(REQUEST)
    if not connection.recv(65536).startswith(b"HTTP/1.1 200 "):
        raise OSError("nginx doesn't answer")
    return connection


def used(process: Path) -> dict:
    """What nginx's `process` and the kernel use, and how many connections the server has."""
    time.sleep(SETTLED_AFTER)
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    established = network.run("server", "ss", "-Htn", "state", "established").count("\n")
    return {"time_wait": time_waits("server"), "established": established,
            "threads": int(status["Threads"]), "rss": int(status["VmRSS"].split()[0]) * 1024,
            "descriptors": len(list((process / "fd").iterdir())),
            "kernel_slab": kernel_slab(), "slabs": slabs()}


def kernel_slab() -> int:
    """Bytes in all slabs of the kernel, for both ends and everything else."""
    return int(re.search(r"Slab: +(\d+) kB", Path("/proc/meminfo").read_text())[1]) * 1024


def slabs() -> dict[str, dict] | None:
    """Objects in use and bytes of one, by slab, for both ends; None where the kernel doesn't tell."""
    try:
        lines = Path("/proc/slabinfo").read_text().splitlines()
    except (PermissionError, FileNotFoundError):
        return None
    rows = {line.split()[0]: line.split() for line in lines}
    return {name: {"objects": int(rows[name][1]), "bytes_each": int(rows[name][3])}
            for name in SLABS if name in rows}

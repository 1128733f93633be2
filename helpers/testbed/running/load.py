"""Load: nginx with a text of 1,000 bytes, ab, and the kernel's counters."""

import re
import resource
import subprocess
from pathlib import Path

from helpers.testbed.hosts import network
from helpers.testbed.running.recording import WORKSHOP, prepare_workshop
from helpers.testbed.servers import nginx
from helpers.testbed.servers.python_servers import BODY

CONCURRENCY = 10
URL = f"http://{network.ADDRESSES['server']}/"
COUNTERS = ("TcpActiveOpens", "TcpPassiveOpens", "TcpExtTW", "TcpExtTCPTimeWaitOverflow")
REPORTED = {"failed": r"Failed requests: +(\d+)", "answered": r"Complete requests: +(\d+)",
            "requests_per_second": r"Requests per second: +([\d.]+)"}


class Busy(nginx.Nginx):
    """nginx with room for many connections, and without an access log."""

    connections = 8192


def serve(keepalive_timeouts: dict[int, int]) -> Path:
    """Join the hosts and start nginx, alone on the server, with a `keepalive_timeout` for each port; its process."""
    network.build()
    prepare_workshop()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    (WORKSHOP / "root").mkdir()
    (WORKSHOP / "root" / "index.html").write_bytes(BODY)
    Busy(WORKSHOP / "nginx", {port: (WORKSHOP / "root", f"{timeout}; access_log off")
                              for port, timeout in keepalive_timeouts.items()})
    return Path("/proc") / (WORKSHOP / "nginx" / "nginx.pid").read_text().strip()


def ask(requests: int, *options: str) -> dict[str, int | float]:
    """What ab reports of so many `requests`: `REPORTED`."""
    command = network.on("client", "ab", "-q", *options, "-n", requests, "-c", CONCURRENCY, URL)
    said = subprocess.run(command, capture_output=True, text=True)
    if said.returncode:
        raise OSError(f"ab: {said.stderr.strip()}")
    found = {name: re.search(line, said.stdout)[1] for name, line in REPORTED.items()}
    return {name: int(value) if value.isdigit() else float(value) for name, value in found.items()}


def counters(host: str) -> dict[str, int]:
    """The kernel's `COUNTERS` on `host`, since the host began."""
    said = network.run(host, "nstat", "-asz", *COUNTERS)
    return {name: int(value) for name, value, _ in map(str.split, said.splitlines()[1:])}

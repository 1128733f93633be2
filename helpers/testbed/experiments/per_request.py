"""What many requests cost over short and long connections: handshakes, TIME_WAITs, requests a second."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from helpers.testbed.experiments.costs import Bill
from helpers.testbed.hosts import network
from helpers.testbed.running import load
from helpers.testbed.running.side_by_side import kernels, time_waits, write_account

KEEPALIVE_TIMEOUT = {"short": 0, "long": 65}
OPTIONS = {"short": (), "long": ("-k",)}
OUR_NAMES = {"TcpActiveOpens": "opened", "TcpPassiveOpens": "accepted", "TcpExtTW": "new_time_wait",
        "TcpExtTCPTimeWaitOverflow": "overflow"}


def record(part: Bill, folder: Path, say: Callable[[str], None]) -> None:
    """Record one run of ab: what it reports, and both kernels' counters and TIME_WAITs at its end."""
    load.serve({80: KEEPALIVE_TIMEOUT[part.connections]})
    if part.buckets is not None:
        network.set_kernel("server", {"tcp_max_tw_buckets": part.buckets})
    report = load.ask(part.requests, *OPTIONS[part.connections])
    about = {**asdict(part), **report, "concurrency": load.CONCURRENCY}
    for host in network.ADDRESSES:
        about[f"time_wait_{host}"] = time_waits(host)
        about |= {f"{OUR_NAMES[name]}_{host}": value for name, value in load.counters(host).items()}
    write_account(folder, {**about, **kernels()})

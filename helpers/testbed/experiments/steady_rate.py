"""TIME_WAIT over time: connections begin at a steady rate, whether or not the earlier ones succeeded."""

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from helpers.testbed.experiments.costs import Series
from helpers.testbed.experiments.ports import IP_BIND_ADDRESS_NO_PORT, sample
from helpers.testbed.hosts import network
from helpers.testbed.running import load
from helpers.testbed.running.side_by_side import kernels, write_account

FIRST_ADDRESS = 11
REQUEST = b"GET / HTTP/1.1\r\nHost: server\r\n\r\n"


def record(part: Series, folder: Path, say: Callable[[str], None]) -> None:
    """Record one rate: a row per second with the connections made so far and the TIME_WAITs at both ends."""
    load.serve({80: 0})
    addresses = [f"10.77.0.{FIRST_ADDRESS + number}" for number in range(part.addresses)]
    for address in addresses:
        network.run("client", "ip", "address", "add", f"{address}/24", "dev", network.INTERFACE)
    made, sampled = make_connections(part, addresses)
    counters = {f"new_time_wait_{host}": load.counters(host)["TcpExtTW"] for host in network.ADDRESSES}
    rows = [(part.rate, part.addresses, second, *made.get(second, ("", "")), *waits)
            for second, waits in sorted(sampled.items())]
    write_account(folder, {**asdict(part), **counters, **kernels()}, rows)


def make_connections(part: Series, addresses: list[str]) -> tuple[dict[int, tuple[int, int]], dict[int, list[int]]]:
    """By second: how many connections had succeeded and failed by then; and what `sample` counted."""
    made, sampled, succeeded, begun = {}, {}, 0, time.monotonic()
    sampler = threading.Thread(target=sample, args=(begun, part.seconds, sampled), daemon=True)
    sampler.start()
    for number in range(part.rate * part.seconds):
        time.sleep(max(0, begun + number / part.rate - time.monotonic()))
        succeeded += answered(addresses[number % len(addresses)])
        made[int(time.monotonic() - begun) + 1] = succeeded, number + 1 - succeeded
    sampler.join()
    return made, sampled


def answered(address: str) -> bool:
    """Whether a request on a connection of its own, from `address`, was answered; the server closes first."""
    try:
        with socket.socket() as connection:
            connection.settimeout(5)
            connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            connection.bind((address, 0))
            connection.connect((network.ADDRESSES["server"], 80))
            connection.sendall(REQUEST)
            answer = b""
            while some := connection.recv(65536):
                answer += some
            return answer.startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False

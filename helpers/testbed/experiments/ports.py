"""What TIME_WAIT blocks: a client with few ports makes attempts at a steady rate, and some fail.

`python -m helpers.testbed.experiments.ports CLOSER` is the server, until ended: it answers a byte with a byte on
each of `SERVER_PORTS`; where `CLOSER` is `server`, it then closes first.
"""

import errno
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from helpers.testbed.experiments.costs import Ports
from helpers.testbed.hosts import network
from helpers.testbed.running.side_by_side import kernels, time_waits, write_account

SERVER_PORTS = 8001, 8002
OTHER_ADDRESS = "10.77.0.3"
BUCKET = 0.1
IP_BIND_ADDRESS_NO_PORT = 24
RESET = struct.pack("ii", 1, 0)


def record(part: Ports, folder: Path, say: Callable[[str], None]) -> None:
    """Record one setting: a row per tenth of a second, once a second with the TIME_WAITs at both ends."""
    network.build()
    low, high = part.ports
    network.run("client", "ip", "address", "add", f"{OTHER_ADDRESS}/24", "dev", network.INTERFACE)
    network.set_kernel("client", {"ip_local_port_range": f"{low} {high}", **part.kernel})
    server = start_server(part.closer)
    outcomes, sampled = make_attempts(part)
    server.terminate()
    write_account(folder, {**asdict(part), **kernels()}, table(part, outcomes, sampled))


def start_server(closer: str) -> subprocess.Popen:
    """The server, started and listening."""
    server = subprocess.Popen(
        network.on("server", sys.executable, "-m", "helpers.testbed.experiments.ports", closer), stdout=subprocess.PIPE)
    if not server.stdout.readline():
        raise OSError("the server of ports doesn't start")
    return server


def make_attempts(part: Ports) -> tuple[Counter, dict[int, list[int]]]:
    """Make the attempts of `part`; return their outcomes, counted, and the samples of `sample`.

    An outcome is (tenth of a second, name of the error or None where the attempt succeeded).
    """
    outcomes, sampled, begun = Counter(), {}, time.monotonic()
    sampler = threading.Thread(target=sample, args=(begun, part.seconds, sampled), daemon=True)
    sampler.start()
    for number in range(part.seconds * part.rate):
        time.sleep(max(0, begun + number / part.rate - time.monotonic()))
        since = time.monotonic() - begun
        outcomes[int(since / BUCKET), attempt(part, changed=since >= part.change_at)] += 1
    sampler.join()
    return outcomes, sampled


def sample(begun: float, seconds: int, sampled: dict[int, list[int]]) -> None:
    """Count the TIME_WAITs at both ends into `sampled`, by second since `begun`."""
    for second in range(1, seconds):
        time.sleep(max(0, begun + second - time.monotonic()))
        sampled[second] = [time_waits(host) for host in network.ADDRESSES]


def attempt(part: Ports, changed: bool) -> str | None:
    """One connection, from its beginning to its end; the name of the error that prevented it, or None."""
    port = SERVER_PORTS[changed and part.then == "port"]
    try:
        with socket.socket() as connection:
            connection.settimeout(5)
            if changed and part.then == "address":
                connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
                connection.bind((OTHER_ADDRESS, 0))
            connection.connect((network.ADDRESSES["server"], port))
            connection.sendall(b"?")
            answer = connection.recv(1)
            if part.closer == "server":
                answer += connection.recv(1)
            elif part.closer != "client":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            return None if answer == b"!" else "no answer"
    except OSError as why:
        return errno.errorcode.get(why.errno, "timed out")


def table(part: Ports, outcomes: Counter, sampled: dict[int, list[int]]) -> Iterator[tuple]:
    """The rows of the table: `costs.PORTS.columns`."""
    for bucket in range(round(part.seconds / BUCKET)):
        found = {error: number for (when, error), number in outcomes.items() if when == bucket}
        succeeded = found.pop(None, 0)
        second, tenth = divmod(bucket, round(1 / BUCKET))
        waits = sampled.get(second, ["", ""]) if tenth == 0 else ["", ""]
        yield (part.setting, f"{bucket * BUCKET:.1f}", succeeded, sum(found.values()),
               " ".join(sorted(found)), *waits)


def serve(listener: socket.socket, closer: str) -> None:
    """Serve one connection after the other, until the process ends."""
    while True:
        connection = listener.accept()[0]
        with connection:
            try:
                if connection.recv(1):
                    connection.sendall(b"!")
                    closer == "server" or connection.recv(1)
            except ConnectionResetError:
                pass


def main(closer: str) -> None:
    """Serve on each of `SERVER_PORTS` until ended; print `listening` once they listen."""
    listeners = [socket.create_server(("", port), backlog=128) for port in SERVER_PORTS]
    for listener in listeners:
        threading.Thread(target=serve, args=(listener, closer)).start()
    print("listening", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What TIME_WAIT blocks at a server: the bind() of the next server, unless both servers set SO_REUSEADDR.

`python -m helpers.testbed.experiments.rebind CLOSER REUSE_BEFORE REUSE_AFTER PATIENCE` runs both servers: the first
prints `listening`, serves one connection and ends; the second prints the result of its attempts.
"""

import errno
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from helpers.testbed.experiments.costs import Rebind
from helpers.testbed.hosts import network
from helpers.testbed.running.side_by_side import kernels, time_waits, write_account

PORT = 8001
PERIOD = 0.05
SETTLED_AFTER = 0.2


def record(part: Rebind, folder: Path, say: Callable[[str], None]) -> None:
    """Record one restart: a row with the TIME_WAITs at the server and the seconds until bind() succeeded."""
    network.build()
    command = network.on("server", sys.executable, "-m", "helpers.testbed.experiments.rebind", part.closer,
                         int(part.reuse_before), int(part.reuse_after), part.patience)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as servers:
        servers.stdout.readline()
        with socket.create_connection((network.ADDRESSES["server"], PORT), 5) as connection:
            if part.closer == "server":
                connection.recv(1)
        time.sleep(SETTLED_AFTER)
        waiting = time_waits("server")
        said = json.loads(servers.communicate("go\n")[0])
    row = (part.closer, part.reuse_before, part.reuse_after, waiting, *said)
    write_account(folder, {**asdict(part), **kernels()}, [row])


def main(closer: str, reuse_before: str, reuse_after: str, patience: str) -> None:
    """Run one server after the other; print the `attempts` of the second."""
    with bound(int(reuse_before)) as listener:
        listener.listen()
        print("listening", flush=True)
        connection = listener.accept()[0]
        with connection:
            if closer == "client":
                connection.recv(1)
    sys.stdin.readline()
    print(json.dumps(attempts(int(reuse_after), float(patience))), flush=True)


def bound(reuse: int) -> socket.socket:
    """A socket bound to `PORT`; `OSError` where the kernel refuses it."""
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
        listener.bind(("", PORT))
    except OSError:
        listener.close()
        raise
    return listener


def attempts(reuse: int, patience: float) -> tuple[int, str, float | None]:
    """The number of calls of bind(), the error of the first, and the seconds until one succeeded (None: none did)."""
    begun, error = time.monotonic(), ""
    for number in range(1, round(patience / PERIOD) + 1):
        time.sleep(max(0, begun + (number - 1) * PERIOD - time.monotonic()))
        try:
            bound(reuse).close()
        except OSError as why:
            error = error or errno.errorcode[why.errno]
        else:
            return number, error, round(time.monotonic() - begun, 2)
    return number, error, None


if __name__ == "__main__":
    main(*sys.argv[1:])

"""FIN_WAIT_2 and TIME_WAIT at one server: it closes each connection, and each client closes at a different time."""

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from helpers.testbed.experiments.lifetimes import Timers
from helpers.testbed.hosts import network
from helpers.testbed.running import scenario

SPACING = 0.3
TOO_LATE = 4
REQUEST = b"GET / HTTP/1.1\r\nHost: 10.77.0.2\r\n\r\n"


def record(task: Timers, folder: Path, say: Callable[[str], None]) -> None:
    """Record `task` (a `Timers`) into `folder`."""
    forgotten = task.kernel["server"]["tcp_fin_timeout"] + TOO_LATE
    waits = (*task.answers, *[forgotten] * task.late)

    def scene(timeline):
        with ThreadPoolExecutor(len(waits)) as clients:
            running = [clients.submit(_client, number, wait, timeline) for number, wait in enumerate(waits)]
            for client in running:
                client.result()

    say("started")
    scenario.play(task, folder, scene)


def _client(number, wait, timeline):
    """Ask for the page; when the server has closed, wait `wait` seconds before closing too."""
    time.sleep(SPACING * number)
    with ask() as connection:
        port = connection.getsockname()[1]
        read_to_end(connection)
        timeline.note(f"port {port}: the server has closed")
        time.sleep(wait)
        timeline.note(f"port {port}: the client closes after {wait:g} s")


def ask(port: int = 0) -> socket.socket:
    """A connection to the server, from `port` of the client (0: any), on which the page was asked for."""
    connection = socket.create_connection((network.ADDRESSES["server"], 80), 10, ("", port))
    connection.settimeout(None)
    connection.sendall(REQUEST)
    return connection


def read_to_end(connection: socket.socket) -> bytes:
    """All that comes until the other end closes."""
    return b"".join(iter(lambda: connection.recv(65536), b""))

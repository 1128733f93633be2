"""The programs of the clinic: `python -m helpers.testbed.experiments.clinic_programs serve|ask KIND ARGUMENT…`.

They are written as people write them, with Python's `http.server`, `http.client` and `socket`, and each has one fault
that its kind names. A client prints at its end how often it had which answer or error.
"""

import errno
import http.client
import json
import random
import socket
import struct
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, Full, LifoQueue

from helpers.testbed.experiments.clinic_account import HOST, PORT, PROXY_PORT, SAID, said
from helpers.testbed.experiments.clinic_encrypted import ENCRYPTED
from helpers.testbed.experiments.clinic_servers import SERVERS

GET = b"GET / HTTP/1.1\r\nHost: server\r\n\r\n"


def get(connection: http.client.HTTPConnection) -> None:
    """One request, its answer read to the end."""
    connection.request("GET", "/")
    answer = connection.getresponse()
    answer.read()
    said(answer.status)


def each_anew(times: str) -> None:
    """A connection for each request, closed when the answer was read."""
    for _ in range(int(times)):
        connection = http.client.HTTPConnection(HOST, PORT, timeout=10)
        get(connection)
        connection.close()
        time.sleep(0.02)


def one_kept(times: str) -> None:
    """All requests over one connection."""
    connection = http.client.HTTPConnection(HOST, PORT, timeout=10)
    for _ in range(int(times)):
        get(connection)
    connection.close()


def pool(workers: str, times: str, keeps: str) -> None:
    """So many workers ask so many times each; their pool keeps so many idle connections, others are closed."""
    idle: LifoQueue = LifoQueue(int(keeps))

    def work(_):
        for _ in range(int(times)):
            try:
                connection = idle.get_nowait()
            except Empty:
                connection = http.client.HTTPConnection(HOST, PORT, timeout=10)
            get(connection)
            try:
                idle.put_nowait(connection)
            except Full:
                connection.close()
            time.sleep(random.uniform(0, 0.02))     # what the worker does with the answer

    with ThreadPoolExecutor(int(workers)) as crowd:
        list(crowd.map(work, range(int(workers))))
    while not idle.empty():
        idle.get().close()


def connected(seconds: float = 10) -> socket.socket:
    """A connection to the server, with this timeout."""
    return socket.create_connection((HOST, PORT), seconds)


def answer(connection: socket.socket) -> str:
    """Ask, read the whole answer of 1,000 bytes, and return its status; "closed" where nothing came."""
    connection.sendall(GET)
    read = b""
    while not read.endswith(bytes(1000)):
        more = connection.recv(65536)
        if not more:
            return "closed without an answer"
        read += more
    return read.split()[1].decode()


def ask_again(times: str, earliest: str, latest: str) -> None:
    """So many connections ask, and once more after a pause between these, without looking whether the server closed."""
    def work(_):
        with connected() as connection:
            said(answer(connection))
            time.sleep(random.uniform(float(earliest), float(latest)))
            try:
                said(answer(connection))
            except OSError as why:
                said(f"{type(why).__name__}: {why}")

    with ThreadPoolExecutor(int(times)) as crowd:
        list(crowd.map(work, range(int(times))))


def impatient(times: str, patience: str) -> None:
    """Waits so many seconds for the answer and closes."""
    for _ in range(int(times)):
        connection = http.client.HTTPConnection(HOST, PORT, timeout=float(patience))
        try:
            get(connection)
        except TimeoutError as why:
            said(f"{type(why).__name__}: {why}")
        connection.close()


def unread(times: str) -> None:
    """Reads the head of each answer and closes."""
    for _ in range(int(times)):
        connection = http.client.HTTPConnection(HOST, PORT, timeout=10)
        connection.request("GET", "/")
        said(connection.getresponse().status)
        connection.close()
        time.sleep(0.1)


def linger(times: str) -> None:
    """Sets SO_LINGER to 0, so that close() resets."""
    for _ in range(int(times)):
        with connected() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            said(answer(connection))
            time.sleep(0.1)


def keep(number: str, seconds: str) -> None:
    """Asks over so many connections and keeps them so long, whatever the server does."""
    kept = []
    for _ in range(int(number)):
        kept.append(connected())
        said(answer(kept[-1]))
    time.sleep(float(seconds))
    for connection in kept:
        connection.close()


def attempts(number: str, patience: str) -> None:
    """So many try to connect, all at once, and wait so long."""
    def work(_):
        try:
            with connected(float(patience)):
                said("connected")
                time.sleep(float(patience))
        except OSError as why:
            said(f"{type(why).__name__}: {why}")

    with ThreadPoolExecutor(int(number)) as crowd:
        list(crowd.map(work, range(int(number))))


def slow_reader(seconds: str) -> None:
    """Asks, reads nothing for so long, and then all."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        connection.connect((HOST, PORT))
        connection.sendall(GET)
        time.sleep(float(seconds))
        read = 0
        while read < 200_000:
            read += len(connection.recv(65536))
        said(200)


def ask_after(pause: str, patience: str, probes: str = "") -> None:
    """Asks, pauses, asks again on the same connection and waits so long; in the pause it `probes`, or does nothing."""
    with connected(float(patience)) as connection:
        if probes:
            probing(connection)
        said(answer(connection))
        time.sleep(float(pause))
        try:
            said(answer(connection))
        except OSError as why:
            said(f"{type(why).__name__}: {why}")


def outlive(pause: str, patience: str) -> None:
    """Two connections, each asks once; then one probes in silence (TCP keep-alive), the other asks after a pause."""
    def probe():
        with connected(60) as connection:
            said(answer(connection))
            probing(connection)
            try:
                connection.recv(1)
            except OSError as why:
                said(f"{errno.errorcode[why.errno]}: {why}")

    with ThreadPoolExecutor(2) as crowd:
        for work in (crowd.submit(probe), crowd.submit(ask_after, pause, patience)):
            work.result()


def probing(connection: socket.socket) -> None:
    """Switch TCP's keep-alive on: after a second of silence a probe each second; three without an answer end it."""
    for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 3)):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def steadily(rate: str, seconds: str, keeps: str = "") -> None:
    """So many requests a second for so long; each over a new connection, or all over one where it `keeps` it."""
    connection, begun = http.client.HTTPConnection(HOST, PORT, timeout=10), time.monotonic()
    for number in range(int(rate) * int(seconds)):
        time.sleep(max(0, begun + number / int(rate) - time.monotonic()))
        try:
            get(connection)
        except OSError as why:
            said(f"{errno.errorcode[why.errno]}: {why}")
        if not keeps:
            connection.close()
    connection.close()


def post_again(times: str, earliest: str, latest: str) -> None:
    """Through the proxy on this host: so many threads ask, pause between these, and ask again; half of them with POST.

    A proxy may repeat a GET on another connection by itself (RFC 9110 section 9.2.2), but not a POST.
    """
    def work(number):
        connection = http.client.HTTPConnection("127.0.0.1", PROXY_PORT, timeout=10)
        method = ("GET", "POST")[number % 2]
        for pause in (0, random.uniform(float(earliest), float(latest))):
            time.sleep(pause)
            connection.request(method, "/", body=b"one more" if method == "POST" else None)
            answer = connection.getresponse()
            answer.read()
            said(f"{method} {answer.status}")
        connection.close()

    with ThreadPoolExecutor(int(times)) as crowd:
        list(crowd.map(work, range(int(times))))


CLIENTS: dict[str, Callable] = {
    "each-anew": each_anew, "one-kept": one_kept, "pool": pool, "ask-again": ask_again, "impatient": impatient,
    "unread": unread, "linger": linger, "keep": keep, "try": attempts, "slow-reader": slow_reader,
    "ask-after": ask_after, "steadily": steadily, "post-again": post_again,
    "outlive": outlive, **ENCRYPTED}


if __name__ == "__main__":
    role, kind, *arguments = sys.argv[1:]
    (SERVERS if role == "serve" else CLIENTS)[kind](*arguments)
    if role == "ask":
        print(json.dumps(dict(sorted(SAID.items()))))

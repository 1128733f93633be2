"""close() with unread data, and nginx's lingering close: who resets, and what the client can still read."""

import errno
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from helpers.captures import read_capture
from helpers.connections import connections
from helpers.testbed.experiments.costs import Unread
from helpers.testbed.hosts import network
from helpers.testbed.running.recording import WORKSHOP, Unclean, prepare_workshop
from helpers.testbed.running.side_by_side import kernels, write_account
from helpers.testbed.servers import nginx
from helpers.testbed.witnesses import dumpcap

PORT, BEHIND, BODY, STEP = 80, 8081, 1_000_000, 16_384
HEAD = b"POST /upload HTTP/1.1\r\nHost: server\r\nContent-Length: %d\r\n\r\n" % BODY
SITE = """\
server {{
    listen {port};
    lingering_close {lingering};
    client_max_body_size 0;
    location / {{
        proxy_pass http://127.0.0.1:{behind};
        proxy_http_version 1.1;
        proxy_request_buffering off;
    }}
}}"""
ANSWER = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
SETTLED_AFTER, PATIENCE = 0.3, 5


class Passing(nginx.Nginx):
    """nginx that passes an upload on as it comes; `sites`: its `lingering_close` by port."""

    def _blocks(self, sites):
        return "\n".join(SITE.format(port=port, behind=BEHIND, lingering=each) for port, each in sites.items())


def record(part: Unread, folder: Path, say: Callable[[str], None]) -> None:
    """Record `part.repeats` uploads that the server refuses: a row each, from the packets and from the client."""
    network.build()
    prepare_workshop()
    servers = start_servers(part.server)
    capture = dumpcap.Dumpcap(WORKSHOP / "capture.pcapng", snaplen=128)
    said = [upload() for _ in range(part.repeats)]
    time.sleep(SETTLED_AFTER)
    waiting = {(host, local, peer) for host in network.ADDRESSES
               for local, peer, state in network.sockets(host) if state == "TIME_WAIT"}
    if capture.close()[1]:
        raise Unclean("dumpcap lost frames")
    for server in servers:
        server.terminate()
    write_account(folder, {**asdict(part), "body_bytes": BODY, **kernels()}, list(table(part, said, waiting)))


def start_servers(kind: str) -> list:
    """A raw server that reads all of the upload or nothing of it; or nginx before one, with this `lingering_close`."""
    how = kind.split()[-1]
    if kind.startswith("raw"):
        return [raw_server(PORT, how)]
    behind = raw_server(BEHIND, "early")
    return [Passing(WORKSHOP / "nginx", {PORT: how}), behind]


def raw_server(port: int, how: str) -> subprocess.Popen:
    """The server of this module's `main`, started and listening."""
    command = network.on("server", sys.executable, "-m", "helpers.testbed.experiments.unread", port, how)
    server = subprocess.Popen(command, stdout=subprocess.PIPE)
    if not server.stdout.readline():
        raise OSError("the raw server doesn't start")
    return server


def upload() -> tuple:
    """One upload: the client's port, bytes that it could send, the status that it read, or an error's name."""
    sent, status, error = 0, "", ""
    with socket.create_connection((network.ADDRESSES["server"], PORT), 5) as connection:
        port, data = connection.getsockname()[1], HEAD + bytes(BODY)
        try:
            while sent < len(data):
                sent += connection.send(data[sent:sent + STEP])
                time.sleep(0.002)
        except OSError as why:
            error = errno.errorcode.get(why.errno, "timed out")
        try:
            if answer := connection.recv(65536):
                status = answer.split()[1].decode()
        except OSError as why:
            error = error or errno.errorcode.get(why.errno, "timed out")
    time.sleep(0.05)
    return port, sent, status, error


def table(part: Unread, said: list[tuple], waiting: set) -> Iterator[tuple]:
    """The rows: `costs.UNREAD.columns`."""
    capture = read_capture(WORKSHOP / "capture.pcapng")
    found, segments = connections(capture).reset_index().set_index("client"), capture.segments
    for nth, (port, sent, status, error) in enumerate(said, 1):
        client, server = f"{network.ADDRESSES['client']}:{port}", f"{network.ADDRESSES['server']}:{PORT}"
        row = found.loc[client]
        resets = segments[(segments["stream"] == row["stream"]) & segments["flags"].str.contains("R")]
        reset_by = str(resets["host"].iloc[0]) if len(resets) else ""
        yield (part.server, nth, sent, status, error, row["ending"], reset_by,
               ("client", client, server) in waiting, ("server", server, client) in waiting)


def main(port: str, how: str) -> None:
    """Listen on `port`, say so, and `refuse` each upload, until ended."""
    listener = socket.create_server(("", int(port)), backlog=128)
    print("listening", flush=True)
    while True:
        threading.Thread(target=refuse, args=(listener.accept()[0], how), daemon=True).start()


def refuse(connection: socket.socket, how: str) -> None:
    """Answer that the body is too large, and close: with `all` of it read, or `unread`; `early`: a while later."""
    with connection:
        left = len(HEAD) + BODY if how == "all" else 1
        while left > 0 and (data := connection.recv(min(left, 65536))):
            left -= len(data)
        connection.sendall(ANSWER)
        time.sleep(PATIENCE if how == "early" else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])

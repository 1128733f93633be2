"""Servers that differ only in who closes: `python -m helpers.testbed.servers.python_servers KIND PORT…`, until ended.

Each answers every request with `BODY`; the target names the framing: `/content-length`, `/chunked`,
`/until-close`. One that keeps a connection waits `PATIENCE` seconds for the next request. `KIND`:
`http.server` (Python's own, told to speak HTTP/1.1), `http.server/1.0` (the same as it is by default) or
`raw`, which never closes as long as its patience lasts.
"""

import asyncio
import csv
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from helpers.testbed.experiments.closer_cells import PATIENCE
from helpers.testbed.hosts import network
from helpers.testbed.servers.nginx import REQUEST_COLUMNS

BODY = (b"Who closes first? " * 56)[:1000]
HEADERS = {"content-length": ("Content-Length", str(len(BODY))), "chunked": ("Transfer-Encoding", "chunked"),
           "until-close": ("Connection", "close")}


def framed(framing: str) -> bytes:
    """`BODY` as it goes on the wire."""
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY) if framing == "chunked" else BODY


class Http11(BaseHTTPRequestHandler):
    """http.server's own rules of persistence; its log is nginx's account of requests, on standard output."""

    protocol_version = "HTTP/1.1"
    timeout = PATIENCE
    nth = 0

    def do_GET(self) -> None:
        framing, self.nth = self.path.strip("/"), self.nth + 1
        body = framed(framing)
        self.send_response(200)
        self.send_header(*HEADERS[framing])
        self.end_headers()
        port, sent = self.client_address[1], self.header_bytes + len(body)
        account = f"{time.time():.3f}", port, port, self.nth, self.requestline, 200, sent, len(body)
        print(*account, sep=",", flush=True)
        self.wfile.write(body)

    def flush_headers(self) -> None:
        self.header_bytes = len(b"".join(self._headers_buffer))
        super().flush_headers()

    def log_message(self, *_) -> None:
        pass


class Http10(Http11):
    """http.server as it is by default: a connection for every request."""

    protocol_version = "HTTP/1.0"


class Listener(ThreadingHTTPServer):
    """http.server's server, with room for many clients at once."""

    request_queue_size = 128


async def raw(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request of a connection, agree to keep it; close after the client, or out of patience."""
    try:
        while True:
            request = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            framing = request.split()[1].decode().strip("/")
            headers = [] if framing == "until-close" else [HEADERS[framing]]
            if headers and b"connection: keep-alive" in request.lower():
                headers.append(("Connection", "keep-alive"))
            head = "".join(f"{name}: {value}\r\n" for name, value in headers)
            writer.write(f"HTTP/1.1 200 OK\r\n{head}\r\n".encode() + framed(framing))
    except (asyncio.IncompleteReadError, TimeoutError):
        writer.close()


async def _serve_raw(ports):
    listening = [await asyncio.start_server(raw, port=port, backlog=128) for port in ports]
    await asyncio.gather(*(server.serve_forever() for server in listening))


def main(kind: str, *ports: str) -> None:
    """Be the server `kind` on each of `ports`, until ended."""
    ports = [int(port) for port in ports]
    if kind == "raw":
        asyncio.run(_serve_raw(ports))
    for port in ports:
        listener = Listener(("", port), {"http.server": Http11, "http.server/1.0": Http10}[kind])
        threading.Thread(target=listener.serve_forever).start()


class Server:
    """The server `kind` on `ports` of the host `server`, started at once; its account goes to file `log`."""

    def __init__(self, kind, ports, log):
        self.log = log
        command = network.on("server", sys.executable, "-m", "helpers.testbed.servers.python_servers", kind, *ports)
        with log.open("w") as file:
            self._process = subprocess.Popen(command, stdout=file)
        until = time.monotonic() + 10
        while not {str(port) for port in ports} <= self._listening():
            if self._process.poll() is not None or time.monotonic() > until:
                raise OSError(f"the server {kind} doesn't start")
            time.sleep(0.05)

    def _listening(self):
        lines = network.run("server", "ss", "-Htln").splitlines()
        return {line.split()[3].rsplit(":", 1)[1] for line in lines}

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def requests(self) -> list[dict]:
        """Its own account, as `Nginx.requests` gives it; http.server only."""
        with self.log.open(newline="") as file:
            return list(csv.DictReader(file, REQUEST_COLUMNS))


if __name__ == "__main__":
    main(*sys.argv[1:])

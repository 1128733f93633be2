"""Replays the connection rules of the browser of 2018: `python -m helpers.testbed.clients.replay URL`.

It is no browser. It opens 3 connections at once and at most 6, gives a request to the idle connection that
was used last, else to the oldest unused one, else to a new one; closes one that was never used after 10 s;
probes an idle one after 45 s (TCP keep-alive); and answers a server's FIN at once. It ends when all its
connections have.
"""

import asyncio
import re
import socket
import subprocess
import sys
from urllib.parse import urljoin, urlsplit

import h11

from helpers.testbed.hosts import network

OPENED_AT_ONCE = 3
MOST = 6
UNUSED_LIMIT = 10
PROBE_AFTER = 45


class Connection:
    """One connection to the server: idle, or busy with one request."""

    def __init__(self, reader, writer, on_change):
        self.reader, self.writer, self._on_change = reader, writer, on_change
        self.http, self.last_used, self.idle, self.open = h11.Connection(h11.CLIENT), None, True, True
        self._body = None
        self._read = asyncio.create_task(self._reading())
        self._patience = asyncio.get_running_loop().call_later(UNUSED_LIMIT, self._lose_patience)

    def fetch(self, host: str, target: str) -> asyncio.Future:
        """Send a GET for `target`; the future gives the body."""
        self.idle, self.last_used = False, asyncio.get_running_loop().time()
        self._body, self._content = asyncio.get_running_loop().create_future(), b""
        headers = [("Host", host), ("Connection", "keep-alive")]
        request = h11.Request(method="GET", target=target, headers=headers)
        self.writer.write(self.http.send(request) + self.http.send(h11.EndOfMessage()))
        return self._body

    async def _reading(self):
        while data := await self.reader.read(65536):
            self.http.receive_data(data)
            self._digest()
        self._close()

    def _digest(self):
        while (event := self.http.next_event()) is not h11.NEED_DATA and event is not h11.PAUSED:
            if isinstance(event, h11.Data):
                self._content += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                if self.http.our_state is h11.DONE:
                    self.http.start_next_cycle()
                    self.idle = True
                self._body.set_result(self._content)
                self._on_change()
                return

    def _lose_patience(self):
        if self.last_used is None:
            self._close()

    def _close(self):
        self.open = self.idle = False
        self.writer.close()
        self._on_change()


class Browser:
    """The connections to one host, and the rules by which requests get one."""

    def __init__(self, url):
        parts = urlsplit(url)
        self.host, self.port = parts.hostname, parts.port or 80
        self.connections, self._changed = [], asyncio.Event()

    async def visit(self, target: str = "/") -> None:
        await asyncio.gather(*(self._connect() for _ in range(OPENED_AT_ONCE)))
        page = (await self.fetch(target)).decode()
        images = [urljoin(target, name) for name in re.findall(r'<img src="([^"]+)"', page)]
        await asyncio.gather(*(self.fetch(image) for image in images))
        print("loaded", flush=True)
        while any(connection.open for connection in self.connections):
            await self._change()

    async def fetch(self, target: str) -> bytes:
        return await (await self._idle_connection()).fetch(self.host, target)

    async def _idle_connection(self):
        while True:
            idle = [connection for connection in self.connections if connection.idle]
            used = [connection for connection in idle if connection.last_used is not None]
            if idle:
                chosen = max(used, key=lambda connection: connection.last_used) if used else idle[0]
                chosen.idle = False
                return chosen
            if sum(connection.open for connection in self.connections) < MOST:
                return await self._connect(idle=False)
            await self._change()

    async def _connect(self, idle=True):
        place = len(self.connections)
        self.connections.append(_Opening())
        reader, writer = await asyncio.open_connection(self.host, self.port)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
            sock.setsockopt(socket.IPPROTO_TCP, option, PROBE_AFTER)
        self.connections[place] = connection = Connection(reader, writer, self._changed.set)
        connection.idle = idle
        return connection

    async def _change(self):
        self._changed.clear()
        await self._changed.wait()


class _Opening:
    """Holds the place of a connection that isn't established yet."""

    open, idle, last_used = True, False, None


class Replay:
    """The replay as a client of an experiment: started at its first visit."""

    program, flags = "helpers.testbed.clients.replay", ()

    def __init__(self, folder):
        self._process = None

    def start(self) -> None:
        pass

    def visit(self, url: str) -> None:
        self._process = subprocess.Popen(
            network.on("client", sys.executable, "-m", "helpers.testbed.clients.replay", url),
            stdout=subprocess.PIPE, text=True)
        if self._process.stdout.readline() != "loaded\n":
            raise OSError(f"the replay can't load {url}")

    def close(self) -> None:
        self._process.wait(10)

    def version(self) -> None:
        return None

    def log(self) -> None:
        return None


if __name__ == "__main__":
    asyncio.run(Browser(sys.argv[1]).visit(urlsplit(sys.argv[1]).path or "/"))
